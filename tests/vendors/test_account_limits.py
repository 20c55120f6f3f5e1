"""The limits and pauses of an account: obeyed where it is chosen and where its add starts, changed
while items wait, and told as the reason why they wait."""

# ruff: noqa: F401, F811  fixtures come by import

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from playwright.async_api import expect

from automation.errors import AccountBlocked, OutOfStock
from jobs import flow, live, steps
from jobs.control import rerun_job
from jobs.models import FlowLimit, Job, Status, Step
from jobs.runner import runner
from jobs.sweep import make_due_ready
from jobs.why import why_of_job
from tests.jobs.rivals import elsewhere, just_before
from tests.jobs.workflows import submit_toy
from tests.live_site import alice, live_site, page, run
from tests.vendors.shop import Shop, fail_once, shop
from tests.vendors.test_pool import new_account
from vendors import cart_queue, pool
from vendors.models import QueueItem, Vendor, VendorAccount

pytestmark = pytest.mark.django_db(transaction=True)

ONE, TWO = "one@vendor.example", "two@vendor.example"


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that must hold depends on one."""
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


@pytest.fixture
def vendor_of_page(vendor, account, shop, monkeypatch):
    """Makes an item wait for its paused account, in a thread: the test runs in an event loop."""
    monkeypatch.undo()  # here hints are sent: the pages live by them

    def wait() -> tuple[VendorAccount, object]:
        flow.pause(key(account), by="olga", reason="Stocktaking.")
        item = enqueue(vendor)
        run_all()
        return account, item.job_id

    return wait


def key(account: VendorAccount) -> str:
    return f"account:{account.pk}"


def enqueue(vendor) -> QueueItem:
    url = f"https://{vendor.domain}/product/1"
    return cart_queue.enqueue(cart_queue.CartRequest(vendor=vendor, product_url=url))


def run_all() -> None:
    runner.run_ready_steps(["steps"])


def state(item: QueueItem) -> str:
    item.refresh_from_db()
    return item.status


def step_of(item: QueueItem, name: str = "reserve_account") -> Step:
    return Step.objects.get(job=item.job_id, name=name)


def why(item: QueueItem) -> tuple[str, str]:
    first = why_of_job(Job.objects.get(pk=item.job_id), visible=Job.objects.all())[0]
    return first["code"], first["sentence"]


# --- The rate ------------------------------------------------------------------------------------


def test_items_start_by_the_rate_of_their_account(vendor, account, shop):
    flow.set_limit(key(account), rate=1, period_seconds=3600, by="olga")
    first, second = enqueue(vendor), enqueue(vendor)

    run_all()

    assert (state(first), state(second)) == ("completed", "pending")
    assert shop.visits == [ONE]
    (start,) = FlowLimit.objects.get().starts
    waiting = step_of(second)
    assert (waiting.status, waiting.due_at - start) == (
        Status.WAITING,
        pytest.approx(timedelta(hours=1), abs=timedelta(seconds=1)),
    )
    assert why(second) == (
        "postponed",
        "The account one@vendor.example starts at most 1 step in an hour.",
    )


def test_item_goes_to_the_account_that_has_starts_left(vendor, account, shop):
    two = new_account(vendor, "two", last_used_at=timezone.now())
    flow.set_limit(key(account), rate=1, period_seconds=3600, by="olga")
    flow.set_limit(key(two), rate=1, period_seconds=3600, by="olga")
    items = [enqueue(vendor) for _ in range(3)]

    run_all()

    assert shop.visits == [ONE, TWO]
    assert [state(item) for item in items] == ["completed", "completed", "pending"]
    assert why(items[2]) == (
        "postponed",
        "Every account of Vendor Co is at its limit; the item goes on as soon as one may start "
        "again.",
    )


@pytest.mark.parametrize("rate", [2, None])
def test_raised_limit_wakes_who_waits_at_once(vendor, account, shop, rate):
    flow.set_limit(key(account), rate=1, period_seconds=3600, by="olga")
    items = [enqueue(vendor) for _ in range(3)]
    run_all()

    flow.set_limit(key(account), rate=rate, period_seconds=3600, by="olga")

    ready = [step_of(item).status for item in items[1:]]
    assert ready == [Status.READY, Status.WAITING]  # one account, so one of them can begin
    run_all()
    done = ["completed", "completed", "pending" if rate else "completed"]
    assert [state(item) for item in items] == done


def test_item_comes_again_when_the_changed_rate_allows_it(vendor, account, shop):
    flow.set_limit(key(account), rate=1, period_seconds=3600, by="olga")
    enqueue(vendor)
    item = enqueue(vendor)
    run_all()

    flow.set_limit(key(account), rate=1, period_seconds=600, by="olga")

    (start,) = FlowLimit.objects.get().starts
    waiting = step_of(item)
    assert (waiting.status, waiting.due_at) == (Status.WAITING, start + timedelta(minutes=10))


def test_each_attempt_is_a_start_of_the_account_that_makes_it(vendor, account, shop):
    two = new_account(vendor, "two", last_used_at=timezone.now())
    for each in (account, two):
        flow.set_limit(key(each), rate=9, period_seconds=3600, by="olga")
    shop.before_press = fail_once(AccountBlocked("Suspended."))
    item = enqueue(vendor)

    run_all()
    Step.objects.filter(status=Status.WAITING).update(due_at=timezone.now())
    make_due_ready()
    run_all()

    assert (state(item), shop.visits) == ("completed", [ONE, TWO])
    starts = {limit.key: len(limit.starts) for limit in FlowLimit.objects.all()}
    assert starts == {key(account): 1, key(two): 1}
    assert step_of(item, "add_to_cart").attempt == 2


# --- How many at once ----------------------------------------------------------------------------


def test_account_that_other_work_uses_is_not_reserved_above_its_concurrency(vendor, account, shop):
    flow.set_limit(key(account), concurrency=1, by="olga")
    submit_toy([["a"]], options={"a": {"keys": [key(account)]}})
    other = steps.claim_next(["steps"], worker="alice")
    item = enqueue(vendor)

    run_all()

    assert why(item)[1] == "1 of 1 steps of the account one@vendor.example are running."
    steps.complete(other, {}, queues=[], worker="alice")
    flow.wake(other.limits)  # as the runner does after each step
    assert step_of(item).status == Status.READY
    run_all()
    assert state(item) == "completed"


# --- Pauses --------------------------------------------------------------------------------------


def test_resumed_account_goes_on_at_once_with_who_waits_longest(vendor, account, shop):
    two = new_account(vendor, "two")
    for each in (account, two):
        flow.pause(key(each), by="olga", reason="Stocktaking.")
    items = [enqueue(vendor) for _ in range(3)]
    run_all()
    assert [step_of(item).status for item in items] == [Status.WAITING] * 3
    assert why(items[0])[1] == (
        "Every account of Vendor Co is paused; the item goes on when one is resumed."
    )

    flow.resume(key(two), by="olga")

    ready = [step_of(item).status for item in items]
    assert ready == [Status.READY, Status.WAITING, Status.WAITING]
    flow.resume(key(account), by="olga")
    run_all()
    assert [state(item) for item in items] == ["completed"] * 3


def test_without_being_told_the_item_would_not_notice_that_its_account_is_resumed(
    vendor, account, shop, monkeypatch
):
    monkeypatch.setattr(flow, "_wakers", {})
    flow.pause(key(account), by="olga")
    item = enqueue(vendor)
    run_all()

    flow.resume(key(account), by="olga")

    assert step_of(item).status == Status.WAITING


def test_account_that_is_resumed_while_an_item_finds_none_is_seen(
    vendor, account, shop, monkeypatch
):
    flow.pause(key(account), by="olga")
    item = enqueue(vendor)
    just_before(monkeypatch, steps, "postpone", lambda: flow.resume(key(account), by="olga"))

    run_all()

    assert (state(item), shop.visits) == ("completed", [ONE])


def test_account_whose_row_is_locked_is_not_asked_for_again_and_again(
    vendor, account, shop, monkeypatch
):
    looks = []
    real = pool.wake_if_possible
    monkeypatch.setattr(pool, "wake_if_possible", lambda job: looks.append(job) or real(job))
    item = enqueue(vendor)

    with transaction.atomic():
        VendorAccount.objects.select_for_update().get(pk=account.pk)
        elsewhere(run_all)

    assert looks == [item.job_id]
    assert step_of(item).status == Status.WAITING


def test_without_a_second_look_it_would_have_been_missed(vendor, account, shop, monkeypatch):
    monkeypatch.setattr(pool, "wake_if_possible", lambda job_id: None)
    flow.pause(key(account), by="olga")
    item = enqueue(vendor)
    just_before(monkeypatch, steps, "postpone", lambda: flow.resume(key(account), by="olga"))

    run_all()

    assert step_of(item).status == Status.WAITING


def test_add_whose_account_is_paused_after_it_was_reserved_waits_for_it(
    vendor, account, shop, monkeypatch
):
    new_account(vendor, "two", last_used_at=timezone.now())
    item = enqueue(vendor)
    just_before(
        monkeypatch,
        steps,
        "complete",
        lambda: flow.pause(key(account), by="olga", reason="Stocktaking."),
    )

    run_all()

    assert shop.visits == []
    assert why(item) == (
        "paused",
        "The account one@vendor.example is paused by olga: Stocktaking.",
    )
    flow.resume(key(account), by="olga")
    run_all()
    assert (state(item), shop.visits) == ("completed", [ONE])


def test_reason_is_the_one_that_holds_now(vendor, account, shop):
    flow.set_limit(key(account), rate=1, period_seconds=3600, by="olga")
    enqueue(vendor)
    item = enqueue(vendor)
    run_all()

    flow.pause(key(account), by="olga", reason="Stocktaking.")

    assert why(item)[1] == "The account one@vendor.example is paused by olga: Stocktaking."


def test_different_reasons_are_counted(vendor, account, shop):
    two = new_account(vendor, "two")
    new_account(vendor, "three", held_by=submit_toy([["a"]]))
    flow.pause(key(account), by="olga")
    flow.set_limit(key(two), rate=1, period_seconds=3600, by="olga")
    FlowLimit.objects.filter(key=key(two)).update(starts=[timezone.now()])
    item = enqueue(vendor)
    steps.claim_next(["steps"], worker="alice")  # the toy's

    run_all()

    assert why(item)[1] == (
        "No account of Vendor Co is free: 1 is at its limit, 1 is busy, 1 is paused; the item goes "
        "on as soon as one is."
    )


def test_item_that_runs_again_is_not_held_back_by_the_account_it_had(vendor, account, shop):
    shop.before_press = fail_once(OutOfStock("Sold out."))
    item = enqueue(vendor)
    run_all()
    assert state(item) == "failed"
    new_account(vendor, "two")
    flow.pause(key(account), by="olga")

    rerun_job(item.job_id, by="alice")
    run_all()

    assert (state(item), shop.visits) == ("completed", [ONE, TWO])


def test_unblocked_account_wakes_who_waits(vendor, account, shop):
    blocked = new_account(vendor, "two", is_blocked=True)
    flow.pause(key(account), by="olga")
    item = enqueue(vendor)
    run_all()

    pool.unblock(VendorAccount.objects.filter(pk=blocked.pk))

    assert step_of(item).status == Status.READY
    run_all()
    assert shop.visits == [TWO]


def test_limit_of_an_account_that_does_not_exist_wakes_nobody(vendor, account):
    item = enqueue(vendor)

    for name in ("alice", "01a1ff56-2e64-7007-af2e-49a4fddab89e"):
        flow.pause(f"account:{name}", by="olga")
        assert flow.resume(f"account:{name}", by="olga")

    assert step_of(item).status == Status.READY


def used_up(vendor, account) -> QueueItem:
    """An item that waits for tomorrow, as the account has added its one item of today."""
    Vendor.objects.update(rate_limit_daily=1)
    vendor.refresh_from_db()
    enqueue(vendor)
    item = enqueue(vendor)
    run_all()
    assert "has added its 1 items of today" in why(item)[1]
    return item


def test_vendor_that_allows_more_items_a_day_wakes_who_waits(vendor, account, shop, admin_api):
    item = used_up(vendor, account)
    data = {**vendor.site_data(), "rate_limit_daily": 2}

    answer = admin_api.put(f"/api/admin/vendors/{vendor.pk}", data, format="json")

    assert answer.status_code == 200, answer.json()
    assert step_of(item).status == Status.READY
    run_all()
    assert state(item) == "completed"


def test_new_account_wakes_who_waits(vendor, account, shop, admin_api):
    item = used_up(vendor, account)
    data = {"vendor_id": str(vendor.pk), "email": TWO, "password": "p"}

    answer = admin_api.post("/api/admin/accounts", data, format="json")

    assert answer.status_code == 201, answer.json()
    run_all()
    assert (state(item), shop.visits) == ("completed", [ONE, TWO])


# --- What people see -----------------------------------------------------------------------------


@pytest.mark.browser
async def test_page_of_a_job_says_which_account_it_waits_for(vendor_of_page, page):
    account, job_id = await run(vendor_of_page)
    await page.goto(f"/jobs/{job_id}/")

    note = page.locator(".step-note").first
    await expect(note).to_contain_text(
        "The account one@vendor.example is paused by olga: Stocktaking."
    )
    await run(flow.resume, key(account), by="olga")
    await expect(note).not_to_contain_text("paused")
