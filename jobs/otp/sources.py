"""What forwarders of messages send, as an `Inbound`: their JSON or form, and their signatures.

Formats: "Incoming SMS to URL" (from, text, sentStamp), SMS Gateway for Android (`sms:received`,
HMAC-SHA256 over body and timestamp), Twilio (form, HMAC-SHA1 over address and fields), e-mail as
JSON, and the event `otp/received` of voucher-bulk-purchase (otpText, originating_service,
context_id). One that sends other names for the same things is understood as well.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from jobs.errors import JobsError
from jobs.models import InboundSource
from jobs.otp.messages import Inbound

CLOCK_SKEW_SECONDS = 300  # SMS Gateway for Android: a signature is good for five minutes

FROM = ("from", "sender", "From", "phoneNumber")
TO = ("to", "recipient", "To")
TEXT = ("text", "message", "body", "Body", "content", "otpText")
ID = ("id", "messageId", "message_id", "MessageSid")
SENT = ("sentStamp", "sent_at", "receivedAt", "receivedStamp", "date")


class InvalidSignature(JobsError):
    code = "invalid_signature"


class InvalidMessage(JobsError):
    code = "invalid_message"


@dataclass(frozen=True)
class Delivery:
    """A call as it came. `url` is the one that the sender called, for it may be signed."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    now: datetime


def is_signed(source: InboundSource) -> bool:
    """Whether its signature says who calls; the others need an API key."""
    return source.kind in SIGNATURES


def check_signature(delivery: Delivery, source: InboundSource) -> None:
    """Raises InvalidSignature."""
    if not source.secret:
        raise InvalidSignature(f"{source.name} has no secret yet: enter the one it signs with.")
    SIGNATURES[InboundSource.Kind(source.kind)](delivery, source.secret.encode())


def _check_gateway(delivery: Delivery, secret: bytes) -> None:
    timestamp = delivery.headers.get("X-Timestamp", "")
    expected = hmac.new(secret, delivery.body + timestamp.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, delivery.headers.get("X-Signature", "").lower()):
        raise InvalidSignature("The signature is wrong: compare the signing key on the phone.")
    if not timestamp.isdecimal() or (
        abs(delivery.now.timestamp() - int(timestamp)) > CLOCK_SKEW_SECONDS
    ):
        raise InvalidSignature(
            "The signature is too old, or the phone's clock is wrong: let the phone take its time "
            "from the network, then send the message again."
        )


def _check_twilio(delivery: Delivery, secret: bytes) -> None:
    fields = sorted(_form(delivery.body).items())
    signed = delivery.url + "".join(name + value for name, value in fields)
    expected = base64.b64encode(hmac.new(secret, signed.encode(), hashlib.sha1).digest())
    if not hmac.compare_digest(expected, delivery.headers.get("X-Twilio-Signature", "").encode()):
        raise InvalidSignature(
            "The signature is wrong: compare the auth token, and PUBLIC_URL with the address that "
            "Twilio calls."
        )


SIGNATURES: dict[InboundSource.Kind, Callable[[Delivery, bytes], None]] = {
    InboundSource.Kind.SMS_GATEWAY: _check_gateway,
    InboundSource.Kind.TWILIO: _check_twilio,
}


def read_delivery(delivery: Delivery) -> Inbound | None:
    """The message in it; None for an event that brings none. Raises InvalidMessage."""
    content_type = delivery.headers.get("Content-Type", "")
    is_form = content_type.startswith("application/x-www-form-urlencoded")
    fields: Mapping[str, Any] = _form(delivery.body) if is_form else _json_object(delivery.body)
    name = None
    match fields:
        case {"payload": dict(payload)}:  # SMS Gateway for Android: an envelope
            if fields.get("event", "sms:received") != "sms:received":
                return None
            # Its messageId may come twice for different messages; the event's own id does not.
            name, fields = fields.get("id"), payload
        case {"name": "otp/received", "data": dict(data)}:
            fields = data
    text = _first(fields, TEXT)
    if not text:
        raise InvalidMessage('There is no text in it: send {"from": ..., "text": ...}.')
    if subject := fields.get("subject"):
        text = f"{subject}\n{text}"
    name = name or _first(fields, ID)
    return Inbound(
        sender=_first(fields, FROM),
        text=text,
        recipient=_first(fields, TO),
        external_id=str(name)[:200] if name else None,
        sent_at=_moment(_first(fields, SENT)),
        service=_first(fields, ("originating_service", "service")),
        context=_first(fields, ("context_id", "context")),
    )


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    values = (fields.get(name) for name in names)
    return next((str(value).replace("\0", "") for value in values if value not in (None, "")), "")


def _moment(text: str) -> datetime | None:
    """ISO 8601, or seconds or milliseconds since 1970; None for what is neither."""
    try:
        if text.isdecimal():
            stamp = int(text)
            return datetime.fromtimestamp(stamp / 1000 if stamp > 10**11 else stamp, tz=UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(
            'The body is neither JSON nor a form: send {"from": ..., "text": ...}.'
        ) from error
    if not isinstance(fields, dict):
        raise InvalidMessage('The body must be a JSON object: {"from": ..., "text": ...}.')
    return fields
