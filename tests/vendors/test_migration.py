"""Migration of what stands in a blocked account's cart: begun, carried out by jobs, taken back. Of
each item one line is active, whatever happens and whenever."""

# ruff: noqa: F401, F811  fixtures come by import

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.query import QuerySet
from django.utils import timezone

from accounts.models import User
from automation.errors import AccountBlocked, CartUnclear, OutOfStock
from automation.shop import CartLine
from jobs import effects, flow, live, steps
from jobs.control import rerun_job
from jobs.errors import NotPossible
from jobs.models import Effect, Job, Step
from jobs.runner import runner
from jobs.why import why_of_job
from tests.audited import acts, entries, facts
from tests.jobs.rivals import elsewhere, just_before
from tests.vendors.shop import Shop, fail_once, shop, site_error
from tests.vendors.test_account_limits import ONE, TWO, enqueue, key, state
from tests.vendors.test_pool import new_account, new_job
from vendors import cart_queue, migration, migration_sweep, migration_workflow, pool, queue_archive
from vendors.alerts import open_alerts
from vendors.cart_lines import mark_gone
from vendors.errors import MigrationRefused
from vendors.migration import start_migration
from vendors.migration_plan import plan_migration
from vendors.migration_undo import undo_migration
from vendors.models import (
    AccountMigration,
    AccountUsage,
    Alert,
    ArchivedQueueItem,
    CartItem,
    CartMove,
    QueueItem,
    Vendor,
    VendorAccount,
    vendors_today,
)
from vendors.models.cart import KEEP_ONE_ACTIVE

pytestmark = pytest.mark.django_db(transaction=True)

THREE = "three@vendor.example"


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that must hold depends on one."""
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


@pytest.fixture
def olga(db) -> User:
    return User.objects.create_user("olga", is_staff=True)


@pytest.fixture
def items(vendor, account, shop) -> list[QueueItem]:
    """Two items in the cart of the first account, which is blocked by now."""
    items = [enqueue(vendor), enqueue(vendor)]
    run_all()
    assert [state(item) for item in items] == ["completed", "completed"]
    pool.set_aside(account, "Suspended.")
    account.refresh_from_db()
    return items


@pytest.fixture
def two(vendor, items) -> VendorAccount:
    return new_account(vendor, "two")


def run_all() -> None:
    runner.run_ready_steps(["steps"])


def active() -> list[tuple[Any, str]]:
    """The active lines: each item's, and whose cart it stands in."""
    lines = CartItem.objects.active().order_by("item_id")
    return list(lines.values_list("item_id", "vendor_account__email"))


def all_of(items, email: str) -> list[tuple[Any, str]]:
    return [(item.pk, email) for item in items]


def stands(begun: AccountMigration) -> Counter[str]:
    return Counter(begun.moves.values_list("status", flat=True))


def move_of(item, begun: AccountMigration | None = None) -> CartMove:
    moves = CartMove.objects.filter(line__item_id=item.pk)
    return moves.get(migration=begun) if begun else moves.get()


# --- Carried out ---------------------------------------------------------------------------------


def test_lines_are_the_new_accounts_once_its_cart_shows_them(items, account, two, shop, olga):
    begun = start_migration(account.pk, two.pk, by=olga)

    assert active() == all_of(items, ONE)
    assert [each["queue_id"] for each in begun.migrated_items] == [str(item.pk) for item in items]
    assert (begun.old_account, begun.new_account) == (account, two)
    assert stands(begun) == {"pending": 2}

    run_all()

    assert active() == all_of(items, TWO)
    assert stands(begun) == {"moved": 2}
    assert shop.carts == {ONE: 2, TWO: 2}
    assert [QueueItem.objects.get(pk=item.pk).assigned_account for item in items] == [two, two]
    assert AccountUsage.objects.get(account=two).items_added == 2
    assert VendorAccount.objects.filter(held_by=None).count() == 2
    assert acts(account)[-1] == "migrated"
    assert facts(entries(account)[-1]) == {"to": TWO, "lines": 2, "migration": str(begun.pk)}


