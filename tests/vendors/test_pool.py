"""The account pool: who is next, who is not, and that two never get the same."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import time_machine
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import FIRST_WORKSPACE
from jobs.models import Job
from tests.jobs.rivals import elsewhere, just_before
from vendors import pool
from vendors.errors import NoAccountFree, NoUsableAccount
from vendors.models import AccountUsage, Vendor, VendorAccount, VendorAccountQuerySet, vendors_today


def new_job(status: str = "running") -> Job:
    return Job.objects.create(
        workflow="cart_add",
        workflow_version=1,
        title="a job",
        status=status,
        stage_sizes=[1],
        stage_open=1,
        weight_total=1,
        workspace_id=FIRST_WORKSPACE,
    )


def new_account(vendor: Vendor, name: str, **fields) -> VendorAccount:
    return VendorAccount.objects.create(
        vendor=vendor, email=f"{name}@vendor.example", password="p", **fields
    )


def holders() -> dict[str, UUID | None]:
    return dict(VendorAccount.objects.values_list("email", "held_by"))


def test_least_recently_used_goes_first_and_the_never_used_before_it(vendor):
    now = timezone.now()
    new_account(vendor, "recent", last_used_at=now)
    new_account(vendor, "long-ago", last_used_at=now - timedelta(hours=1))
    new_account(vendor, "never")

    order = [pool.reserve_account(vendor, new_job().pk).email for _ in range(3)]

    assert order == ["never@vendor.example", "long-ago@vendor.example", "recent@vendor.example"]


def test_no_other_account_is_given_to_who_asks_for_one(vendor):
    new_account(vendor, "never")
    recent = new_account(vendor, "recent", last_used_at=timezone.now())

    first, second = new_job(), new_job()
    assert pool.reserve_account(vendor, first.pk, only=recent.pk) == recent
    with pytest.raises(NoAccountFree, match=r"no other account .* recent@vendor.example is busy"):
        pool.reserve_account(vendor, second.pk, only=recent.pk)
    assert holders() == {"never@vendor.example": None, recent.email: first.pk}


def test_job_that_asks_again_gets_the_account_it_holds(vendor, account):
    new_account(vendor, "two")
    job = new_job()
    first = pool.reserve_account(vendor, job.pk)
    VendorAccount.objects.filter(pk=first.pk).update(last_used_at=timezone.now())

    assert pool.reserve_account(vendor, job.pk) == first
    assert list(holders().values()).count(job.pk) == 1


def test_busy_account_is_not_given_away(vendor, account):
    job = new_job()
    pool.reserve_account(vendor, job.pk)

    with pytest.raises(NoAccountFree, match="busy") as refusal:
        pool.reserve_account(vendor, new_job().pk)

    assert refusal.value.come_again_in == pool.BUSY_RECHECK
    assert list(holders().values()) == [job.pk]


def test_account_is_free_again_when_it_is_released(vendor, account):
    job, next_job = new_job(), new_job()
    pool.reserve_account(vendor, job.pk)

    pool.release_account(job.pk)

    assert pool.reserve_account(vendor, next_job.pk) == account


@pytest.mark.parametrize("status", ["completed", "failed", "manual", "cancelled"])
def test_account_of_a_finished_job_is_free_though_nobody_released_it(vendor, account, status):
    VendorAccount.objects.update(held_by=new_job(status))
    job = new_job()

    assert pool.reserve_account(vendor, job.pk) == account
    assert list(holders().values()) == [job.pk]


def test_account_of_another_vendor_is_not_used(vendor):
    other = Vendor.objects.create(name="Other", domain="other.example")
    new_account(other, "theirs")

    with pytest.raises(NoUsableAccount, match="Vendor Co has no account; add one"):
        pool.reserve_account(vendor, new_job().pk)


def test_blocked_accounts_are_not_used_and_said_to_be_blocked(vendor, account):
    pool.set_aside(account, "The shop says: suspended.")

    with pytest.raises(NoUsableAccount, match="All 1 accounts of Vendor Co are blocked"):
        pool.reserve_account(vendor, new_job().pk)


def test_setting_aside_forgets_the_session_and_keeps_the_reason(vendor, account):
    account.session_data = {"cookies": []}
    account.save()

    pool.set_aside(account, "The shop says: suspended.")

    account.refresh_from_db()
    assert account.is_blocked
    assert account.blocked_at is not None
    assert account.blocked_reason == "The shop says: suspended."
    assert account.session_data is None


def test_job_whose_account_was_set_aside_gets_another(vendor, account):
    job = new_job()
    pool.reserve_account(vendor, job.pk)
    other = new_account(vendor, "two")
    pool.set_aside(account, "suspended")

    assert pool.reserve_account(vendor, job.pk) == other
    assert holders() == {account.email: None, other.email: job.pk}


def test_unblocking_brings_an_account_back(vendor, account):
    pool.set_aside(account, "suspended")

    assert pool.unblock(VendorAccount.objects.all()) == 1

    account.refresh_from_db()
    assert (account.is_blocked, account.blocked_at, account.blocked_reason) == (False, None, "")
    assert pool.reserve_account(vendor, new_job().pk) == account
    assert pool.unblock(VendorAccount.objects.all()) == 0


@pytest.fixture
def summer_evening() -> Iterator[datetime]:
    """22:30 in UTC and 23:30 in London, where the vendor's day ends half an hour later."""
    moment = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    with time_machine.travel(moment, tick=False):
        yield moment


