"""The account pool: which account does the next add, who waits for one, and what is known of an
account afterwards.

That an add may start by its account's limits is decided by the claim of its step, which has the
account's flow key. Here an account is only chosen, so that nobody waits at one that is paused or at
its limit while another has a place.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import CharField, Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Cast, Now
from django.utils import timezone

from accounts import audit
from accounts.audit import Act
from jobs import flow
from jobs.flow import Cause, Hold
from jobs.keys import replace_key
from jobs.models import FINISHED, Job, Status, Step
from jobs.plans import Change
from jobs.steps import make_ready
from vendors import alerts
from vendors.adding import bound_account_of, find_bound_account
from vendors.errors import CartOutOfReach, NoAccountFree, NoUsableAccount
from vendors.models import (
    VENDORS_DAY,
    AccountUsage,
    CartMove,
    QueueItem,
    Vendor,
    VendorAccount,
    vendors_today,
)

RESERVE, ADD = "reserve_account", "add_to_cart"  # the steps of a cart_add that need an account
SECRETS = ("password", "session_data")  # opened by who needs them
ACCOUNT = "account"  # the kind of an account's flow key
# Whatever makes an account free wakes who waits; this is only for the case that nobody does.
BUSY_RECHECK = timedelta(seconds=5)


class Obstacle(StrEnum):
    """Why an account cannot be reserved now."""

    PAUSED = "paused"
    LIMITED = "at its limit"
    USED_UP = "done for today"
    RESTING = "pausing between two adds"
    BUSY = "busy"


@dataclass(frozen=True)
class Standing:
    """An account that is not blocked, and what stands in the way of reserving it now."""

    account: VendorAccount
    obstacle: Obstacle | None
    hold: Hold | None = None  # by its limit

    def describe(self) -> str:
        account = self.account
        match self.obstacle:
            case Obstacle.PAUSED | Obstacle.LIMITED:
                assert self.hold is not None
                return self.hold.sentence
            case Obstacle.USED_UP:
                return (
                    f"The account {account} has added its {account.most_daily} items of today; the "
                    "next is added after midnight in London."
                )
            case Obstacle.RESTING:
                assert self.rests_until is not None
                return (
                    f"The account {account} is left alone for "
                    f"{account.vendor.seconds_between_adds} s after each add: until "
                    f"{self.rests_until:%H:%M:%S} UTC."
                )
        return f"The account {account} is busy."

    def decide_recheck(self) -> timedelta:
        """When to look again though nobody wakes us."""
        if self.obstacle == Obstacle.USED_UP:
            tomorrow = vendors_today() + timedelta(days=1)
            return datetime.combine(tomorrow, time.min, VENDORS_DAY) - timezone.now()
        if self.obstacle == Obstacle.RESTING:
            assert self.account.rest_left is not None
            return self.account.rest_left
        if self.hold is not None and self.next_start is not None:
            return self.next_start - self.hold.limit.now
        return BUSY_RECHECK

    @property
    def rests_until(self) -> datetime | None:
        """None where it is not resting."""
        account = self.account
        if self.obstacle != Obstacle.RESTING or account.released_at is None:
            return None
        return account.released_at + timedelta(seconds=account.vendor.seconds_between_adds)

    @property
    def next_start(self) -> datetime | None:
        """When its rate allows the next one; None where that is not what stands in the way."""
        if self.hold is None or self.hold.cause != Cause.RATE:
            return None
        return min(flow.decide_slots(self.hold.limit))


def reserve_account(
    vendor: Vendor, job_id: uuid.UUID, *, only: uuid.UUID | None = None
) -> VendorAccount:
    """The account that `job_id` holds from now until it ends: the one it holds already, else `only`
    if that is given, else the one that was used least recently. Safe to repeat.

    Raises NoAccountFree (later there will be one) or NoUsableAccount (there will not).
    """
    with transaction.atomic():
        if held := VendorAccount.objects.filter(held_by=job_id).first():
            if not held.is_blocked and only in (None, held.pk):
                return held
            release_account(job_id)
        standings = find_standings(vendor, only)
        if account := _lock_one([each.account.pk for each in standings if not each.obstacle]):
            account.held_by_id = job_id
            account.save(update_fields=["held_by"])
            return account
    raise _why_none(vendor, standings, only)


def _lock_one(ids: Collection[uuid.UUID]) -> VendorAccount | None:
    """One of these that is free still; a rival may have it by now."""
    return (
        VendorAccount.objects.filter(pk__in=ids, is_blocked=False)
        .free()
        .rested()
        .order_by(F("last_used_at").asc(nulls_first=True), "pk")
        .select_for_update(skip_locked=True, of=("self",))
        .first()
    )


def find_standings(vendor: Vendor, only: uuid.UUID | None = None) -> list[Standing]:
    """How the vendor's accounts stand, or that one of them; those that are blocked are left out."""
    accounts = VendorAccount.objects.filter(vendor=vendor, is_blocked=False)
    if only is not None:
        accounts = accounts.filter(pk=only)
    accounts = (
        accounts.with_freedom().with_daily_items().with_rest().defer("password", "session_data")
    )
    found = list(accounts.select_related("vendor"))
    holds = flow.find_holds([account.flow_key for account in found])
    return [_stand(account, holds.get(account.flow_key)) for account in found]