def test_migration_tells_its_begin_and_its_end(items, account, two, shop, olga):
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()

    events = begun.job.events.order_by("number")
    assert [event.kind for event in events] == ["migration.started", "migration.finished"]
    assert [event.message for event in events] == [
        f"2 lines of {ONE} at Vendor Co move to {TWO}.",
        f"2 lines of {ONE} are {TWO}'s now.",
    ]
    begun.job.refresh_from_db()
    told = begun.job.result
    assert (told["migrated_items"], told["moved"], told["pending"]) == (2, 2, 0)
    assert (told["started_by"], told["is_automatic"]) == ("olga", False)


def test_what_was_asked_for_is_asked_for_again(vendor, account, shop, olga, monkeypatch):
    asked = []
    real = shop.add_to_cart

    async def add_to_cart(session, site, credentials, request, **options):
        asked.append((credentials.email, request))
        return await real(session, site, credentials, request, **options)

    monkeypatch.setattr(migration_workflow.workflows.flow, "add_to_cart", add_to_cart)
    cart_queue.enqueue(
        cart_queue.CartRequest(
            vendor,
            "https://vendor.example/product/1",
            "Pen",
            {"quantity": 3, "variant": {"Colour": "Black"}},
        )
    )
    run_all()
    pool.set_aside(account, "Suspended.")
    start_migration(account.pk, new_account(vendor, "two").pk, by=olga)
    run_all()

    (one, first), (two, second) = asked
    assert (one, two) == (ONE, TWO)
    assert first == second
    assert CartItem.objects.active().get().quantity == 3


def test_item_in_the_archive_is_moved_with_what_was_chosen(vendor, items, account, two, shop, olga):
    first = items[0]
    QueueItem.objects.filter(pk=first.pk).update(product_data={"variant": "Black"})
    archive(first)

    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()

    assert active() == all_of(items, TWO)
    assert move_of(first).variant == "Black"
    assert move_of(first).new_line.queue_item is None
    assert stands(begun) == {"moved": 2}


def archive(item: QueueItem) -> None:
    long_ago = timezone.now() - timedelta(days=60)
    QueueItem.objects.filter(pk=item.pk).update(job=None, updated_at=long_ago)
    assert queue_archive.archive_batch(timedelta(days=30)) == 1
    assert not QueueItem.objects.filter(pk=item.pk).exists()


def test_line_of_which_nobody_knows_what_was_chosen_is_left(items, account, two, shop, olga):
    archive(items[0])
    ArchivedQueueItem.objects.all().delete()

    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()

    assert begun.moves.count() == 1
    assert active() == [(items[0].pk, ONE), (items[1].pk, TWO)]


def test_item_that_runs_again_keeps_its_line_in_the_new_account(items, account, two, shop, olga):
    start_migration(account.pk, two.pk, by=olga)
    run_all()

    for step in ("reserve_account", "add_to_cart"):
        rerun_job(items[0].job_id, step, by="alice")
        run_all()

    assert active() == all_of(items, TWO)
    assert state(items[0]) == "completed"
    assert items[0].assigned_account == two
    assert shop.carts == {ONE: 2, TWO: 2}


def test_move_that_runs_again_adds_nothing(items, account, two, shop, olga):
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()

    rerun_job(move_of(items[0]).job_id, "add_to_cart", by="alice")
    run_all()

    assert (active(), shop.carts[TWO]) == (all_of(items, TWO), 2)
    assert stands(begun) == {"moved": 2}
    assert AccountUsage.objects.get(account=two).items_added == 2


def test_move_waits_for_its_account_and_goes_on_when_that_is_free(items, account, two, shop, olga):
    rival = new_job()
    pool.reserve_account(two.vendor, rival.pk, only=two.pk)
    begun = start_migration(account.pk, two.pk, by=olga)

    run_all()

    job = move_of(items[0]).job
    (why,) = why_of_job(job, visible=Job.objects.all())
    assert why["sentence"] == (
        f"The item moves to the cart of {TWO}, and no other. The account {TWO} is busy."
    )
    assert stands(begun) == {"pending": 2}
    Job.objects.filter(pk=rival.pk).update(status="failed")
    pool.release_account(rival.pk)
    pool.wake_waiting(two.vendor_id)
    run_all()
    assert stands(begun) == {"moved": 2}


