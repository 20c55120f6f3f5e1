"""The verbs of endpoints: add, change, rotate the secret, disable, enable. One transaction each."""

import base64
import re
import secrets
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from accounts.models import User, Workspace
from jobs.models import WebhookEndpoint
from jobs.webhooks import outbox
from jobs.webhooks.addresses import check_url
from jobs.webhooks.errors import InvalidEvents

log = structlog.get_logger(__name__)

SECRET_BYTES = 32  # Standard Webhooks: at least 24
# Time to give the new secret to a receiver that one has to deploy.
OLD_SECRET_STAYS = timedelta(hours=24)
MOST_PATTERNS = 50
LONGEST_PATTERN = 50  # the column's
PATTERN = re.compile(r"\*|[a-z0-9_]+\.\*|[a-z0-9_]+(\.[a-z0-9_]+)+")


def add_endpoint(
    workspace: Workspace,
    url: str,
    *,
    events: Sequence[str],
    description: str = "",
    created_by: User | None = None,
) -> WebhookEndpoint:
    """An endpoint that is told of every matching event that is committed after this is. Its
    `secret` can be shown now; nothing of ours shows it later.

    Raises InvalidUrl or InvalidEvents.
    """
    endpoint = WebhookEndpoint(
        workspace=workspace,
        url=url,
        events=list(events),
        description=description,
        secret=_new_secret(),
        created_by=created_by,
    )
    check_endpoint(endpoint.url, endpoint.events)
    with transaction.atomic():
        outbox.catch_up()
        endpoint.save(force_insert=True)
    log.info("webhook_added", endpoint=str(endpoint.pk), url=url)
    return endpoint


def check_endpoint(url: str, events: Sequence[str]) -> None:
    """Raises InvalidUrl or InvalidEvents."""
    check_url(url, allow_private=settings.WEBHOOKS_ALLOW_PRIVATE)
    check_events(events)


def check_events(events: Sequence[str]) -> None:
    if not events:
        raise InvalidEvents("Say which events, as in job.completed, job.* or *.")
    if len(events) > MOST_PATTERNS:
        raise InvalidEvents(f"At most {MOST_PATTERNS} kinds of events; use job.* or * for more.")
    for pattern in events:
        if len(pattern) > LONGEST_PATTERN or not PATTERN.fullmatch(pattern):
            raise InvalidEvents(
                f"{pattern[:LONGEST_PATTERN]!r} is no kind of event. Write job.completed for one, "
                "job.* for all of jobs, * for everything."
            )


def change_endpoint(endpoint: WebhookEndpoint, **fields: Any) -> None:
    """Changes `url`, `events` or `description`. Raises InvalidUrl or InvalidEvents."""
    check_endpoint(fields.get("url", endpoint.url), fields.get("events", endpoint.events))
    for name, value in fields.items():
        setattr(endpoint, name, value)
    endpoint.save(update_fields=list(fields))


def rotate_secret(
    endpoint_id: uuid.UUID, *, keep_old: timedelta = OLD_SECRET_STAYS
) -> WebhookEndpoint:
    """A new secret; messages are signed with both until `keep_old` is over. A still older one ends
    at once. Raises WebhookEndpoint.DoesNotExist."""
    with transaction.atomic():
        rows = WebhookEndpoint.objects.select_for_update(no_key=True, of=("self",))
        endpoint = rows.get(pk=endpoint_id)
        endpoint.old_secret = endpoint.secret if keep_old else None
        endpoint.old_secret_expires_at = Now() + keep_old if keep_old else None
        endpoint.secret = _new_secret()
        endpoint.save(update_fields=["secret", "old_secret", "old_secret_expires_at"])
        endpoint.refresh_from_db(fields=["old_secret_expires_at"])
    log.info("webhook_secret_rotated", endpoint=str(endpoint_id))
    return endpoint


def forget_old_secrets() -> int:
    """Erases those whose time is over."""
    over = WebhookEndpoint.objects.filter(old_secret_expires_at__lte=Now())
    return over.update(old_secret=None, old_secret_expires_at=None)


def disable(endpoint_id: uuid.UUID, reason: str, *, for_failing: bool = False) -> bool:
    """Nothing is made for it or sent to it any more; what is pending waits. False if it is
    disabled already: the first reason stays. `for_failing`: nobody asked for it, so its admins
    are told."""
    enabled = WebhookEndpoint.objects.filter(pk=endpoint_id, disabled_at=None)
    with transaction.atomic():
        changed = enabled.update(
            disabled_at=Now(), disabled_reason=reason, disabled_for_failing=for_failing
        )
        if changed:
            _note(endpoint_id, Act.DISABLED, reason=reason)
    return bool(changed)


def enable(endpoint_id: uuid.UUID) -> bool:
    """What is pending is sent. What happened while it was disabled is not made up for."""
    with transaction.atomic():
        outbox.catch_up()
        disabled = WebhookEndpoint.objects.filter(pk=endpoint_id, disabled_at__isnull=False)
        changed = disabled.update(
            disabled_at=None,
            disabled_reason="",
            disabled_for_failing=False,
            admins_told_at=None,
            failing_since=None,
        )
        if changed:
            _note(endpoint_id, Act.ENABLED)
    return bool(changed)


def delete_endpoint(endpoint_id: uuid.UUID) -> None:
    """With its deliveries."""
    with transaction.atomic():
        outbox.lock_cursor()  # else a new delivery could come between these and their endpoint
        WebhookEndpoint.objects.filter(pk=endpoint_id).delete()


def _note(endpoint_id: uuid.UUID, act: Act, **facts: Any) -> None:
    rows = WebhookEndpoint.objects.defer("secret", "old_secret")
    audit.note(rows.get(pk=endpoint_id), act, **facts)


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
