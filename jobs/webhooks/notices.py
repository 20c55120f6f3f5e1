"""Writing to the admins of a workspace that a webhook of theirs was disabled because it failed.

By Django's mail, so whatever EMAIL_BACKEND names carries it. Which disabling is told already is a
fact of the endpoint's row, claimed right before the mail is handed over: never told twice, and
once more tried for a day when the mail server cannot be reached.
"""

from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.urls import reverse

from accounts.models import User
from jobs.models import WebhookEndpoint

log = structlog.get_logger(__name__)

TOLD_WITHIN = timedelta(days=1)  # later nobody needs the mail: the inbox says it all the time


def tell_admins() -> int:
    """Tells of every disabling that was not told yet; how many mails were sent. None without
    MAIL_FROM, or where no admin has an address. Safe to repeat, and at once in many processes."""
    if not settings.MAIL_FROM:
        return 0
    return sum(_tell(endpoint) for endpoint in _untold().select_related("workspace"))


def read_disabled(user: User) -> list[dict[str, Any]]:
    """The webhooks of the user's workspace that were disabled because they failed, the oldest
    first, until somebody enables or deletes them."""
    rows = _disabled().filter(workspace=user.workspace_id).order_by("disabled_at", "pk")
    return [
        {
            "id": str(endpoint.pk),
            "title": str(endpoint),
            "reason": endpoint.disabled_reason,
            "at": endpoint.disabled_at,
            "url": _page_of(endpoint),
        }
        for endpoint in rows
    ]


def _disabled() -> QuerySet[WebhookEndpoint]:
    rows = WebhookEndpoint.objects.filter(disabled_for_failing=True, disabled_at__isnull=False)
    return rows.defer("secret", "old_secret")


def _untold() -> QuerySet[WebhookEndpoint]:
    return _disabled().filter(admins_told_at=None, disabled_at__gt=Now() - TOLD_WITHIN)


def _page_of(endpoint: WebhookEndpoint) -> str:
    return reverse("admin:jobs_webhookendpoint_change", args=[endpoint.pk])


def _tell(endpoint: WebhookEndpoint) -> bool:
    admins = User.objects.filter(workspace=endpoint.workspace, is_staff=True, is_active=True)
    addresses = list(admins.exclude(email="").order_by("pk").values_list("email", flat=True))
    if not addresses:
        return False
    try:
        # One mail to all of them: it goes or it does not.
        with get_connection() as connection:
            # Claimed with the way open, and only then sent: what fails before is tried again, what
            # fails after may have gone, and is not.
            if not _untold().filter(pk=endpoint.pk).update(admins_told_at=Now()):
                return False
            _compose(endpoint, addresses, connection).send()
    except Exception:  # each mail backend has errors of its own
        log.exception("webhook_admins_not_told", endpoint=str(endpoint.pk))
        return False
    log.info("webhook_admins_told", endpoint=str(endpoint.pk), admins=len(addresses))
    return True


def _compose(
    endpoint: WebhookEndpoint, addresses: list[str], connection: BaseEmailBackend
) -> EmailMessage:
    name = " ".join(str(endpoint).split())  # a line break would end the subject
    return EmailMessage(
        subject=f"Webhook disabled: {name[:100]}",
        body=f"Nothing is sent to the webhook “{name}” of {endpoint.workspace} any more.\n\n"
        f"{endpoint.disabled_reason}\n\n"
        "What was pending waits; what happens until it is enabled is not made up for. Look at its "
        "deliveries, put its receiver right, then enable it, or delete it if it is not needed:\n"
        f"{settings.PUBLIC_URL.geturl().rstrip('/')}{_page_of(endpoint)}\n",
        from_email=settings.MAIL_FROM,
        to=addresses,
        connection=connection,
    )