def test_moves_start_by_the_limits_of_their_account(items, account, two, shop, olga):
    flow.set_limit(key(two), rate=1, period_seconds=3600, by="olga")

    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()

    assert stands(begun) == {"moved": 1, "pending": 1}
    assert shop.carts[TWO] == 1


# --- One active line, always ---------------------------------------------------------------------


def test_database_refuses_a_second_active_line_of_an_item(items, two):
    line = CartItem.objects.get(item_id=items[0].pk)
    with pytest.raises(IntegrityError, match="cart_line_active"):
        CartItem.objects.create(
            vendor_account=two, item_id=line.item_id, product_url=line.product_url
        )


def test_database_refuses_an_item_without_an_active_line(items):
    with pytest.raises(IntegrityError, match="no active cart line any more"):
        CartItem.objects.filter(item_id=items[0].pk).update(replaced_at=timezone.now())

    assert active() == all_of(items, ONE)


def test_without_the_trigger_an_item_would_be_in_no_cart(items):
    name = KEEP_ONE_ACTIVE.get_pgid(CartItem)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE user_cart_items DISABLE TRIGGER {name}")
        CartItem.objects.filter(item_id=items[0].pk).update(replaced_at=timezone.now())
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        assert active() == all_of(items[1:], ONE)
        transaction.set_rollback(True)


@pytest.mark.parametrize("moment", [(CartItem.objects, "create"), (pool, "count_use")])
def test_who_looks_while_a_line_is_replaced_sees_one(
    moment, items, account, two, shop, olga, monkeypatch
):
    seen = []
    just_before(monkeypatch, *moment, lambda: seen.append(active()))

    start_migration(account.pk, two.pk, by=olga)
    run_all()

    assert seen == [all_of(items, ONE)]
    assert active() == all_of(items, TWO)


def test_two_who_ask_at_once_move_each_line_once(items, account, two, shop, olga):
    begun = elsewhere(*[lambda: start_migration(account.pk, two.pk, by=olga)] * 3)

    assert len({each.pk for each in begun}) == 1
    assert sorted(each.is_replay for each in begun) == [False, True, True]
    assert Job.objects.filter(workflow="cart_move").count() == 2


def test_without_the_lines_locks_the_second_would_be_stopped_by_the_constraint_alone(
    vendor, items, account, two, shop, olga, monkeypatch
):
    three = new_account(vendor, "three")
    real = migration._begin

    def begin(plan, by):
        monkeypatch.setattr(migration, "_begin", real)
        elsewhere(lambda: start_migration(account.pk, three.pk, by=olga))
        return real(plan, by)

    monkeypatch.setattr(migration, "_begin", begin)
    monkeypatch.setattr(QuerySet, "select_for_update", lambda self, **_: self)

    with pytest.raises(IntegrityError, match="cart_move_pending_once"):
        start_migration(account.pk, two.pk, by=olga)

    assert AccountMigration.objects.get().new_account == three
    assert Job.objects.filter(workflow="cart_move").count() == 2


def test_migration_whose_jobs_cannot_be_made_leaves_nothing(
    items, account, two, olga, monkeypatch, nothing_happens
):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no job today")

    monkeypatch.setattr(migration, "record_job", fail)

    with nothing_happens(), pytest.raises(RuntimeError):
        start_migration(account.pk, two.pk, by=olga)

    assert not AccountMigration.objects.exists()
    assert not CartMove.objects.exists()


# --- What fails ----------------------------------------------------------------------------------


