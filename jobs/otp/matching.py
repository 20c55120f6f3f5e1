"""Which request a code is for. Pure: it is told everything, and writes nothing."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from jobs.otp.parsing import Reading, same_phone


@dataclass(frozen=True)
class Asking:
    """An open request, as far as matching goes."""

    id: uuid.UUID
    service: str
    phone_number: str
    context: str
    not_before: datetime


@dataclass(frozen=True)
class Give:
    request_id: uuid.UUID
    code: str


@dataclass(frozen=True)
class Keep:
    """Nobody waits for it, yet."""


@dataclass(frozen=True)
class AskPerson:
    reason: str


Decision = Give | Keep | AskPerson


def decide_request(
    reading: Reading,
    *,
    recipient: str,
    received_at: datetime,
    asking: Sequence[Asking],
    services_with_rules: Collection[str],
) -> Decision:
    """A code goes to the one request that it fits. If several fit, or several codes are in the
    message, a person decides: a code that is given wrongly costs an attempt, or a payment."""
    fitting = [
        each
        for each in asking
        if received_at >= each.not_before
        and _service_fits(reading, each, services_with_rules)
        and _phone_fits(recipient, each)
        and _context_fits(reading, each)
    ]
    named = [each for each in fitting if reading.context and each.context]
    fitting = named or fitting
    if not fitting:
        return Keep()
    if len(reading.codes) != 1:
        return AskPerson(f"{len(reading.codes)} numbers in it may be the code.")
    if len(fitting) > 1:
        services = ", ".join(sorted({each.service for each in fitting}))
        return AskPerson(f"{len(fitting)} requests may be meant ({services}).")
    return Give(fitting[0].id, reading.codes[0])


def _service_fits(reading: Reading, each: Asking, services_with_rules: Collection[str]) -> bool:
    if reading.service is not None:
        return reading.service == each.service
    return each.service not in services_with_rules  # its rules would have known the message


def _phone_fits(recipient: str, each: Asking) -> bool:
    return not recipient or not each.phone_number or same_phone(recipient, each.phone_number)


def _context_fits(reading: Reading, each: Asking) -> bool:
    if not reading.context or not each.context:
        return True
    return reading.context.casefold() == each.context.casefold()
