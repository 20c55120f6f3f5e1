"""The verbs of alerts: open, close, tell; and turning a vendor's automation off and on again.

What is a cause for an alert, `health_sweep.py` reads from the rows; only a block is told from where
it is seen. An alert's events belong to a job that was made to bear them (`jobs/records.py`), so
webhooks and timelines take them as any others: `alert.opened` and `alert.closed`.
"""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from accounts import audit
from accounts.audit import Act
from accounts.models import User
from jobs.errors import Becomes, BusinessError
from jobs.records import record_job, record_more
from vendors.models import Alert, CartItem, Vendor, VendorAccount

log = structlog.get_logger(__name__)

Kind = Alert.Kind

SYSTEM = "Cartwright"  # who acts when nobody does
WORKFLOW = "vendor_alert"  # what the jobs are called that bear alerts' events
MESSAGE_LENGTH, REASON_LENGTH = 1000, 300  # the columns'
TOLD_WITHIN = timedelta(days=1)  # later nobody needs the mail: the page says it all the time


def open_alerts(kind: Alert.Kind | None = None) -> QuerySet[Alert]:
    """Newest first."""
    alerts = Alert.objects.filter(closed_at=None, **({"kind": kind} if kind else {}))
    unused = ("vendor__selectors", "account__password", "account__session_data")
    return alerts.select_related("vendor", "account").defer(*unused)


def open_alert(
    kind: Alert.Kind,
    vendor: Vendor,
    message: str,
    *,
    account: VendorAccount | None = None,
    item: uuid.UUID | None = None,
    **details: Any,
) -> Alert | None:
    """None when this cause has an open alert already: the constraint decides, also between two
    schedulers. Safe to repeat."""
    alert = Alert(
        kind=kind,
        vendor=vendor,
        account=account,
        item_id=item,
        message=message[:MESSAGE_LENGTH],
        details=details,
    )
    with transaction.atomic():
        Alert.objects.bulk_create([alert], ignore_conflicts=True)
        if not Alert.objects.filter(pk=alert.pk).exists():
            return None
        alert.opened_at = timezone.now()  # about; the row has the database's
        alert.job = record_job(WORKFLOW, "alert.opened", alert.message, describe_alert(alert))
        Alert.objects.filter(pk=alert.pk).update(job=alert.job)
    log.error("alert_opened", alert=str(alert.pk), kind=kind, vendor=str(vendor.pk))
    return alert


def close_alert(alert: Alert, reason: str) -> bool:
    """False when somebody has closed it already: the first reason stays."""
    reason = reason[:REASON_LENGTH]
    with transaction.atomic():
        still = Alert.objects.filter(pk=alert.pk, closed_at=None)
        if not still.update(closed_at=Now(), closed_reason=reason):
            return False
        alert.refresh_from_db(fields=["opened_at", "closed_at", "closed_reason", "job"])
        if alert.job_id:
            sentence = f"Over: {alert}. {reason}"
            record_more(alert.job_id, "alert.closed", sentence, describe_alert(alert))
    log.info("alert_closed", alert=str(alert.pk), kind=alert.kind)
    return True


def describe_alert(alert: Alert) -> dict[str, Any]:
    """As REST and webhooks have it."""
    return {
        "id": str(alert.pk),
        "kind": alert.kind,
        "vendor_id": str(alert.vendor_id),
        "vendor_name": alert.vendor.name,
        "account_id": str(alert.account_id) if alert.account_id else None,
        "queue_id": str(alert.item_id) if alert.item_id else None,
        "message": alert.message,
        "details": alert.details,
        "opened_at": alert.opened_at.isoformat(),
        "closed_at": alert.closed_at.isoformat() if alert.closed_at else None,
        "closed_reason": alert.closed_reason,
    }


# ---- blocks -------------------------------------------------------------------------------------


def open_for_block(account: VendorAccount, reason: str) -> Alert | None:
    """Part of the transaction that sets the account aside."""
    return open_alert(
        Kind.BLOCK,
        account.vendor,
        f"{account.vendor.name} refuses the account {account}: {reason} Sign in by hand to see "
        f"what it wants, then unblock the account.{_describe_cart(account)}",
        account=account,
    )


def _describe_cart(account: VendorAccount) -> str:
    count = CartItem.objects.in_cart().filter(vendor_account=account).count()
    if not count:
        return ""
    if account.vendor.migrate_on_block:
        return f" What stands in its cart ({count}) is moved to another account by itself."
    return f" Or move what stands in its cart ({count}) to another account, on the accounts' page."


# ---- a vendor whose automation fails -----------------------------------------------------------


