"""The doors of migrations: REST, the admin's pages, the command; and what alerts say of them."""

# ruff: noqa: F401, F811  fixtures come by import

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from jobs.subjects import find_subject
from tests.vendors.shop import shop
from tests.vendors.test_account_limits import ONE, TWO
from tests.vendors.test_migration import (
    _hints_are_not_sent,
    active,
    all_of,
    items,
    move_of,
    olga,
    run_all,
    stands,
    two,
)
from tests.vendors.test_pool import new_account
from vendors import pool
from vendors.alerts import open_alerts
from vendors.migration import start_migration
from vendors.migration_undo import undo_migration
from vendors.models import AccountMigration, CartItem, Vendor, VendorAccount

pytestmark = pytest.mark.django_db(transaction=True)

UNKNOWN = "0198c0de-7a11-7000-8000-000000000404"


def path(account: VendorAccount) -> str:
    return f"/api/admin/accounts/{account.pk}/migrate"


# --- REST -----------------------------------------------------------------------------------------


def test_migration_of_the_document_is_begun(admin_api, items, account, two):
    answer = admin_api.post(path(account), {"new_account_id": str(two.pk)}, format="json")

    begun = AccountMigration.objects.get()
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "migrated_items": 2,
        "migration_id": str(begun.pk),
    }
    assert (begun.old_account, begun.new_account, begun.started_by) == (account, two, "operations")
    again = admin_api.post(path(account), {"new_account_id": str(two.pk)}, format="json")
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (answer.json(), "true")


def test_replacement_that_is_not_named_is_chosen(admin_api, items, account, two):
    assert admin_api.post(path(account)).json()["migrated_items"] == 2
    assert AccountMigration.objects.get().new_account == two


def test_how_far_it_is_and_taking_it_back(admin_api, items, account, two, shop):
    begun = admin_api.post(path(account)).json()["migration_id"]
    run_all()

    told = admin_api.get(f"/api/admin/migrations/{begun}").json()

    assert (told["moved"], told["pending"], told["failed"]) == (2, 0, 0)
    assert [move["queue_id"] for move in told["moves"]] == [str(item.pk) for item in items]
    assert {move["status"] for move in told["moves"]} == {"moved"}

    undone = admin_api.post(f"/api/admin/migrations/{begun}/undo").json()

    assert (undone["restored"], undone["in_new_cart"]) == (2, ["1 × Pen", "1 × Pen"])
    assert active() == all_of(items, ONE)
    assert admin_api.get(f"/api/admin/migrations/{begun}").json()["undone_by"] == "operations"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"new_account_id": UNKNOWN}, "INVALID_REQUEST"),
        ({"new_acount_id": UNKNOWN}, "INVALID_REQUEST"),
        ({"new_account_id": "itself"}, "FOREIGN_ACCOUNT"),
    ],
)
def test_request_that_makes_no_sense_begins_nothing(
    admin_api, items, account, two, nothing_happens, body, code
):
    if body.get("new_account_id") == "itself":
        body = {"new_account_id": str(account.pk)}
    with nothing_happens():
        answer = admin_api.post(path(account), body, format="json")

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not AccountMigration.objects.exists()


def test_account_that_is_not_blocked_is_a_conflict(admin_api, items, account, two, nothing_happens):
    pool.unblock(VendorAccount.objects.all())
    with nothing_happens():
        answer = admin_api.post(path(account))

    assert (answer.status_code, answer.json()["code"]) == (409, "ACCOUNT_NOT_BLOCKED")


def test_only_admins_may_migrate(erpnext, items, account, two, olga, nothing_happens):
    begun = start_migration(account.pk, two.pk, by=olga)
    with nothing_happens():
        answers = [
            erpnext.post(path(account)),
            erpnext.get(f"/api/admin/migrations/{begun.pk}"),
            erpnext.post(f"/api/admin/migrations/{begun.pk}/undo"),
        ]

    assert [answer.status_code for answer in answers] == [403] * 3
    assert stands(begun) == {"pending": 2}


def test_cart_items_of_a_user_are_told_once_though_they_were_moved(
    admin_api, items, account, two, shop, olga
):
    start_migration(account.pk, two.pk, by=olga)
    run_all()

    told = admin_api.get("/api/cart/user/system").json()

    assert told["total"] == 2
    assert {item["vendor_account_id"] for item in told["items"]} == {str(two.pk)}


