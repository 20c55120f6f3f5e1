"""A vendor may want a pause between two adds of an account; preferred vendors go first."""

# ruff: noqa: F401, F811  fixtures come by import

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db.models.functions import Now
from django.utils import timezone

from jobs import live, steps
from jobs.models import Job, Status, Step
from jobs.runner import runner
from jobs.sweep import age_steps
from jobs.why import why_of_job
from tests.jobs.rivals import elsewhere, just_before
from tests.vendors.shop import Shop, shop
from tests.vendors.test_pool import new_account, new_job
from vendors import cart_queue, pool
from vendors.errors import NoAccountFree
from vendors.models import QueueItem, Vendor, VendorAccount, VendorAccountQuerySet

pytestmark = pytest.mark.django_db(transaction=True)

PAUSE = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


@pytest.fixture
def paced(vendor) -> Vendor:
    vendor.seconds_between_adds = 30
    vendor.save()
    return vendor


def use(vendor: Vendor) -> VendorAccount:
    """As an add that has ended does."""
    job = new_job()
    account = pool.reserve_account(vendor, job.pk)
    pool.release_account(job.pk)
    return account


def released(account: VendorAccount, ago: timedelta) -> None:
    VendorAccount.objects.filter(pk=account.pk).update(released_at=Now() - ago)


def enqueue(vendor: Vendor, **options) -> QueueItem:
    url = f"https://{vendor.domain}/product/1"
    return cart_queue.enqueue(cart_queue.CartRequest(vendor=vendor, product_url=url, **options))


def reserve_step(item: QueueItem) -> Step:
    return Step.objects.get(job=item.job_id, name=pool.RESERVE)


# --- Pacing --------------------------------------------------------------------------------------


def test_account_is_left_alone_between_two_adds_and_the_refusal_says_for_how_long(paced, account):
    use(paced)

    with pytest.raises(NoAccountFree, match="left alone for 30 s after each add") as refusal:
        pool.reserve_account(paced, new_job().pk)

    assert refusal.value.come_again_in == pytest.approx(PAUSE, abs=timedelta(seconds=2))
    released(account, ago=PAUSE)
    assert pool.reserve_account(paced, new_job().pk) == account


def test_another_account_adds_meanwhile(paced, account):
    two = new_account(paced, "two")

    assert {use(paced), use(paced)} == {account, two}
    with pytest.raises(NoAccountFree, match="Every account of Vendor Co is left alone for 30 s"):
        pool.reserve_account(paced, new_job().pk)


def test_vendor_without_pacing_waits_for_nothing(vendor, account):
    assert [use(vendor), use(vendor)] == [account, account]


def test_clock_of_the_process_decides_nothing(paced, account):
    use(paced)

    with (
        time_machine.travel(timezone.now() + timedelta(days=1)),
        pytest.raises(NoAccountFree, match="left alone"),
    ):
        pool.reserve_account(paced, new_job().pk)


def test_job_that_has_the_account_tries_again_without_a_pause(paced, account):
    job = new_job()
    pool.reserve_account(paced, job.pk)
    released(account, ago=timedelta())  # before it was reserved

    assert pool.reserve_account(paced, job.pk) == account


def rival_uses_it(monkeypatch, vendor) -> None:
    """Between choosing an account and holding it, another add begins and ends."""
    just_before(monkeypatch, pool, "_lock_one", lambda: use(vendor))


def test_account_that_was_used_since_it_was_chosen_is_left_alone(paced, account, monkeypatch):
    rival_uses_it(monkeypatch, paced)

    with pytest.raises(NoAccountFree):
        pool.reserve_account(paced, new_job().pk)

    assert VendorAccount.objects.get().held_by is None


def test_without_the_look_at_the_locked_row_it_would_add_twice_in_a_moment(
    paced, account, monkeypatch
):
    """The twin of the test before."""
    monkeypatch.setattr(VendorAccountQuerySet, "rested", lambda self: self)
    rival_uses_it(monkeypatch, paced)

    assert pool.reserve_account(paced, new_job().pk) == account


