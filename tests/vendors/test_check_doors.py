"""Who may ask for checks, what is refused, and which account a check holds. No browser."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from jobs.models import Job, Status, Step
from tests.jobs.rivals import elsewhere
from tests.vendors.test_pool import new_account, new_job
from vendors import cart_queue, check, pool
from vendors.errors import NoAccountFree, NoUsableAccount
from vendors.models import Vendor, VendorAccount

PRODUCT = "https://vendor.example/product/1"


def address(vendor) -> str:
    return f"/api/admin/vendors/{vendor.pk}/check"


def test_check_is_a_job_whose_result_is_read_at_the_same_address(admin_api, vendor, account):
    body = {"product_url": PRODUCT, "variant": {"Size": "L"}, "account_id": str(account.pk)}

    answer = admin_api.post(address(vendor), body, format="json")

    assert answer.status_code == 201
    job = Job.objects.get(pk=answer.json()["job_id"])
    assert (job.workflow, job.params) == (
        "vendor_check",
        {
            "vendor": str(vendor.pk),
            "account": str(account.pk),
            "product_url": PRODUCT,
            "variant": {"Size": "L"},
        },
    )
    assert job.created_by.username == "operations"
    assert admin_api.get(address(vendor)).json() == answer.json()
    Step.objects.filter(job=job).update(output={"passed": True, "failed_keys": []})
    assert admin_api.get(address(vendor)).json()["result"] == {"passed": True, "failed_keys": []}


def test_newest_check_of_this_vendor_is_the_one_that_is_told(admin_api, vendor, account):
    other = Vendor.objects.create(name="Other", domain="other.example", login_required=False)
    first = check.submit_vendor_check(vendor)
    second = check.submit_vendor_check(vendor)
    check.submit_vendor_check(other)

    assert admin_api.get(address(vendor)).json()["job_id"] == str(second.pk) != str(first.pk)


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ({"product_url": "https://other.example/p"}, "FOREIGN_PRODUCT_URL", "is not at Vendor Co"),
        ({"produkt_url": PRODUCT}, "INVALID_REQUEST", "Did you mean product_url?"),
        ({"product_url": "nonsense"}, "INVALID_REQUEST", "valid URL"),
        ({"account_id": "0198c0de-7a11-7000-8000-000000000404"}, "INVALID_REQUEST", "account_id"),
    ],
)
def test_request_that_makes_no_sense_starts_nothing(
    admin_api, vendor, account, nothing_happens, body, code, sentence
):
    with nothing_happens():
        answer = admin_api.post(address(vendor), body, format="json")

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert sentence in answer.json()["error"]


def test_account_of_another_vendor_is_refused(admin_api, vendor, account, nothing_happens):
    other = Vendor.objects.create(name="Other", domain="other.example")
    with nothing_happens():
        answer = admin_api.post(address(other), {"account_id": str(account.pk)}, format="json")

    assert answer.json()["code"] == "FOREIGN_ACCOUNT"


def test_vendor_without_an_account_cannot_be_checked(admin_api, vendor, nothing_happens):
    with nothing_happens():
        answer = admin_api.post(address(vendor))

    assert (answer.status_code, answer.json()["code"]) == (400, "NO_ACCOUNT")


def test_test_of_an_account_is_a_job(admin_api, account):
    path = f"/api/admin/accounts/{account.pk}/test"
    assert admin_api.get(path).json()["code"] == "NOT_FOUND"

    answer = admin_api.post(path)

    assert answer.status_code == 201
    job = Job.objects.get(pk=answer.json()["job_id"])
    assert (job.workflow, job.title) == (
        "account_test",
        "Log in as one@vendor.example at Vendor Co",
    )
    assert admin_api.get(path).json() == answer.json()


@pytest.mark.parametrize("what", ["vendors", "accounts"])
def test_only_admins_may_ask(erpnext, vendor, account, nothing_happens, what):
    path = {"vendors": address(vendor), "accounts": f"/api/admin/accounts/{account.pk}/test"}[what]
    with nothing_happens():
        answers = [erpnext.post(path), erpnext.get(path)]

    assert [answer.status_code for answer in answers] == [403, 403]


# ---- the admin's lists ---------------------------------------------------------------------------


def choose(client, page, action, *rows):
    body = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    path = reverse(f"admin:vendors_{page}_changelist")
    return client.post(path, body, follow=True).content.decode()


def test_vendor_is_checked_from_its_list_with_the_product_asked_for_last(
    admin_client, vendor, account
):
    cart_queue.enqueue(cart_queue.CartRequest(vendor=vendor, product_url=PRODUCT))

    page = choose(admin_client, "vendor", "check_data", vendor)

    job = Job.objects.get(workflow="vendor_check")
    assert (job.params["product_url"], job.created_by.username) == (PRODUCT, "admin")
    assert job.get_absolute_url() in page


def test_vendor_without_an_account_is_not_checked_from_its_list(admin_client, vendor):
    assert "has no account to try" in choose(admin_client, "vendor", "check_data", vendor)
    assert not Job.objects.exists()


def test_log_in_is_tested_from_the_list_of_accounts(admin_client, account):
    page = choose(admin_client, "vendoraccount", "test_log_in", account)

    assert Job.objects.get(workflow="account_test").get_absolute_url() in page


# ---- holding an account --------------------------------------------------------------------------


def test_least_recently_used_account_that_is_free_and_not_blocked_is_held(vendor):
    new_account(vendor, "blocked", is_blocked=True)
    busy = new_account(vendor, "busy")
    VendorAccount.objects.filter(pk=busy.pk).update(held_by=new_job())
    free = new_account(vendor, "free")
    job = new_job()

    assert check.hold_account(vendor, job.pk, None) == free
    assert check.hold_account(vendor, job.pk, None) == free
    with pytest.raises(NoAccountFree, match="Every account of Vendor Co is busy"):
        check.hold_account(vendor, new_job().pk, None)


def test_account_that_is_named_is_held_though_it_is_blocked(vendor):
    blocked = new_account(vendor, "blocked", is_blocked=True)

    assert check.hold_account(vendor, new_job().pk, str(blocked.pk)) == blocked


def test_blocked_accounts_alone_are_no_account(vendor):
    new_account(vendor, "blocked", is_blocked=True)

    with pytest.raises(NoUsableAccount, match="no account that is not blocked"):
        check.hold_account(vendor, new_job().pk, None)


@pytest.mark.django_db(transaction=True)
def test_account_is_held_by_one_of_two_checks_and_an_add_at_once(vendor, account):
    def try_to(hold):
        job = new_job()
        try:
            return hold(job)
        except NoAccountFree:
            return None

    held = elsewhere(
        lambda: try_to(lambda job: check.hold_account(vendor, job.pk, None)),
        lambda: try_to(lambda job: check.hold_account(vendor, job.pk, str(account.pk))),
        lambda: try_to(lambda job: pool.reserve_account(vendor, job.pk)),
    )

    assert [each for each in held if each] == [account]


# ---- accounts_unblock ----------------------------------------------------------------------------


def unblock(*arguments: str) -> str:
    out = StringIO()
    call_command("accounts_unblock", *arguments, stdout=out)
    return out.getvalue()


def test_accounts_that_are_named_are_unblocked_and_no_others(vendor):
    one, two = new_account(vendor, "one"), new_account(vendor, "two")
    for account in (one, two):
        pool.set_aside(account, "Refused.")

    said = unblock(one.email)

    assert said == "one@vendor.example at Vendor Co: Refused.\n1 accounts unblocked.\n"
    blocked = VendorAccount.objects.filter(is_blocked=True)
    assert [account.email for account in blocked] == [two.email]


def test_dry_run_unblocks_nobody(vendor, account):
    pool.set_aside(account, "Refused.")

    assert "1 accounts to unblock." in unblock("--vendor", vendor.domain, "--dry-run")
    assert VendorAccount.objects.get().is_blocked


def test_nobody_is_unblocked_unasked(account):
    pool.set_aside(account, "Refused.")

    with pytest.raises(CommandError, match="Name accounts by their e-mails"):
        unblock()
    with pytest.raises(CommandError, match=r"No account has the e-mail x@y\.example"):
        unblock("x@y.example")
    assert VendorAccount.objects.get().is_blocked


def test_vendors_check_of_an_unknown_vendor_says_which_there_are(vendor, nothing_happens):
    with nothing_happens(), pytest.raises(CommandError, match=r"There is: vendor\.example"):
        call_command("vendors_check", "nobody.example")


def test_no_wait_only_asks(vendor, account):
    out = StringIO()

    call_command("vendors_check", "vendor.example", "--no-wait", stdout=out)

    job = Job.objects.get(workflow="vendor_check")
    assert out.getvalue() == f"{job.pk}  {job.get_absolute_url()}\n"
    assert job.status == Status.PENDING