def test_item_that_cannot_be_added_stays_the_old_accounts_and_goes_to_a_person(
    items, account, two, shop, olga
):
    shop.before_press = fail_once(OutOfStock("Sold out."))

    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()

    failed, moved = move_of(items[0]), move_of(items[1])
    assert (failed.status, failed.error_code, failed.error_message) == (
        "failed",
        "out_of_stock",
        "Sold out.",
    )
    assert (moved.status, failed.job.status) == ("moved", "manual")
    assert active() == [(items[0].pk, ONE), (items[1].pk, TWO)]
    assert begun.job.events.get(number=2).message.endswith(
        "; 1 could not be moved, a person looks at them."
    )

    rerun_job(failed.job_id, by="alice")
    run_all()

    assert active() == all_of(items, TWO)
    assert stands(begun) == {"moved": 2}


def test_last_attempt_that_fails_hands_it_to_a_person(items, account, two, shop, olga):
    def fail(email: str) -> None:
        raise site_error()

    shop.before_press = fail
    start_migration(account.pk, two.pk, by=olga)

    for _ in range(3):
        run_all()
        Step.objects.filter(status="waiting").update(status="ready", due_at=None)

    move = move_of(items[0])
    assert (move.status, move.error_code) == ("failed", "site_error")
    assert (move.job.status, move.job.steps.get().attempt) == ("manual", 3)
    assert active() == all_of(items, ONE)


def test_new_account_that_is_blocked_as_well_is_followed_by_another(
    vendor, items, account, two, shop, olga
):
    shop.before_press = fail_once(AccountBlocked("Suspended."))
    first = start_migration(account.pk, two.pk, by=olga)
    run_all()
    Step.objects.filter(status="waiting").update(status="ready", due_at=None)
    run_all()
    assert stands(first) == {"failed": 2}
    assert {move.error_code for move in first.moves.all()} == {"replacement_blocked"}

    second = start_migration(account.pk, new_account(vendor, "three").pk, by=olga)
    with pytest.raises(NotPossible, match="another migration"):
        rerun_job(move_of(items[0], first).job_id, by="alice")
    run_all()

    assert active() == all_of(items, THREE)
    assert stands(second) == {"moved": 2}
    with pytest.raises(NotPossible, match="another migration"):
        rerun_job(move_of(items[0], first).job_id, by="alice")


def test_item_that_may_have_arrived_is_moved_nowhere_else_until_a_person_has_looked(
    vendor, items, account, two, shop, olga
):
    shop.after_press = fail_once(CartUnclear("The pens may be ours or not."))
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()
    unclear = move_of(items[0])
    assert (unclear.status, unclear.error_code) == ("failed", "unknown_outcome")

    three = new_account(vendor, "three")
    with pytest.raises(MigrationRefused, match="1 may be in another account's cart"):
        start_migration(account.pk, three.pk, by=olga)

    effects.decide(Effect.objects.get(job=unclear.job).pk, happened=True, by=olga)
    run_all()
    assert active() == all_of(items, TWO)
    assert (shop.carts[TWO], stands(begun)) == (2, {"moved": 2})


def test_move_is_not_run_again_into_a_cart_that_another_migration_has_filled(
    items, account, two, shop, olga
):
    shop.before_press = fail_once(OutOfStock("Sold out."))
    first = start_migration(account.pk, two.pk, by=olga)
    run_all()
    second = start_migration(account.pk, two.pk, by=olga)
    run_all()
    undo_migration(second.pk, by=olga)
    failed = move_of(items[0], first)

    with pytest.raises(NotPossible, match="may be in the cart of two@vendor"):
        rerun_job(failed.job_id, by="alice")

    assert (shop.carts[TWO], active()[0]) == (2, (items[0].pk, ONE))
    mark_gone(CartItem.objects.filter(vendor_account=two), by=olga)
    rerun_job(failed.job_id, by="alice")
    run_all()
    assert active()[0] == (items[0].pk, TWO)


# --- Taken back ----------------------------------------------------------------------------------


def test_undone_the_lines_are_the_old_accounts_and_the_cart_is_said(
    items, account, two, shop, olga
):
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()

    undone = undo_migration(begun.pk, by=olga)

    assert active() == all_of(items, ONE)
    assert (undone.restored, undone.stopped, len(undone.in_cart)) == (2, 0, 2)
    assert undone.describe_cart() == (
        f"In the cart of {TWO} stand: 1 × Pen; 1 × Pen. Take out there by hand what is not wanted."
    )
    assert stands(begun) == {"undone": 2}
    assert {item.assigned_account for item in QueueItem.objects.all()} == {account}
    begun.refresh_from_db()
    assert begun.undone_by == "olga"
    assert begun.undone_at is not None
    assert begun.job.events.last().kind == "migration.undone"
    assert acts(account)[-1] == "undone"
    assert shop.carts == {ONE: 2, TWO: 2}  # nothing is taken out by itself