def test_second_item_waits_for_the_pause_says_so_and_goes_on_after_it(paced, account, shop):
    first, second = enqueue(paced), enqueue(paced)

    runner.run_ready_steps(["steps"])

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.status, second.status, second.attempts) == ("completed", "pending", 0)
    account.refresh_from_db()
    until = account.released_at + PAUSE
    waiting = reserve_step(second)
    assert waiting.status == Status.WAITING
    assert waiting.due_at == pytest.approx(until, abs=timedelta(seconds=2))
    (why, *_) = why_of_job(Job.objects.get(pk=second.job_id), visible=Job.objects.all())
    assert why["sentence"] == (
        "The account one@vendor.example is left alone for 30 s after each add: until "
        f"{until.astimezone(UTC):%H:%M:%S} UTC."
    )

    released(account, ago=PAUSE)
    Step.objects.filter(pk=waiting.pk).update(due_at=Now(), status=Status.READY)
    runner.run_ready_steps(["steps"])
    second.refresh_from_db()
    assert second.status == "completed"


def test_first_of_those_who_wait_is_called_back_when_the_pause_ends(paced, account):
    """They had been put off for the time when nobody wakes them; one at a time is enough."""
    holder = new_job()
    pool.reserve_account(paced, holder.pk)
    items = [enqueue(paced) for _ in range(2)]
    runner.run_ready_steps(["steps"])
    far = timezone.now() + timedelta(hours=1)
    Step.objects.filter(status=Status.WAITING).update(due_at=far)

    pool.release_account(holder.pk)
    pool.wake_waiting(paced.pk)

    account.refresh_from_db()
    assert [reserve_step(item).due_at for item in items] == [account.released_at + PAUSE, far]


# --- An account's own limit ----------------------------------------------------------------------


def test_account_with_a_higher_limit_adds_more_than_its_vendor_says(vendor, account):
    Vendor.objects.update(rate_limit_daily=1)
    vendor.refresh_from_db()
    VendorAccount.objects.update(rate_limit_daily=2)

    pool.count_use(account.pk)
    assert use(vendor) == account
    pool.count_use(account.pk)
    with pytest.raises(NoAccountFree, match="has added its 2 items of today"):
        pool.reserve_account(vendor, new_job().pk)


def test_own_limit_is_set_over_rest_and_wakes_who_waits(vendor, account, admin_api):
    Vendor.objects.update(rate_limit_daily=1)
    pool.count_use(account.pk)
    item = enqueue(vendor)
    runner.run_ready_steps(["steps"])
    assert reserve_step(item).status == Status.WAITING

    answer = admin_api.put(f"/api/admin/accounts/{account.pk}", {"rate_limit_daily": 5}, "json")

    assert answer.status_code == 200
    assert VendorAccount.objects.get().rate_limit_daily == 5
    assert reserve_step(item).status == Status.READY


# --- Preferred vendors ---------------------------------------------------------------------------


@pytest.fixture
def preferred(vendor) -> Vendor:
    return Vendor.objects.create(
        **{**vendor.site_data(), "name": "Preferred", "domain": "preferred.example"}
        | {"login_url": "https://preferred.example/l", "cart_url": "https://preferred.example/c"},
        is_prioritized=True,
    )


def claimed() -> object:
    claim = steps.claim_next(["steps"], worker="alice")
    return claim and claim.job_id


def test_items_of_preferred_vendors_go_first(vendor, preferred):
    plain, first, second = enqueue(vendor), enqueue(preferred), enqueue(preferred)

    assert [claimed() for _ in range(3)] == [first.job_id, second.job_id, plain.job_id]


def test_priority_that_a_person_gave_goes_before_the_preference(vendor, preferred):
    liked, urgent = enqueue(preferred), enqueue(vendor, priority=2)

    assert [claimed() for _ in range(2)] == [urgent.job_id, liked.job_id]


def test_others_are_not_starved_by_preferred_vendors(vendor, preferred, settings):
    settings.AGEING_MINUTES = 5
    plain = enqueue(vendor)
    Step.objects.filter(job=plain.job_id).update(due_at=Now() - timedelta(minutes=5))
    enqueue(preferred)

    age_steps()

    assert claimed() == plain.job_id
