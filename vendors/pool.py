"""The account pool: which account does the next add, and what is known of it afterwards."""

import uuid
from datetime import datetime, time, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Case, F, OuterRef, QuerySet, When
from django.utils import timezone

from jobs.flow import is_paused
from vendors.errors import NoAccountFree, NoUsableAccount
from vendors.models import VENDORS_DAY, AccountUsage, Vendor, VendorAccount, vendors_today

# A busy account is free again when its add is done, and that wakes the next item at once; this is
# only for the case that nobody wakes it.
BUSY_RECHECK = timedelta(seconds=5)
# Which account does an add is known here alone, so its pause is obeyed here. What an account is at
# work on when it is paused goes on.
IS_PAUSED = is_paused("account", OuterRef("pk"))


def reserve_account(
    vendor: Vendor, job_id: uuid.UUID, *, prefer: uuid.UUID | None = None
) -> VendorAccount:
    """The account that `job_id` holds from now until it ends: the one it holds already, else
    `prefer`, else the one that was used least recently. Safe to repeat.

    Raises NoAccountFree (later there will be one) or NoUsableAccount (there will not).
    """
    with transaction.atomic():
        if held := VendorAccount.objects.filter(held_by=job_id).first():
            if not held.is_blocked:
                return held
            release_account(job_id)
        first = [Case(When(pk=prefer, then=0), default=1)] if prefer else []
        account = (
            VendorAccount.objects.filter(vendor=vendor, is_blocked=False)
            .exclude(IS_PAUSED)
            .free()
            .with_daily_items()
            .filter(daily_items_added__lt=vendor.rate_limit_daily)  # type: ignore[misc]
            .order_by(*first, F("last_used_at").asc(nulls_first=True), "pk")
            .select_for_update(skip_locked=True, of=("self",))
            .first()
        )
        if account is None:
            raise _why_none(vendor)
        account.held_by_id = job_id
        account.save(update_fields=["held_by"])
        return account


def _why_none(vendor: Vendor) -> NoAccountFree | NoUsableAccount:
    accounts = VendorAccount.objects.filter(vendor=vendor)
    usable = accounts.filter(is_blocked=False).with_daily_items()
    if not usable:
        count = len(accounts)
        sentence = (
            f"All {count} accounts of {vendor.name} are blocked; unblock one or add another."
            if count
            else f"{vendor.name} has no account; add one."
        )
        return NoUsableAccount(sentence)
    if not usable.exclude(IS_PAUSED):
        sentence = (
            f"Every account of {vendor.name} is paused; the item goes on when one is resumed."
        )
        return NoAccountFree(sentence, BUSY_RECHECK)
    if all(account.daily_items_added >= vendor.rate_limit_daily for account in usable):
        midnight = datetime.combine(vendors_today() + timedelta(days=1), time.min, VENDORS_DAY)
        sentence = (
            f"Every account of {vendor.name} has added its {vendor.rate_limit_daily} items of "
            "today; the item goes on after midnight in London."
        )
        return NoAccountFree(sentence, midnight - timezone.now())
    return NoAccountFree(
        f"Every account of {vendor.name} is busy; the item goes on as soon as one is free.",
        BUSY_RECHECK,
    )


def release_account(job_id: uuid.UUID) -> None:
    VendorAccount.objects.filter(held_by=job_id).update(held_by=None)


def set_aside(account: VendorAccount, reason: str) -> None:
    """The vendor refuses this account: no job uses it until a person unblocks it."""
    VendorAccount.objects.filter(pk=account.pk).update(
        is_blocked=True, blocked_at=timezone.now(), blocked_reason=reason[:500], session_data=None
    )


def unblock(accounts: QuerySet[VendorAccount]) -> int:
    """A person says that the vendor takes these accounts again. Returns how many were blocked."""
    blocked = VendorAccount.objects.filter(pk__in=accounts.values("pk"), is_blocked=True)
    return blocked.update(is_blocked=False, blocked_at=None, blocked_reason="")


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