def test_undone_once_more_it_changes_nothing(items, account, two, shop, olga):
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()
    undo_migration(begun.pk, by=olga)
    told = begun.job.events.count()

    again = undo_migration(begun.pk, by=olga)

    assert (again.restored, again.stopped, len(again.in_cart)) == (0, 0, 2)
    assert (active(), begun.job.events.count()) == (all_of(items, ONE), told)


def test_undone_before_it_began_nothing_is_added(items, account, two, shop, olga):
    begun = start_migration(account.pk, two.pk, by=olga)

    undone = undo_migration(begun.pk, by=olga)
    run_all()

    assert (undone.restored, undone.stopped) == (0, 2)
    assert undone.describe_cart() == f"The cart of {TWO} has nothing of it."
    assert (active(), shop.carts[TWO]) == (all_of(items, ONE), 0)
    assert {move.job.status for move in begun.moves.all()} == {"cancelled"}


def test_move_of_an_undone_migration_that_is_run_again_adds_nothing(
    items, account, two, shop, olga
):
    begun = start_migration(account.pk, two.pk, by=olga)
    undo_migration(begun.pk, by=olga)

    rerun_job(move_of(items[0]).job_id, by="alice")
    run_all()

    job = move_of(items[0]).job
    assert (job.status, job.error["code"]) == ("failed", "migration_undone")
    assert (active(), shop.carts[TWO]) == (all_of(items, ONE), 0)


def test_undone_amid_a_press_the_line_stays_and_the_cart_is_to_be_looked_at(
    items, account, two, shop, olga
):
    begun = start_migration(account.pk, two.pk, by=olga)
    undone = []

    def undo_once(email: str) -> None:
        if not undone:
            undone.extend(elsewhere(lambda: undo_migration(begun.pk, by=olga)))

    shop.after_press = undo_once
    run_all()

    (report,) = undone
    assert (report.restored, report.stopped) == (0, 2)
    assert (len(report.in_cart), len(report.maybe_in_cart)) == (0, 1)
    assert "Look whether there stand, too: 1 × Pen." in report.describe_cart()
    assert active() == all_of(items, ONE)
    assert stands(begun) == {"undone": 2}


def test_undone_just_before_a_line_is_replaced_it_is_not(
    items, account, two, shop, olga, monkeypatch
):
    begun = start_migration(account.pk, two.pk, by=olga)
    just_before(monkeypatch, steps, "complete", lambda: undo_migration(begun.pk, by=olga))

    run_all()

    assert active() == all_of(items, ONE)
    assert stands(begun) == {"undone": 2}
    assert len(undo_migration(begun.pk, by=olga).in_cart) == 1


def test_what_was_ordered_or_moved_on_is_not_taken_back(vendor, items, account, two, shop, olga):
    first = start_migration(account.pk, two.pk, by=olga)
    run_all()
    mark_gone(CartItem.objects.active().filter(item_id=items[0].pk), by=olga)
    pool.set_aside(two, "Suspended.")
    second = start_migration(two.pk, new_account(vendor, "three").pk, by=olga)

    while_moving = undo_migration(first.pk, by=olga)
    run_all()
    after = undo_migration(first.pk, by=olga)

    assert (while_moving.restored, after.restored) == (0, 0)
    assert [why.split(":")[0] for _, why in while_moving.kept] == [
        "it has left the new account's cart",
        "a later migration is moving it on; undo that one first",
    ]
    assert after.kept[1][1] == "a later migration has moved it on; undo that one first"
    assert active() == [(items[0].pk, TWO), (items[1].pk, THREE)]

    undo_migration(second.pk, by=olga)
    last = undo_migration(first.pk, by=olga)

    assert last.restored == 1
    assert active() == [(items[0].pk, TWO), (items[1].pk, ONE)]