def _stand(account: VendorAccount, hold: Hold | None) -> Standing:
    if hold is not None:
        is_paused = hold.cause == Cause.PAUSED
        return Standing(account, Obstacle.PAUSED if is_paused else Obstacle.LIMITED, hold)
    if account.daily_items_added >= account.most_daily:
        return Standing(account, Obstacle.USED_UP)
    if not account.is_free:
        return Standing(account, Obstacle.BUSY)
    is_resting = account.rest_left is not None and account.rest_left > timedelta()
    return Standing(account, Obstacle.RESTING if is_resting else None)


def _why_none(
    vendor: Vendor, standings: Sequence[Standing], only: uuid.UUID | None
) -> NoAccountFree | NoUsableAccount:
    if standings:
        recheck = min(each.decide_recheck() for each in standings)
        return NoAccountFree(describe_wait(vendor, standings, only), recheck)
    if only is not None:
        account = VendorAccount.objects.filter(pk=only).first()
        return CartOutOfReach(
            f"The item may be in the cart of {account} at {vendor.name}, and that account is "
            "blocked. Look into its cart by hand; unblock it to have the item go on there."
            if account
            else f"The item may be in the cart of an account of {vendor.name} that was deleted. "
            "Look into its cart by hand before the item is asked for again."
        )
    count = VendorAccount.objects.filter(vendor=vendor).count()
    return NoUsableAccount(
        f"All {count} accounts of {vendor.name} are blocked; unblock one or add another."
        if count
        else f"{vendor.name} has no account; add one."
    )


def describe_wait(
    vendor: Vendor, standings: Sequence[Standing], only: uuid.UUID | None = None
) -> str:
    """What an item waits for that needs one of these accounts."""
    if only is not None:
        return (
            f"The item may be in the cart of {standings[0].account} already, so no other account "
            f"may add it. {standings[0].describe()}"
        )
    # One without an obstacle was taken by a rival this moment.
    counts = Counter(each.obstacle or Obstacle.BUSY for each in standings)
    if len(counts) > 1:
        reasons = ", ".join(f"{counts[why]} {_be(counts[why])} {why}" for why in sorted(counts))
        return (
            f"No account of {vendor.name} is free: {reasons}; the item goes on as soon as one is."
        )
    (obstacle,) = counts
    if len(standings) == 1 and obstacle != Obstacle.BUSY:
        return standings[0].describe()
    match obstacle:
        case Obstacle.PAUSED:
            then = "is paused; the item goes on when one is resumed."
        case Obstacle.LIMITED:
            then = "is at its limit; the item goes on as soon as one may start again."
        case Obstacle.USED_UP:
            then = "has added its items of today; the item goes on after midnight in London."
        case Obstacle.RESTING:
            then = (
                f"is left alone for {vendor.seconds_between_adds} s after each add; the item goes "
                "on as soon as that is over for one."
            )
        case Obstacle.BUSY:
            then = "is busy; the item goes on as soon as one is free."
    return f"Every account of {vendor.name} {then}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