def test_account_that_has_used_up_its_day_waits_for_midnight_in_london(
    vendor, account, summer_evening
):
    Vendor.objects.update(rate_limit_daily=2)
    vendor.refresh_from_db()
    for _ in range(2):
        pool.count_use(account.pk)

    with pytest.raises(NoAccountFree, match="its 2 items of today") as refusal:
        pool.reserve_account(vendor, new_job().pk)
    assert refusal.value.come_again_in == timedelta(minutes=30)

    with time_machine.travel(summer_evening + timedelta(minutes=30)):
        assert pool.reserve_account(vendor, new_job().pk) == account


def test_account_below_its_limit_is_taken_before_one_that_has_reached_it(vendor, account):
    Vendor.objects.update(rate_limit_daily=1)
    vendor.refresh_from_db()
    fresh = new_account(vendor, "two", last_used_at=timezone.now())
    AccountUsage.objects.create(account=account, day=vendors_today(), items_added=1)

    assert pool.reserve_account(vendor, new_job().pk) == fresh

    with pytest.raises(NoAccountFree, match="busy"):  # one is busy, though the other is used up
        pool.reserve_account(vendor, new_job().pk)


def test_use_is_counted_by_day_and_in_all(account, summer_evening):
    pool.count_use(account.pk)
    pool.count_use(account.pk)
    with time_machine.travel(summer_evening + timedelta(hours=1), tick=False):
        pool.count_use(account.pk)

    account.refresh_from_db()
    days = list(account.usage.order_by("day").values_list("day", "items_added"))
    assert [(str(day), count) for day, count in days] == [("2026-07-01", 2), ("2026-07-02", 1)]
    assert account.total_items_added == 3
    assert account.last_used_at == summer_evening + timedelta(hours=1)


def try_to_reserve(vendor: Vendor, job: Job) -> str:
    try:
        return pool.reserve_account(vendor, job.pk).email
    except NoAccountFree:
        return "none free"


@pytest.mark.django_db(transaction=True)
def test_one_of_many_gets_the_one_account(vendor, account):
    jobs = [new_job() for _ in range(6)]

    answers = elsewhere(*(lambda job=job: try_to_reserve(vendor, job) for job in jobs))

    assert sorted(answers) == ["none free"] * 5 + [account.email]
    (holder,) = holders().values()
    assert answers[[job.pk for job in jobs].index(holder)] == account.email


@pytest.mark.django_db(transaction=True)
def test_as_many_as_there_are_accounts_get_one_each(vendor):
    for number in range(4):
        new_account(vendor, str(number))
    jobs = [new_job() for _ in range(4)]

    answers = elsewhere(*(lambda job=job: try_to_reserve(vendor, job) for job in jobs))

    # A rival may find all rows locked or taken in that moment; it comes again.
    taken = [answer for answer in answers if answer != "none free"]
    assert len(taken) == len(set(taken)) >= 1
    assert set(holders().values()) - {None} <= {job.pk for job in jobs}


@pytest.mark.django_db(transaction=True)
def test_rival_between_choosing_and_holding_goes_away_empty_handed(vendor, account, monkeypatch):
    job, rival = new_job(), new_job()
    rivals_answers = []
    just_before(
        monkeypatch,
        VendorAccount,
        "save",
        lambda: rivals_answers.append(try_to_reserve(vendor, rival)),
    )

    assert try_to_reserve(vendor, job) == account.email

    assert rivals_answers == ["none free"]
    assert list(holders().values()) == [job.pk]


@pytest.mark.django_db(transaction=True)
def test_without_the_row_lock_both_would_have_been_given_the_account(vendor, account, monkeypatch):
    monkeypatch.setattr(VendorAccountQuerySet, "select_for_update", lambda self, **_: self)
    job, rival = new_job(), new_job()
    rivals_answers = []
    just_before(
        monkeypatch,
        VendorAccount,
        "save",
        lambda: rivals_answers.append(try_to_reserve(vendor, rival)),
    )

    assert try_to_reserve(vendor, job) == account.email
    assert rivals_answers == [account.email]


def test_database_lets_a_job_hold_one_account_only(vendor, account):
    job = new_job()
    other = new_account(vendor, "two")
    pool.reserve_account(vendor, job.pk)

    with pytest.raises(IntegrityError, match="held_by"), transaction.atomic():
        VendorAccount.objects.update(held_by=job)
    assert sorted(map(str, holders().values())) == sorted([str(job.pk), "None"])
    assert other.email in holders()


def test_reserving_asks_the_database_little(vendor, account, django_assert_num_queries):
    job = new_job()
    with django_assert_num_queries(7):  # held? accounts, limits, lock, hold; a savepoint here
        pool.reserve_account(vendor, job.pk)
    with django_assert_num_queries(3):
        pool.reserve_account(vendor, job.pk)