# --- What is moved, and where --------------------------------------------------------------------


def test_what_is_gone_is_not_moved(items, account, two, shop, olga):
    assert mark_gone(CartItem.objects.filter(item_id=items[0].pk), by=olga).done == 1

    start_migration(account.pk, two.pk, by=olga)
    run_all()

    assert active() == [(items[0].pk, ONE), (items[1].pk, TWO)]
    assert shop.carts[TWO] == 1
    assert acts(account)[-2:] == ["settled", "migrated"]
    assert facts(entries(account)[-2]) == {"gone_lines": 1}


def test_what_the_cart_did_not_show_any_more_before_the_block_is_not_moved(
    vendor, account, shop, olga, monkeypatch
):
    only_newest_left(shop, monkeypatch)
    items = [enqueue_product(vendor, number) for number in (1, 2)]
    run_all()
    shop.before_press = fail_once(AccountBlocked("Suspended."))
    enqueue_product(vendor, 3)
    run_all()

    gone = CartItem.objects.exclude(gone_at=None).get()
    assert gone.item_id == items[0].pk
    noted = next(entry for entry in entries(account) if facts(entry) == {"gone_lines": 1})
    assert noted.additional_data["by"] == "Cartwright"
    begun = start_migration(account.pk, new_account(vendor, "two").pk, by=olga)
    assert [move.line.item_id for move in begun.moves.all()] == [items[1].pk]


def test_what_the_cart_still_showed_before_the_block_is_moved(vendor, account, shop, olga):
    items = [enqueue_product(vendor, number) for number in (1, 2)]
    run_all()
    shop.before_press = fail_once(AccountBlocked("Suspended."))
    enqueue_product(vendor, 3)
    run_all()

    begun = start_migration(account.pk, new_account(vendor, "two").pk, by=olga)

    assert [move.line.item_id for move in begun.moves.all()] == [item.pk for item in items]


def test_cart_of_the_session_proves_nothing(vendor, account, shop, monkeypatch):
    Vendor.objects.update(cart_scope="session")
    only_newest_left(shop, monkeypatch)
    for number in (1, 2):
        enqueue_product(vendor, number)
    run_all()
    shop.before_press = fail_once(AccountBlocked("Suspended."))
    enqueue_product(vendor, 3)
    run_all()

    assert not CartItem.objects.exclude(gone_at=None).exists()


def enqueue_product(vendor, number: int) -> QueueItem:
    url = f"https://{vendor.domain}/product/{number}"
    return cart_queue.enqueue(cart_queue.CartRequest(vendor=vendor, product_url=url))