# ---- who waits for an account --------------------------------------------------------------------


def wake_waiting_on_commit(vendor_id: Any) -> None:
    """To be called wherever an account of the vendor may become free, or more may be added."""
    transaction.on_commit(partial(wake_waiting, vendor_id))


def wake_waiting(vendor_id: Any) -> None:
    """As many items as the vendor has accounts to give now try again, those first that wait
    longest. After the commit of whatever may have made an account free. Safe to repeat; should it
    never happen, an item's own time comes."""
    if not _anybody_waits(vendor_id):
        return
    vendor = Vendor.objects.filter(pk=vendor_id).first()
    if vendor is None:
        return
    standings = find_standings(vendor)
    for each in standings:
        if each.rests_until is not None:
            _call_back(vendor, each.account, each.rests_until)
    usable = {str(each.account.pk) for each in standings if not each.obstacle}
    if not usable:
        return
    # Twice as many: several may be bound to the same account.
    waiting = [
        each
        for jobs in _jobs_that_wait(vendor, usable)
        for each in jobs.order_by("-priority", "id").values_list("priority", "pk", "bound")[
            : 2 * len(usable)
        ]
    ]
    for _, job_id, bound in sorted(waiting, key=lambda each: (-each[0], each[1])):
        if not usable:
            return
        if bound is None or bound in usable:
            make_ready(job_id)
            usable.discard(bound or next(iter(usable)))


def _anybody_waits(vendor_id: Any) -> bool:
    """Whoever waits for an account waits for a vendor. Asked after each add, so first of all: it
    reads the index of what waits, however many are ready."""
    waiting = Step.objects.filter(status=Status.WAITING, limited_by="")
    return waiting.filter(flow_keys__contains=[f"vendor:{vendor_id}"]).exists()


def _call_back(vendor: Vendor, account: VendorAccount, moment: datetime) -> None:
    """Has the one that waits longest for the account come again at that moment, of adds and of
    moves: whoever gets it then calls back the next."""
    for jobs in _jobs_that_wait(vendor, [str(account.pk)]):
        first = jobs.order_by("-priority", "id").values("pk")[:1]
        flow.bring_forward(Job.objects.filter(pk__in=first), moment)


def _jobs_that_wait(vendor: Vendor, accounts: Collection[str]) -> list[QuerySet[Any]]:
    """Those that wait for any account or for one of these; `bound` is the only one that will do.
    The adds and the moves apart, so that each are found by their own index."""
    waits = Step.objects.filter(
        job=OuterRef("pk"), name__in=(RESERVE, ADD), status=Status.WAITING, limited_by=""
    )
    # Who has an account waits for something else.
    jobs = Job.objects.filter(Exists(waits), held_account=None)
    adds = jobs.filter(
        queue_item__vendor=vendor, queue_item__status=QueueItem.Status.PENDING
    ).annotate(bound=bound_account_of(OuterRef("pk")))
    moves = jobs.filter(
        cart_move__status=CartMove.Status.PENDING,
        cart_move__migration__new_account__in=[uuid.UUID(account) for account in accounts],
    ).annotate(bound=Cast("cart_move__migration__new_account", CharField()))
    return [adds.filter(Q(bound=None) | Q(bound__in=accounts)), moves]


@dataclass(frozen=True)
class Need:
    """What a job waits for: an account of this vendor, or that one of them."""

    vendor: Vendor
    only: uuid.UUID | None


def find_need(job_id: uuid.UUID) -> Need | None:
    """None for a job that needs no account, or has one."""
    if VendorAccount.objects.filter(held_by=job_id).exists():
        return None
    if item := QueueItem.objects.select_related("vendor").filter(job=job_id).first():
        return Need(item.vendor, find_bound_account(job_id))
    moves = CartMove.objects.select_related("migration__new_account__vendor").filter(job=job_id)
    if move := moves.defer(*(f"migration__new_account__{name}" for name in SECRETS)).first():
        account = move.migration.new_account
        return Need(account.vendor, account.pk)
    return None


