"""Messages that come in: each is read, kept once, and given to the request that it fits.

What is not given waits two minutes for its request, or for a person; then its text is erased.
"""

import hashlib
import hmac
import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.audit import Act
from accounts.models import User
from jobs import waits
from jobs.errors import InvalidAnswer, WaitClosed
from jobs.models import InboundMessage, InboundSource, OtpRequest, OtpRule
from jobs.otp import requests
from jobs.otp.matching import Asking, AskPerson, Decision, Give, decide_request
from jobs.otp.parsing import MAX_TEXT, Reading, read_message

log = structlog.get_logger(__name__)

KEEP_TEXT = timedelta(minutes=15)
"""Long enough for a person to decide, short enough for a secret."""

REPEATED = timedelta(minutes=10)
"""The same words from the same sender within this are the same message, sent again."""

Status = InboundMessage.Status


@dataclass(frozen=True)
class Inbound:
    """A message as a source hands it over. `external_id`: the source's own, if it has one;
    `service` and `context`: what the source knows of it beside its text."""

    sender: str
    text: str
    recipient: str = ""
    external_id: str | None = None
    sent_at: datetime | None = None
    service: str = ""
    context: str = ""


def receive(
    inbound: Inbound, *, workspace_id: uuid.UUID, source: InboundSource | None = None
) -> InboundMessage:
    """The message as it was kept, and given to its request if it fits one. Safe to repeat."""
    if source and not inbound.recipient:
        inbound = replace(inbound, recipient=source.phone_number)
    now = timezone.now()
    with transaction.atomic():
        waits.lock_topics([requests.topic(workspace_id)])
        message = InboundMessage(
            workspace_id=workspace_id,
            source=source,
            sender=inbound.sender[:200],
            recipient=inbound.recipient[:32],
            fingerprint=_fingerprint(inbound, source),
            sent_at=inbound.sent_at,
            received_at=now,
        )
        if repeated := _find_repeated(message, has_name=_has_name(inbound)):
            log.info("message_repeated", message=str(repeated.pk))
            return repeated
        rules = list(OtpRule.objects.filter(workspace_id=workspace_id))
        reading = read_message(inbound.text, inbound.sender, rules)
        if inbound.service:
            reading = replace(reading, service=inbound.service)
        if inbound.context:
            reading = replace(reading, context=inbound.context)
        message.service = (reading.service or "")[:100]
        message.context = (reading.context or "")[:100]
        message.text = inbound.text[:MAX_TEXT] if reading.codes else None
        message.code = reading.codes[0] if len(reading.codes) == 1 else None
        if reading.codes:
            _place(message, reading, {rule.service for rule in rules})
        else:
            message.status = Status.NO_CODE
        message.save(force_insert=True)
    log.info("message_received", message=str(message.pk), status=message.status)
    return message


def _place(message: InboundMessage, reading: Reading, services_with_rules: Collection[str]) -> None:
    """Gives the message's code to its request, or says why not; the caller saves it."""
    match decide(message, reading, services_with_rules):
        case Give(request_id, code) if requests.give_code(
            request_id, code, message=f"A message with the code came from {message.sender}."
        ):
            message.status, message.given_to_id = Status.GIVEN, request_id
            message.text = message.code = None
        case AskPerson(reason):
            message.status, message.reason = Status.UNCLEAR, reason
        case _:
            message.status = Status.KEPT


def decide(
    message: InboundMessage, reading: Reading, services_with_rules: Collection[str]
) -> Decision:
    asking = OtpRequest.objects.filter(
        workspace_id=message.workspace_id,
        status=requests.WAITING,
        timeout_at__gt=message.received_at,
        wait__status="open",
    )
    return decide_request(
        reading,
        recipient=message.recipient,
        received_at=message.received_at,
        asking=[
            Asking(each.pk, each.service, each.phone_number, each.context, each.not_before)
            for each in asking
        ],
        services_with_rules=services_with_rules,
    )


def take_kept_message(opened: list[OtpRequest]) -> bool:
    """Gives a message that came first to a request that has just been opened, if they fit; tells
    whether it did. Needs the workspace's lock, and the transaction that opens the request."""
    for request in opened:
        kept = InboundMessage.objects.filter(
            workspace_id=request.workspace_id,
            status=Status.KEPT,
            received_at__gte=request.not_before,
            code__isnull=False,
        )
        services = set(
            OtpRule.objects.filter(workspace_id=request.workspace_id).values_list(
                "service", flat=True
            )
        )
        for message in kept.order_by("-id"):  # the newest is the one that is good
            reading = Reading(
                (message.code or "",), message.service or None, message.context or None
            )
            _place(message, reading, services)
            message.save()
            if message.given_to_id == request.pk:
                return True
    return False


def assign(
    message: InboundMessage, request_id: uuid.UUID, by: User, *, code: str | None = None
) -> None:
    """A person says which request an unclear message is for, and which of its numbers is the code
    if there are several. Raises InvalidAnswer or WaitClosed; then nothing changed.
    """
    with transaction.atomic():
        waits.lock_topics([requests.topic(message.workspace_id)])
        message.refresh_from_db()
        if message.status not in (Status.UNCLEAR, Status.KEPT):
            raise WaitClosed("Somebody has dealt with this message already. Look again.")
        chosen = requests.cleaned(code) if code else message.code
        if chosen is None:
            raise InvalidAnswer(
                "Several numbers of the message may be the code: type the right one."
            )
        ours = OtpRequest.objects.filter(pk=request_id, workspace_id=message.workspace_id)
        said = f"{by.get_username()} chose the code."
        if not ours.exists() or not requests.give_code(request_id, chosen, message=said, by=by):
            raise WaitClosed("This code is not waited for any more. Look at the job again.")
        message.status, message.given_to_id = Status.GIVEN, request_id
        message.text = message.code = None
        message.save()
        audit.note(message, Act.ASSIGNED, by=by, request=request_id)


def erase_old_codes() -> int:
    """Erases codes and texts that nobody will use any more. Returns how many there were."""
    now = timezone.now()
    messages = InboundMessage.objects.filter(text__isnull=False, received_at__lt=now - KEEP_TEXT)
    codes = OtpRequest.objects.filter(otp_value__isnull=False, timeout_at__lt=now - KEEP_TEXT)
    return messages.update(text=None, code=None) + codes.update(otp_value=None)


def _has_name(inbound: Inbound) -> bool:
    """Whether its source tells it from another message of the same words."""
    return bool(inbound.external_id or inbound.sent_at)


def _find_repeated(message: InboundMessage, *, has_name: bool) -> InboundMessage | None:
    same = InboundMessage.objects.filter(
        workspace_id=message.workspace_id, fingerprint=message.fingerprint
    )
    if not has_name:
        same = same.filter(received_at__gt=message.received_at - REPEATED)
    return same.first()


def _fingerprint(inbound: Inbound, source: InboundSource | None) -> str:
    """What two deliveries of one message have in common: the source's id for it, else what it says
    and when it was sent. Keyed, as a code is short enough to be guessed from a plain hash."""
    if inbound.external_id:
        parts = [str(source.pk if source else ""), inbound.external_id]
    else:
        sent_at = inbound.sent_at.isoformat() if inbound.sent_at else ""
        parts = [inbound.sender, inbound.recipient, inbound.text, sent_at]
    key = hashlib.sha256(f"inbound:{settings.SECRET_KEY}".encode()).digest()
    return hmac.new(key, "\0".join(parts).encode(), "sha256").hexdigest()