def only_newest_left(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the cart was checked out before each add."""
    real = shop.add_to_cart

    async def add_to_cart(session, site, credentials, request, **options):
        result = await real(session, site, credentials, request, **options)
        line = CartLine(request.product_url, request.quantity, (request.product_url,))
        return replace(result, line=line, cart=(line,))

    monkeypatch.setattr(migration_workflow.workflows.flow, "add_to_cart", add_to_cart)


def test_line_that_is_being_moved_cannot_be_marked_as_gone(items, account, two, olga):
    start_migration(account.pk, two.pk, by=olga)

    marked = mark_gone(CartItem.objects.all(), by=olga)

    assert (marked.done, marked.moving) == (0, 2)
    assert not CartItem.objects.exclude(gone_at=None).exists()


def test_line_is_either_moved_or_marked_as_gone(items, account, two, olga):
    def begin() -> int:
        try:
            return start_migration(account.pk, two.pk, by=olga).moves.count()
        except MigrationRefused:
            return 0

    def mark() -> int:
        return mark_gone(CartItem.objects.all(), by=olga).done

    assert sorted(elsewhere(begin, mark)) == [0, 2]


def test_without_the_locks_a_line_would_be_moved_and_gone(items, account, two, olga, monkeypatch):
    monkeypatch.setattr(QuerySet, "select_for_update", lambda self, **_: self)
    just_before(
        monkeypatch, migration, "_begin", lambda: mark_gone(CartItem.objects.all(), by=olga)
    )

    begun = start_migration(account.pk, two.pk, by=olga)

    assert begun.moves.filter(status="pending", line__gone_at__isnull=False).count() == 2


def test_item_is_never_moved_to_a_cart_that_may_hold_it(vendor, items, account, two, shop, olga):
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()
    undo_migration(begun.pk, by=olga)

    with pytest.raises(MigrationRefused, match="2 may be in this replacement's cart already"):
        start_migration(account.pk, two.pk, by=olga)
    with pytest.raises(MigrationRefused, match="has none of the items in its cart") as none:
        start_migration(account.pk, by=olga)
    assert none.value.code == "NO_REPLACEMENT"

    three = new_account(vendor, "three", last_used_at=timezone.now())
    assert start_migration(account.pk, by=olga).new_account == three


def test_item_that_was_taken_out_by_hand_may_be_moved_there_again(items, account, two, shop, olga):
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()
    undo_migration(begun.pk, by=olga)
    mark_gone(CartItem.objects.filter(vendor_account=two), by=olga)

    again = start_migration(account.pk, two.pk, by=olga)
    run_all()

    assert (active(), stands(again)) == (all_of(items, TWO), {"moved": 2})


def test_database_refuses_a_second_line_of_an_item_in_a_cart(items, account, two, shop, olga):
    start_migration(account.pk, two.pk, by=olga)
    run_all()
    line = CartItem.objects.active().get(item_id=items[0].pk)

    with pytest.raises(IntegrityError, match="cart_line_once_an_account"):
        CartItem.objects.create(
            vendor_account=two,
            item_id=line.item_id,
            product_url=line.product_url,
            replaced_at=timezone.now(),
        )


def test_replacement_is_free_has_room_and_was_used_least_recently(vendor, items, account):
    now = timezone.now()
    new_account(vendor, "blocked", is_blocked=True)
    paused = new_account(vendor, "paused")
    flow.pause(key(paused), by="olga", reason="Stocktaking.")
    for name, added in (("used-up", 50), ("little-room", 49)):
        AccountUsage.objects.create(
            account=new_account(vendor, name), day=vendors_today(), items_added=added
        )
    busy = new_account(vendor, "busy")
    pool.reserve_account(vendor, new_job().pk, only=busy.pk)
    new_account(vendor, "recent", last_used_at=now)
    new_account(vendor, "long-ago", last_used_at=now - timedelta(hours=1))
    other = Vendor.objects.create(name="Other", domain="other.example")
    new_account(other, "theirs")

    order = []
    while len(order) < 4:
        chosen = plan_migration(account).new
        order.append(chosen.email.partition("@")[0])
        VendorAccount.objects.filter(pk=chosen.pk).update(is_blocked=True)

    assert order == ["long-ago", "recent", "busy", "little-room"]
    with pytest.raises(MigrationRefused, match="No account of Vendor Co can take the place"):
        plan_migration(account)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("ACCOUNT_NOT_BLOCKED", lambda one, two: pool.unblock(VendorAccount.objects.all())),
        ("REPLACEMENT_BLOCKED", lambda one, two: pool.set_aside(two, "Suspended.")),
        ("MANUAL_VENDOR", lambda one, two: Vendor.objects.update(can_automate=False)),
        ("FOREIGN_ACCOUNT", lambda one, two: move_away(two)),
        ("NOTHING_TO_MIGRATE", lambda one, two: mark_gone(CartItem.objects.all(), by="olga")),
    ],
)
def test_what_makes_no_sense_is_refused_and_writes_nothing(
    code, change, items, account, two, olga, nothing_happens
):
    change(account, two)

    with nothing_happens(), pytest.raises(MigrationRefused) as refused:
        start_migration(account.pk, two.pk, by=olga)

    assert refused.value.code == code
    assert not AccountMigration.objects.exists()


def move_away(two: VendorAccount) -> None:
    two.vendor = Vendor.objects.create(name="Other", domain="other.example")
    two.save()


def test_account_does_not_take_its_own_place(items, account, olga):
    with pytest.raises(MigrationRefused) as refused:
        start_migration(account.pk, account.pk, by=olga)

    assert refused.value.code == "FOREIGN_ACCOUNT"


# --- By itself -----------------------------------------------------------------------------------


@pytest.fixture
def switched_on(vendor) -> None:
    Vendor.objects.update(migrate_on_block=True)


def test_without_the_switch_a_block_moves_nothing(items, account, two, shop):
    assert migration_sweep.migrate_blocked() == 0
    assert not AccountMigration.objects.exists()


def test_with_the_switch_a_block_begins_a_migration_once(switched_on, items, account, two, shop):
    assert [migration_sweep.migrate_blocked() for _ in range(2)] == [1, 0]
    run_all()

    begun = AccountMigration.objects.get()
    assert (begun.is_automatic, begun.started_by, begun.new_account) == (True, "Cartwright", two)
    assert active() == all_of(items, TWO)
    assert entries(account)[-1].additional_data["by"] == "Cartwright"
    assert migration_sweep.migrate_blocked() == 0


def test_schedulers_that_look_at_once_begin_one(switched_on, items, account, two, shop):
    assert sorted(elsewhere(*[migration_sweep.migrate_blocked] * 3)) == [0, 0, 1]
    assert AccountMigration.objects.count() == 1


def test_what_a_scheduler_dies_with_the_next_one_begins(
    switched_on, items, account, two, shop, monkeypatch
):
    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(migration.audit, "note", die)  # its last act before the commit
        with pytest.raises(Died):
            migration_sweep.migrate_blocked()
    assert not CartMove.objects.exists()
    assert not Job.objects.filter(workflow="cart_move").exists()

    assert migration_sweep.migrate_blocked() == 1


def test_block_that_finds_no_replacement_is_tried_again_when_there_is_one(
    switched_on, vendor, items, account, shop
):
    assert migration_sweep.migrate_blocked() == 0
    two = new_account(vendor, "two")

    assert migration_sweep.migrate_blocked() == 1
    assert AccountMigration.objects.get().new_account == two


def test_what_failed_or_was_undone_is_not_begun_again_by_itself(
    switched_on, vendor, items, account, two, shop, olga
):
    shop.before_press = fail_once(OutOfStock("Sold out."))
    migration_sweep.migrate_blocked()
    run_all()
    new_account(vendor, "three")

    assert migration_sweep.migrate_blocked() == 0
    undo_migration(AccountMigration.objects.get().pk, by=olga)
    assert migration_sweep.migrate_blocked() == 0


def test_replacement_that_is_blocked_hands_on_what_it_took_and_what_it_did_not(
    switched_on, vendor, items, account, two, shop
):
    migration_sweep.migrate_blocked()
    shop.after_press = lambda email: None
    steps_left = ["first"]

    def block_second(email: str) -> None:
        if not steps_left:
            raise AccountBlocked("Suspended.")
        steps_left.pop()

    shop.before_press = block_second
    run_all()
    Step.objects.filter(status="waiting").update(status="ready", due_at=None)
    run_all()
    shop.before_press = lambda email: None
    new_account(vendor, "three")

    assert migration_sweep.migrate_blocked() == 2
    run_all()

    assert active() == all_of(items, THREE)
    assert shop.carts == {ONE: 2, TWO: 1, THREE: 2}


def test_what_could_not_be_moved_is_an_alert_until_nobody_has_to_look(
    items, account, two, shop, olga
):
    shop.before_press = fail_once(OutOfStock("Sold out."))
    begun = start_migration(account.pk, two.pk, by=olga)
    run_all()

    for _ in range(2):
        migration_sweep.check_failed_moves()
    (alert,) = open_alerts(Alert.Kind.MOVES)
    assert alert.account == account
    assert alert.message.startswith(f"Not all that stood in the cart of {ONE} at Vendor Co")

    rerun_job(move_of(items[0], begun).job_id, by="alice")
    run_all()
    migration_sweep.check_failed_moves()
    assert not open_alerts(Alert.Kind.MOVES)