def turn_off(vendor: Vendor, message: str, **details: Any) -> bool:
    """From now on a person adds this vendor's items, until a person turns its automation on again.
    False when it is off already."""
    with transaction.atomic():
        rows = Vendor.objects.select_for_update(no_key=True, of=("self",))
        locked = rows.get(pk=vendor.pk)
        if not locked.can_automate or not open_alert(Kind.FAILURES, locked, message, **details):
            return False
        Vendor.objects.filter(pk=vendor.pk).update(can_automate=False)
        changes = {"can_automate": (True, False)}
        audit.note(locked, Act.PAUSED, by=SYSTEM, changes=changes, reason=message)
    log.error("vendor_turned_off", vendor=str(vendor.pk), **details)
    return True


def turn_on(vendor_id: uuid.UUID, *, by: User) -> bool:
    """A person has seen to it. What failed before counts no more. False when it was not turned off
    by us: what a person turned off stays off. What went to a person meanwhile stays there."""
    with transaction.atomic():
        rows = Vendor.objects.select_for_update(no_key=True, of=("self",))
        vendor = rows.get(pk=vendor_id)
        alert = open_alerts(Kind.FAILURES).filter(vendor=vendor).first()
        if alert is None:
            return False
        Vendor.objects.filter(pk=vendor.pk).update(can_automate=True)
        changes = {"can_automate": (vendor.can_automate, True)}
        audit.note(vendor, Act.RESUMED, by=by, changes=changes)
        close_alert(alert, f"{by.get_username()} turned the automation on again.")
    return True


def check_automation(vendor: Vendor, *, bound: uuid.UUID | None) -> None:
    """Raises what hands an item to a person whose vendor is not automated any more. An item that
    may be in a cart already (`bound`) is brought to its end: somebody has to read that cart."""
    if bound is not None or (vendor.can_automate and not vendor.requires_captcha):
        return
    alert = open_alerts(Kind.FAILURES).filter(vendor=vendor).first()
    sentence = alert.message if alert else vendor.why_manual()
    raise BusinessError("manual_vendor", sentence or "", Becomes.MANUAL)


# ---- telling ------------------------------------------------------------------------------------


def tell_admins() -> int:
    """Writes to the admins of alerts that they were not told of yet, one mail for all of them; of
    how many. None without MAIL_FROM or an admin's address. Claimed with the way to the mail server
    open and only then sent: never told twice. Safe at once in many processes."""
    if not settings.MAIL_FROM or not _untold().exists():
        return 0
    groups = _find_addresses()
    if not groups:
        return 0
    try:
        with get_connection() as connection:
            alerts = _claim_untold()
            if not alerts:
                return 0
            connection.send_messages([_compose(alerts, to, connection) for to in groups])
    except Exception:  # each mail backend has errors of its own
        log.exception("alerts_not_told")
        return 0
    log.info("alerts_told", alerts=len(alerts))
    return len(alerts)


def _untold() -> QuerySet[Alert]:
    return Alert.objects.filter(told_at=None, opened_at__gt=Now() - TOLD_WITHIN)


def _find_addresses() -> list[list[str]]:
    """By workspace: vendors are everybody's, but who is in which team is not."""
    admins = User.objects.filter(is_staff=True, is_active=True).exclude(email="")
    groups: dict[uuid.UUID, list[str]] = {}
    for workspace, email in admins.order_by("pk").values_list("workspace", "email"):
        groups.setdefault(workspace, []).append(email)
    return list(groups.values())


def _claim_untold() -> list[Alert]:
    with transaction.atomic():
        rows = _untold().select_for_update(no_key=True, skip_locked=True, of=("self",))
        ids = [alert.pk for alert in rows.order_by("pk")]
        Alert.objects.filter(pk__in=ids).update(told_at=Now())
    return list(Alert.objects.filter(pk__in=ids).select_related("vendor").order_by("pk"))


def _compose(alerts: Sequence[Alert], to: list[str], connection: BaseEmailBackend) -> EmailMessage:
    first = alerts[0]
    what = (
        f"{first.get_kind_display()}: {first.vendor}"
        if len(alerts) == 1
        else "Alerts: " + str(len(alerts))
    )
    page = settings.PUBLIC_URL.geturl().rstrip("/") + reverse("vendors:health")
    return EmailMessage(
        subject=" ".join(what.split())[:150],  # a line break would end the subject
        body="\n\n".join([*(f"{alert.vendor}: {alert.message}" for alert in alerts), page]) + "\n",
        from_email=settings.MAIL_FROM,
        to=to,
        connection=connection,
    )