def wake_if_possible(job_id: uuid.UUID) -> None:
    """After the commit that has put the job off: of an account that became free and a job that
    found none in the same moment, one sees the other."""
    need = find_need(job_id)
    if need is None:
        return
    standings = find_standings(need.vendor, need.only)
    with transaction.atomic():  # a row that somebody has locked would only be missed again
        found = _lock_one([each.account.pk for each in standings if not each.obstacle])
    if found is not None:
        make_ready(job_id)


def wake_for_account(account_id: str) -> None:
    """After a change of the account's limit, or a start by it: who waits goes on now, or comes
    again when the account may start next."""
    account = find_account(account_id)
    if account is None:
        return
    wake_waiting(account.vendor_id)
    for standing in find_standings(account.vendor, account.pk):
        if standing.next_start is not None:
            for jobs in _jobs_that_wait(account.vendor, [account_id]):
                flow.bring_forward(jobs, standing.next_start)


def find_account(pk: str) -> VendorAccount | None:
    try:
        return VendorAccount.objects.defer("password", "session_data").filter(pk=pk).first()
    except ValidationError:  # a person may have typed anything
        return None


def follow_job(change: Change) -> None:
    """For whatever needs an account: its waiting and its end, as its workflow is told of them; in
    the transaction of each change."""
    if change.job_status == Status.PENDING:
        # Run again, it has no account: it is not held back by the limits of the one that it had.
        replace_key(change.job_id, ACCOUNT, None, of=ADD)
    if change.step_status == Status.WAITING and not change.error:
        transaction.on_commit(partial(wake_if_possible, change.job_id))
    # A cancelled job's browser may be at work for a moment yet; its end is told as well.
    if change.job_status in FINISHED and change.step_status != Status.RUNNING:
        release_account(change.job_id)
        wake_waiting_on_commit(change.params["vendor"])


# ---- what is known of an account -----------------------------------------------------------------


def release_account(job_id: uuid.UUID) -> None:
    VendorAccount.objects.filter(held_by=job_id).update(held_by=None, released_at=Now())


def set_aside(account: VendorAccount, reason: str) -> None:
    """The vendor refuses this account: no job uses it until a person unblocks it."""
    with transaction.atomic():
        VendorAccount.objects.filter(pk=account.pk).update(
            is_blocked=True,
            blocked_at=timezone.now(),
            blocked_reason=reason[:500],
            session_data=None,
        )
        audit.note(account, Act.SET_ASIDE, reason=reason)
        alerts.open_for_block(account, reason)


def unblock(accounts: QuerySet[VendorAccount]) -> int:
    """A person says that the vendor takes these accounts again. Returns how many were blocked."""
    with transaction.atomic():
        rows = VendorAccount.objects.filter(pk__in=accounts.values("pk"), is_blocked=True)
        blocked = list(rows.order_by("pk").select_for_update(no_key=True, of=("self",)))
        VendorAccount.objects.filter(pk__in=[account.pk for account in blocked]).update(
            is_blocked=False, blocked_at=None, blocked_reason=""
        )
        for account in blocked:
            audit.note(account, Act.UNBLOCKED)
        for vendor_id in {account.vendor_id for account in blocked}:
            wake_waiting_on_commit(vendor_id)
    return len(blocked)


def count_use(account_id: uuid.UUID) -> None:
    """One more item added by this account. Part of the transaction that completes the item."""
    usage = {"account_id": account_id, "day": vendors_today()}
    if not _count_item(**usage):
        AccountUsage.objects.bulk_create([AccountUsage(**usage)], ignore_conflicts=True)
        _count_item(**usage)
    VendorAccount.objects.filter(pk=account_id).update(
        total_items_added=F("total_items_added") + 1, last_used_at=timezone.now()
    )


def _count_item(**usage: Any) -> int:
    return AccountUsage.objects.filter(**usage).update(items_added=F("items_added") + 1)