def test_switch_is_part_of_the_vendors_data(admin_api, vendor):
    data = {"name": "Vendor Co", "domain": "vendor.example", "migrate_on_block": True}

    answer = admin_api.put(f"/api/admin/vendors/{vendor.pk}", data, format="json")

    assert answer.json()["migrate_on_block"] is True
    assert Vendor.objects.get().migrate_on_block
    assert vendor.versions.first().data["migrate_on_block"] is True


def test_account_whose_cart_was_ordered_has_nothing_left_to_move(
    admin_api, admin_client, items, account, two, olga
):
    ordered = f"/api/admin/accounts/{account.pk}/ordered"

    assert admin_api.post(ordered).json() == {"success": True, "marked": 2, "moving": 0}
    assert admin_api.post(ordered).json() == {"success": True, "marked": 0, "moving": 0}

    answer = admin_api.post(path(account))
    assert (answer.status_code, answer.json()["code"]) == (409, "NOTHING_TO_MIGRATE")
    assert {gone is None for gone in CartItem.objects.values_list("gone_at", flat=True)} == {False}


def test_only_admins_may_say_that_a_cart_was_ordered(erpnext, items, account, nothing_happens):
    with nothing_happens():
        assert erpnext.post(f"/api/admin/accounts/{account.pk}/ordered").status_code == 403

    assert CartItem.objects.in_cart().count() == 2


# --- Pages ----------------------------------------------------------------------------------------


def choose(client, model, action, row, **more):
    body = {"action": action, "_selected_action": [str(row.pk)], **more}
    answer = client.post(reverse(f"admin:vendors_{model}_changelist"), body, follow=True)
    return " ".join(answer.content.decode().split())


def test_page_counts_first_for_each_replacement_and_begins_then(
    admin_client, vendor, items, account, two, shop, olga
):
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()
    undo_migration(begun.pk, by=olga)
    new_account(vendor, "three")

    page = choose(admin_client, "vendoraccount", "migrate", account)

    assert f"2 lines in the cart of {ONE} at Vendor Co" in page
    assert page.index("three@vendor.example: 2 would be moved.") < page.index(
        f"{TWO}: 0 would be moved; 2 may be in this replacement&#x27;s cart already"
    )
    assert AccountMigration.objects.count() == 1

    three = VendorAccount.objects.get(email="three@vendor.example")
    page = choose(admin_client, "vendoraccount", "migrate", account, new_account=str(three.pk))

    assert "2 lines are being moved to three@vendor.example." in page
    assert AccountMigration.objects.first().started_by == "admin"
    assert "2 pending" in page


def test_page_of_an_account_leads_to_what_stands_in_its_cart(admin_client, items, account):
    page = admin_client.get(reverse("admin:vendors_vendoraccount_change", args=[account.pk]))
    listed = f"?vendor_account__id__exact={account.pk}&amp;state=in_cart"
    assert listed in page.content.decode()

    lines = admin_client.get(
        reverse("admin:vendors_cartitem_changelist"),
        {"vendor_account__id__exact": account.pk, "state": "in_cart"},
    )
    assert lines.context["cl"].result_count == 2


def test_page_says_why_nothing_can_be_moved(admin_client, items, account, two):
    pool.unblock(VendorAccount.objects.all())

    page = choose(admin_client, "vendoraccount", "migrate", account)

    assert "is not blocked, so its cart is in use" in page
    assert not AccountMigration.objects.exists()


def test_migration_is_undone_on_its_page_after_a_question(
    admin_client, items, account, two, shop, olga
):
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()

    page = choose(admin_client, "accountmigration", "undo", begun)

    assert f"2 moved: they count as {ONE}'s again" in page
    assert active() == all_of(items, TWO)

    page = choose(admin_client, "accountmigration", "undo", begun, confirmed="yes")

    assert f"2 lines are {ONE}&#x27;s again" in page
    assert f"In the cart of {TWO} stand: 1 × Pen; 1 × Pen." in page
    assert active() == all_of(items, ONE)


def test_page_of_a_migration_shows_where_each_line_stands(
    admin_client, items, account, two, shop, olga
):
    begun = start_migration(account.pk, two.pk, by=olga)
    page = admin_client.get(reverse("admin:vendors_accountmigration_change", args=[begun.pk]))

    assert "2 pending" in page.content.decode()
    assert move_of(items[0]).job.get_absolute_url() in page.content.decode()


