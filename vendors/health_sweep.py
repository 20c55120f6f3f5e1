"""What the scheduler does for the vendors each minute: opens and closes alerts by the rows alone.

Whatever was missed meanwhile (a crash, a scheduler that did not run) is found the next time. Safe
at once in several schedulers: the alert's constraint lets one of them open it.
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from jobs.duties import register_duty
from jobs.models import Job, Status, Step
from jobs.steps import make_ready
from vendors import alerts, figures, pool
from vendors.adding import bound_account_of
from vendors.alerts import Kind
from vendors.models import QueueItem, Vendor, VendorAccount

EVERY = timedelta(minutes=1)
TELL_EVERY = timedelta(seconds=5)
MOST_FAILURES = 10  # per cent (PRD, 13.1, R1)
LEAST_ACCOUNTS = 2  # (PRD, 13.1, R2)
# Items that one sweep sends on to a person; each is a transaction and a wake-up call.
BATCH = 500

AUTOMATED = Q(can_automate=True, requires_captcha=False)


def sweep_alerts() -> None:
    close_resumed()
    check_failures()
    hand_over_waiting()
    check_accounts()
    check_blocks()
    check_late_items()


def check_failures() -> None:
    """Turns off the automation of vendors that fail too often."""
    window = timedelta(minutes=settings.ALERT_WINDOW_MINUTES)
    worse = [
        recent
        for recent in figures.read_recent(window)
        if recent.ended >= settings.ALERT_LEAST_ATTEMPTS
        and 100 * recent.failed > MOST_FAILURES * recent.ended
    ]
    vendors = Vendor.objects.filter(AUTOMATED).in_bulk([recent.vendor_id for recent in worse])
    for recent in worse:
        if vendor := vendors.get(recent.vendor_id):
            alerts.turn_off(
                vendor,
                f"{recent.failed} of the newest {recent.ended} items of {vendor.name} failed, "
                f"which is more than {MOST_FAILURES} %. A person adds its items until the "
                "automation is turned on again: look at the evidence, put the vendor's data "
                "right, resume it.",
                failed=recent.failed,
                ended=recent.ended,
            )


def close_resumed() -> None:
    for alert in alerts.open_alerts(Kind.FAILURES).filter(vendor__can_automate=True):
        alerts.close_alert(alert, "The vendor's automation was turned on again.")


def hand_over_waiting() -> int:
    """Items that wait at a vendor which was turned off are run at once, which hands them to a
    person (`alerts.check_automation`). How many; the rest comes with the next sweep."""
    waits = Step.objects.filter(
        job=OuterRef("pk"),
        name__in=(pool.RESERVE, pool.ADD),
        status=Status.WAITING,
        limited_by="",
    )
    jobs = Job.objects.filter(
        Exists(waits),
        queue_item__vendor__in=alerts.open_alerts(Kind.FAILURES).values("vendor"),
        queue_item__status=QueueItem.Status.PENDING,
    )
    # One that may be in a cart already comes in its own time, and is not handed over.
    free = jobs.annotate(bound=bound_account_of(OuterRef("pk"))).filter(bound=None)
    ids = list(free.order_by("id").values_list("pk", flat=True)[:BATCH])
    for job_id in ids:
        make_ready(job_id)
    return len(ids)


def check_accounts() -> None:
    vendors = Vendor.objects.filter(AUTOMATED).with_account_counts()
    short = [each for each in vendors if each.healthy_accounts < LEAST_ACCOUNTS]
    for vendor in short:
        count = vendor.healthy_accounts
        alerts.open_alert(
            Kind.ACCOUNTS,
            vendor,
            f"{vendor.name} has {count} healthy account{'' if count == 1 else 's'}; "
            f"{LEAST_ACCOUNTS} are the least. Add accounts, or unblock those that are blocked.",
            healthy=count,
            blocked=vendor.blocked_accounts,
        )
    _close_others(Kind.ACCOUNTS, {vendor.pk for vendor in short}, "It has enough accounts again.")


def check_blocks() -> None:
    """Blocks are told when they are seen; here the ones that were not, and those that are over."""
    told = alerts.open_alerts(Kind.BLOCK)
    blocked = VendorAccount.objects.filter(is_blocked=True).exclude(pk__in=told.values("account"))
    for account in blocked.select_related("vendor").defer("password", "session_data"):
        alerts.open_for_block(account, account.blocked_reason)
    for alert in told.filter(account__is_blocked=False):
        alerts.close_alert(alert, "The account was unblocked.")


def check_late_items() -> None:
    deadline = timedelta(seconds=settings.ALERT_DEADLINE_SECONDS)
    late = figures.read_late(deadline)
    vendors = Vendor.objects.in_bulk([each.vendor_id for each in late])
    for each in late:
        vendor = vendors[each.vendor_id]
        count = f"{each.count}" if each.count < figures.MOST_LATE else f"{each.count} or more"
        alerts.open_alert(
            Kind.LATE,
            vendor,
            f"Items of {vendor.name} that are older than {settings.ALERT_DEADLINE_SECONDS} s and "
            f"not done: {count}. The oldest one's page says what it waits for.",
            item=each.oldest,
            count=each.count,
        )
    _close_others(Kind.LATE, set(vendors), "Nothing of it is late any more.")


def _close_others(kind: Kind, vendors: Collection[Any], reason: str) -> None:
    for alert in alerts.open_alerts(kind).exclude(vendor__in=vendors):
        alerts.close_alert(alert, reason)


register_duty("vendor_alerts", sweep_alerts, every=EVERY)
register_duty("vendor_alerts_by_mail", alerts.tell_admins, every=TELL_EVERY)
