"""The verbs of deliveries: claim what is due, record what came of it, send again.

A claim takes a lease, and the attempt's number is its fencing token: a sender that is paused past
its lease changes nothing any more. A sender that is killed loses nothing; its messages go out again
with the same id when its leases are over.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from accounts.errors import UnsealError
from jobs.models import WebhookDelivery, WebhookEndpoint
from jobs.webhooks import endpoints
from jobs.webhooks.errors import EndpointDisabled
from jobs.webhooks.notices import tell_admins
from jobs.webhooks.payload import TEST_KIND, make_body

log = structlog.get_logger(__name__)

PENDING = WebhookDelivery.Status.PENDING
# An attempt takes 15 s at most; the rest is for a busy machine to write down what came of it.
LEASE = timedelta(seconds=30)
# Of one endpoint at a time: a slow one has so many senders waiting for it and no more.
MOST_OF_ONE = 4
# The example of Standard Webhooks, after the first attempt; three days and three and a half hours.
DELAYS = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
SPREAD = 0.1  # the share that chance adds: what failed together does not come back together
LONGEST_RETRY_AFTER = timedelta(hours=24)
# The standard advises to disable what fails "over a long period of time" and leaves open how long.
# This is a little less than the schedule takes, so the first message that fails for good decides,
# if nothing at all was delivered meanwhile.
DISABLE_AFTER = timedelta(days=3)
GONE = 410
KEPT = timedelta(days=30)  # the PRD's, for jobs
FORGET_BATCH = 1000
BODY_LENGTH, ERROR_LENGTH = 1000, 500  # the columns'
# The newest attempts are kept with what began their answers: two rounds of the schedule, and at
# most some 20 kB in a row that most often has one.
MOST_ATTEMPTS, ATTEMPT_BODY_LENGTH = 20, 300


@dataclass(frozen=True)
class Message:
    """A delivery that is ours to send, for as long as `attempt` is its fencing token."""

    id: str
    attempt: int
    tries: int  # in this round of the schedule, with this one
    url: str
    claimed_at: datetime  # the database's time
    history: Sequence[Mapping[str, Any]] = ()  # of the attempts before this one
    secrets: Sequence[str] = ()  # the newest first
    body: str = ""
    problem: "Answer | None" = None  # why it cannot even be sent


@dataclass(frozen=True)
class Answer:
    """What came of an attempt: a status, or an error that says why there is none."""

    status: int | None = None
    body: str = ""
    error: str = ""
    retry_after: timedelta | None = None
    # That it took; None where nothing was sent. It is no part of what came of it.
    seconds: float | None = field(default=None, compare=False)
    is_ours: bool = False  # the failure: it says nothing of the receiver

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


NOTHING_LEFT = Answer(
    error="The job and its events have been deleted, so there is nothing to send any more.",
    is_ours=True,
)


def claim_due(most: int) -> list[Message]:
    """Deliveries whose time has come, claimed for this process."""
    claimed: list[WebhookDelivery] = []
    with transaction.atomic():
        # Locked so that two senders do not both fill what one endpoint may have at a time. In any
        # order, since nobody waits, and so that none is always the last.
        due = WebhookDelivery.objects.filter(is_due(), endpoint=OuterRef("pk"))
        rows = WebhookEndpoint.objects.filter(Exists(due), disabled_at=None).order_by("?")
        rows = rows.select_for_update(no_key=True, skip_locked=True, of=("self",))
        for endpoint in rows.annotate(time=Now()):
            claimed += _claim_of(endpoint, most - len(claimed))
    return [_message(delivery) for delivery in claimed]


def _claim_of(endpoint: WebhookEndpoint, most: int) -> list[WebhookDelivery]:
    mine = WebhookDelivery.objects.filter(endpoint=endpoint, status=PENDING)
    free = min(most, MOST_OF_ONE - mine.filter(lease_expires_at__gt=Now()).count())
    if free <= 0:
        return []
    due = mine.filter(is_due()).order_by("due_at").values_list("pk", flat=True)
    chosen = list(due.select_for_update(no_key=True, skip_locked=True, of=("self",))[:free])
    rows = WebhookDelivery.objects.filter(pk__in=chosen)
    rows.update(attempt=F("attempt") + 1, lease_expires_at=Now() + LEASE)
    deliveries = list(rows.order_by("due_at"))
    for delivery in deliveries:
        delivery.endpoint = endpoint
    return deliveries


def is_due() -> Q:
    """Of a row that is sent so: it is pending, its time has come, and nobody has claimed it."""
    free = Q(lease_expires_at=None) | Q(lease_expires_at__lte=Now())
    return Q(status=PENDING, due_at__lte=Now()) & free


def _message(delivery: WebhookDelivery) -> Message:
    message = Message(
        id=delivery.pk,
        attempt=delivery.attempt,
        tries=delivery.attempt - delivery.attempts_before,
        url=delivery.endpoint.url,
        claimed_at=delivery.endpoint.time,  # type: ignore[attr-defined]  # annotated
        history=delivery.history,
    )
    try:
        secrets = _valid_secrets(delivery.endpoint)
    except UnsealError as error:  # of one endpoint: the others' messages must go out
        return replace(message, problem=Answer(error=str(error), is_ours=True))
    body = make_body(delivery)
    if body is None:
        return replace(message, problem=NOTHING_LEFT)
    return replace(message, secrets=secrets, body=body)


def _valid_secrets(endpoint: WebhookEndpoint) -> list[str]:
    expires_at = endpoint.old_secret_expires_at
    is_old_valid = expires_at and expires_at > endpoint.time  # type: ignore[attr-defined]  # annotated
    return [endpoint.secret, endpoint.old_secret] if is_old_valid else [endpoint.secret]


def decide_delay(answer: Answer, tries: int, chance: float) -> timedelta | None:
    """When to try again after `tries` failures; None for never. `chance`: from 0 to 1."""
    if tries > len(DELAYS) or answer.status == GONE or answer is NOTHING_LEFT:
        return None
    delay = DELAYS[tries - 1] * (1 + SPREAD * chance)
    return max(delay, min(answer.retry_after or delay, LONGEST_RETRY_AFTER))


def record(message: Message, answer: Answer) -> bool:
    """Writes down what came of an attempt; False when our claim no longer holds."""
    delay = decide_delay(answer, message.tries, random.random())  # noqa: S311
    outcome = describe_outcome(message, answer, answer.error)
    if answer.is_success:
        outcome |= {"status": WebhookDelivery.Status.DELIVERED, "delivered_at": Now()}
    elif delay is None:
        outcome |= {"status": WebhookDelivery.Status.FAILED}
    else:
        outcome |= {"due_at": Now() + delay}
    with transaction.atomic():
        claim = WebhookDelivery.objects.filter(
            pk=message.id, attempt=message.attempt, status=PENDING
        )
        if not claim.update(**outcome):
            return False
        _note_health(message, answer, is_final=delay is None)
    _log(message, answer, delay)
    return True


def describe_outcome(message: Message, answer: Answer, error: str) -> dict[str, Any]:
    """What a row keeps of an attempt, whatever came of it: the claim is over, and its history has
    one more. `error` is for people."""
    attempt = {
        "attempt": message.attempt,
        "at": message.claimed_at.isoformat(),
        "seconds": None if answer.seconds is None else round(answer.seconds, 3),
        "status": answer.status,
        "body": answer.body[:ATTEMPT_BODY_LENGTH],
        "error": error[:ERROR_LENGTH],
    }
    return {
        "lease_expires_at": None,
        "response_status": answer.status,
        "response_body": answer.body[:BODY_LENGTH],
        "error": error[:ERROR_LENGTH],
        # Read when it was claimed: only who has the claim writes it.
        "history": [*message.history, attempt][-MOST_ATTEMPTS:],
    }


def _note_health(message: Message, answer: Answer, *, is_final: bool) -> None:
    endpoint = WebhookEndpoint.objects.filter(deliveries=message.id)
    if answer.is_success:
        endpoint.filter(failing_since__isnull=False).update(failing_since=None)
        return
    if answer.is_ours:
        return
    endpoint.filter(failing_since=None).update(failing_since=Now())
    pk = endpoint.values_list("pk", flat=True).get()
    if answer.status == GONE:
        reason = "The receiver answered 410 Gone: it wants nothing more."
    elif is_final and endpoint.filter(failing_since__lte=Now() - DISABLE_AFTER).exists():
        reason = f"Nothing could be delivered for {DISABLE_AFTER.days} days."
    else:
        return
    if endpoints.disable(pk, reason, for_failing=True):
        log.error("webhook_disabled", endpoint=str(pk), url=message.url, reason=reason)
        transaction.on_commit(tell_admins, robust=True)


def _log(message: Message, answer: Answer, delay: timedelta | None) -> None:
    facts = {"message": message.id, "attempt": message.attempt, "status": answer.status}
    if answer.is_success:
        log.info("webhook_delivered", **facts)
    elif delay is not None:
        log.warning("webhook_retry", **facts, error=answer.error, seconds=delay.total_seconds())
    else:
        log.error("webhook_failed", **facts, error=answer.error)


def send_test(endpoint: WebhookEndpoint) -> WebhookDelivery:
    """A message that says nothing but that it has arrived. Raises EndpointDisabled."""
    _refuse_disabled(endpoint)
    return WebhookDelivery.objects.create(endpoint=endpoint, kind=TEST_KIND)


def redeliver(delivery: WebhookDelivery) -> None:
    """It is due now, with the id it had, whatever came of it before; its schedule starts anew.
    Safe to repeat. Raises EndpointDisabled."""
    _refuse_disabled(delivery.endpoint)
    with transaction.atomic():
        WebhookDelivery.objects.filter(pk=delivery.pk).update(
            status=PENDING, due_at=Now(), attempts_before=F("attempt")
        )
        audit.note(delivery, Act.SENT_AGAIN, webhook=delivery.endpoint)


def _refuse_disabled(endpoint: WebhookEndpoint) -> None:
    if endpoint.disabled_at:
        raise EndpointDisabled("The webhook is disabled. Enable it first.")


def deliveries_of(endpoint: WebhookEndpoint) -> QuerySet[WebhookDelivery]:
    """The newest first."""
    return WebhookDelivery.objects.filter(endpoint=endpoint).order_by("-id")


def forget_old() -> int:
    """Deletes the oldest deliveries, some at a time, when their jobs are archived."""
    # The smallest ids, which begin with the time: the first rows that are read.
    oldest = WebhookDelivery.objects.order_by("id").values("pk")[:FORGET_BATCH]
    over = WebhookDelivery.objects.filter(pk__in=oldest, created_at__lt=Now() - KEPT)
    return over.delete()[0]