def test_job_of_a_move_says_from_where_to_where(items, account, two, olga):
    start_migration(account.pk, two.pk, by=olga)
    job = move_of(items[0]).job

    facts = {fact["label"]: fact["text"] for fact in find_subject("cart_move", job.pk)["facts"]}

    assert (facts["From"], facts["To"], facts["Vendor"]) == (ONE, TWO, "Vendor Co")


def test_lines_are_marked_as_gone_from_their_list(admin_client, items):
    line = CartItem.objects.get(item_id=items[0].pk)

    page = choose(admin_client, "cartitem", "mark_gone", line)

    assert "Lines marked as gone: 1." in page
    line.refresh_from_db()
    assert line.gone_at is not None
    listed = admin_client.get(reverse("admin:vendors_cartitem_changelist"), {"state": "gone"})
    assert listed.context["cl"].result_count == 1


def test_carts_are_marked_as_ordered_from_the_list_of_accounts(
    admin_client, items, account, two, olga
):
    begun = start_migration(account.pk, two.pk, by=olga)
    assert "2 are being moved" in choose(admin_client, "vendoraccount", "mark_ordered", account)
    undo_migration(begun.pk, by=olga)

    page = choose(admin_client, "vendoraccount", "mark_ordered", account)

    assert "Lines marked as gone: 2." in page
    assert not CartItem.objects.in_cart().exists()


def test_who_unblocks_an_account_is_told_what_stands_in_its_cart(
    admin_client, items, account, two, shop, olga
):
    start_migration(account.pk, two.pk, by=olga)
    run_all()
    out = StringIO()
    call_command("accounts_unblock", ONE, "--dry-run", stdout=out)

    page = choose(admin_client, "vendoraccount", "unblock", account)

    warning = f"In the cart of {ONE} may stand what was moved to other accounts (2)"
    assert warning in page
    assert warning in out.getvalue()


# --- The command ----------------------------------------------------------------------------------


def migrate(*args, **options) -> str:
    out, err = StringIO(), StringIO()
    try:
        call_command("accounts_migrate", *args, stdout=out, stderr=err, **options)
    except CommandError as error:
        return f"{out.getvalue()}{err.getvalue()}{error}"
    return out.getvalue()


def test_command_says_first_and_does_then(items, account, two, shop, nothing_happens):
    with nothing_happens():
        said = migrate(ONE, dry_run=True)
    assert said == f"2 lines of {ONE} would be moved to {TWO}.\n"

    assert f"2 lines of {ONE} are being moved to {TWO}: migration " in migrate(ONE, to=TWO)
    run_all()
    begun = AccountMigration.objects.get()
    assert begun.started_by == "accounts_migrate"
    assert not begun.is_automatic

    with nothing_happens():
        assert "At most 2 lines" in migrate(undo=str(begun.pk), dry_run=True)
    assert f"2 lines are {ONE}'s again" in migrate(undo=str(begun.pk))
    assert active() == all_of(items, ONE)


def test_command_leaves_what_cannot_be_moved_and_says_so(items, account, nothing_happens):
    with nothing_happens():
        said = migrate("--all")

    assert "No account of Vendor Co can take the place of one@vendor.example" in said
    assert said.endswith("1 accounts were left as they are.")


def test_command_refuses_a_replacement_or_migration_that_is_not_there(items, account):
    assert "has no account with the e-mail nobody@vendor.example" in migrate(
        ONE, to="nobody@vendor.example"
    )
    assert migrate(undo=UNKNOWN) == f"No migration has the id {UNKNOWN}."


# --- Alerts ---------------------------------------------------------------------------------------


def test_alert_of_a_block_says_what_stands_in_the_cart(items):
    (alert,) = open_alerts()

    assert alert.message.endswith(
        "Or move what stands in its cart (2) to another account, on the accounts' page."
    )


def test_alert_of_a_block_says_that_it_is_moved_by_itself(vendor, items, account):
    Vendor.objects.update(migrate_on_block=True)
    pool.unblock(VendorAccount.objects.all())
    open_alerts().update(closed_at="2026-01-01T00:00Z")

    pool.set_aside(VendorAccount.objects.get(), "Suspended.")

    (alert,) = open_alerts()
    assert alert.message.endswith(
        "What stands in its cart (2) is moved to another account by itself."
    )
