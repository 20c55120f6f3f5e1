"""An item that may be in an account's cart already is added by no other account."""

# ruff: noqa: F401, F811  fixtures come by import

import pytest
from django.utils import timezone

from automation.errors import AccountBlocked, CaptchaSeen, OutOfStock
from jobs import flow, live, steps
from jobs.control import rerun_job
from jobs.models import Job, Status
from jobs.runner import runner
from tests.jobs.rivals import just_before
from tests.vendors.shop import Shop, fail_once, shop
from tests.vendors.test_account_limits import ONE, TWO, enqueue, key, state, step_of, why
from tests.vendors.test_pool import holders, new_account, new_job
from vendors import pool
from vendors.adding import Add
from vendors.models import QueueItem, VendorAccount

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that must hold depends on one."""
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


@pytest.fixture
def two(vendor) -> VendorAccount:
    return new_account(vendor, "two", last_used_at=timezone.now())


def run_all() -> None:
    runner.run_ready_steps(["steps"])


def failed_after_the_press(vendor, shop) -> QueueItem:
    """An item whose job has ended, and that may be in the first account's cart, as it is."""
    shop.after_press = fail_once(CaptchaSeen("Are you a robot?"))
    item = enqueue(vendor)
    run_all()
    assert (state(item), shop.visits) == ("manual_required", [ONE])
    return item


def rival_takes(vendor, account) -> Job:
    rival = new_job()
    assert pool.reserve_account(vendor, rival.pk, only=account.pk) == account
    return rival


def end(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(status=Status.FAILED)
    pool.release_account(job.pk)
    pool.wake_waiting(VendorAccount.objects.values_list("vendor", flat=True)[0])


def test_item_that_runs_again_waits_for_the_account_whose_cart_it_may_be_in(
    vendor, account, two, shop
):
    item = failed_after_the_press(vendor, shop)
    rival = rival_takes(vendor, account)

    rerun_job(item.job_id, by="alice")
    run_all()

    assert (state(item), shop.visits) == ("pending", [ONE])
    assert why(item) == (
        "postponed",
        "The item may be in the cart of one@vendor.example already, so no other account may add "
        "it. The account one@vendor.example is busy.",
    )
    end(rival)
    run_all()
    assert (state(item), shop.visits) == ("completed", [ONE, ONE])
    assert shop.carts == {ONE: 1}


def test_without_being_bound_to_it_the_item_would_be_in_two_carts(
    vendor, account, two, shop, monkeypatch
):
    monkeypatch.setattr(Add, "account_id", None)
    item = failed_after_the_press(vendor, shop)
    rival_takes(vendor, account)
    rerun_job(item.job_id, by="alice")
    # What was begun by another account means to the attempt: nothing.
    monkeypatch.setattr(Add, "intent", None)

    run_all()

    assert shop.carts == {ONE: 1, TWO: 1}


@pytest.mark.parametrize("from_step", ["reserve_account", "add_to_cart"])
def test_rival_that_takes_the_account_at_the_last_moment_is_waited_for(
    vendor, account, two, shop, monkeypatch, from_step
):
    item = failed_after_the_press(vendor, shop)
    rival = new_job()
    just_before(
        monkeypatch,
        pool,
        "_lock_one",
        lambda: pool.reserve_account(vendor, rival.pk, only=account.pk),
    )

    rerun_job(item.job_id, from_step, by="alice")
    run_all()

    assert holders() == {ONE: rival.pk, TWO: None}
    assert step_of(item, from_step).status == Status.WAITING
    end(rival)
    run_all()
    assert (state(item), shop.carts) == ("completed", {ONE: 1})


def test_account_that_becomes_free_is_for_an_item_that_may_use_it(vendor, account, two, shop):
    bound = failed_after_the_press(vendor, shop)
    rivals = [rival_takes(vendor, account), rival_takes(vendor, two)]
    rerun_job(bound.job_id, by="alice")
    other = enqueue(vendor)
    run_all()

    end(rivals[1])

    assert step_of(bound, "add_to_cart").status == Status.WAITING
    assert step_of(other).status == Status.READY
    run_all()
    assert (state(bound), state(other)) == ("pending", "completed")
    end(rivals[0])
    run_all()
    assert (state(bound), shop.carts) == ("completed", {ONE: 1, TWO: 1})


def test_item_of_which_nothing_was_pressed_may_be_added_by_another(vendor, account, two, shop):
    shop.before_press = fail_once(CaptchaSeen("Are you a robot?"))
    item = enqueue(vendor)
    run_all()
    rival_takes(vendor, account)

    rerun_job(item.job_id, by="alice")
    run_all()

    assert (state(item), shop.visits) == ("completed", [ONE, TWO])


def test_item_that_the_shop_refused_and_whose_cart_was_read_may_be_added_by_another(
    vendor, account, two, shop
):
    shop.clears, shop.after_press = True, fail_once(OutOfStock("Sold out."))
    item = enqueue(vendor)
    run_all()
    assert state(item) == "failed"
    rival_takes(vendor, account)

    rerun_job(item.job_id, by="alice")
    run_all()

    assert (state(item), shop.visits) == ("completed", [ONE, TWO])
    assert +shop.carts == {TWO: 1}


def test_item_in_a_paused_accounts_cart_waits_until_it_is_resumed(vendor, account, two, shop):
    item = failed_after_the_press(vendor, shop)
    flow.pause(key(account), by="olga", reason="Stocktaking.")

    rerun_job(item.job_id, by="alice")
    run_all()

    assert why(item)[1] == (
        "The item may be in the cart of one@vendor.example already, so no other account may add "
        "it. The account one@vendor.example is paused by olga: Stocktaking."
    )
    flow.resume(key(account), by="olga")
    run_all()
    assert (state(item), shop.carts) == ("completed", {ONE: 1})


def test_account_that_is_blocked_after_the_press_leaves_the_item_to_a_person(
    vendor, account, two, shop
):
    shop.after_press = fail_once(AccountBlocked("Suspended."))
    item = enqueue(vendor)
    run_all()
    steps.make_ready(item.job_id)  # as if the time of its retry had come

    run_all()

    assert (state(item), item.error_code) == ("manual_required", "cart_out_of_reach")
    assert item.error_message == (
        "The item may be in the cart of one@vendor.example at Vendor Co, and that account is "
        "blocked. Look into its cart by hand; unblock it to have the item go on there."
    )
    assert (shop.visits, holders()) == ([ONE], {ONE: None, TWO: None})
    pool.unblock(VendorAccount.objects.all())
    rerun_job(item.job_id, by="alice")
    run_all()
    assert (state(item), shop.carts) == ("completed", {ONE: 1})


def test_account_that_was_deleted_leaves_the_item_to_a_person(vendor, account, two, shop):
    item = failed_after_the_press(vendor, shop)
    account.delete()

    rerun_job(item.job_id, by="alice")
    run_all()

    assert (state(item), item.error_code) == ("manual_required", "cart_out_of_reach")
    assert shop.visits == [ONE]
