"""Asking for codes: a step's request, the code that is given to it, and what became of it.

The code stands sealed in the request from when it comes until it was used; nowhere else. Whoever
gives, takes or asks holds the workspace's lock on codes, so that a message and a request that are
written at once cannot miss each other, and one code has one taker.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.audit import Act
from accounts.models import User
from jobs import waits
from jobs.errors import Becomes, BusinessError, InvalidAnswer, WaitClosed
from jobs.models import OtpRequest, Wait
from jobs.otp.parsing import CODE
from jobs.plans import Awaited
from jobs.statements import ClaimedStep

DEADLINE = timedelta(minutes=5)  # payment-automation-realtime: a request times out after it
EARLY = timedelta(minutes=2)
"""A message may be here before the step has said that it waits for it."""

WAITING = OtpRequest.Status.REQUESTED


def topic(workspace_id: uuid.UUID) -> str:
    """Names the lock."""
    return f"otp:{workspace_id}"


def otp(
    name: str,
    *,
    otp_type: str,
    service: str,
    phone: str = "",
    context: str = "",
    sent_after: datetime | None = None,
    deadline: timedelta = DEADLINE,
    on_deadline: Wait.OnDeadline = Wait.OnDeadline.FAIL,
) -> Awaited:
    """A code that `service` sends to `phone`. `context` is what tells it from others of the same
    service and phone, if the message names it. `sent_after`: when the site was asked to send it;
    without that, messages of the last two minutes count."""
    match = {
        "otp_type": otp_type,
        "service": service,
        "phone": phone,
        "context": context,
        "sent_after": sent_after.isoformat() if sent_after else None,
    }
    digits = "".join(filter(str.isdigit, phone))
    where = f", sent to …{digits[-4:]}" if digits else ""
    question = f"The code of {service}{where}"
    return Awaited(name, Wait.Kind.OTP, deadline, on_deadline, match=match, question=question)


@dataclass(frozen=True)
class Code:
    """A code to type. Its text is in no log: `repr` leaves it out."""

    value: str
    attempt: int  # from 1

    def __repr__(self) -> str:
        return f"Code(attempt={self.attempt})"


# ---- for the step -------------------------------------------------------------------------------


def open_requests(opened: Sequence[Wait], now: datetime) -> list[OtpRequest]:
    """Part of the transaction in which the step begins to wait; needs the workspace's lock."""
    return [_open_request(wait, now) for wait in opened if wait.kind == Wait.Kind.OTP]


def _open_request(wait: Wait, now: datetime) -> OtpRequest:
    assert wait.deadline_at is not None
    wanted = wait.match
    earlier = OtpRequest.objects.filter(step_id=wait.step_id, name=wait.name).first()
    request = earlier or OtpRequest(
        workspace_id=wait.workspace_id, job_id=wait.job_id, step_id=wait.step_id, name=wait.name
    )
    request.wait = wait
    request.otp_type = wanted["otp_type"]
    request.service = wanted["service"]
    request.phone_number = wanted["phone"]
    request.context = wanted["context"]
    if wanted["sent_after"]:
        request.not_before = datetime.fromisoformat(wanted["sent_after"])
    elif earlier is None:
        request.not_before = now - EARLY
    elif earlier.status != OtpRequest.Status.FAILED:
        # The site is asked for a new code: what came for the last one is no good any more.
        request.not_before = now
    if request.attempts_count >= request.max_attempts:
        request.attempts_count = 0  # a person has had the step run once more
    request.requested_at, request.timeout_at = now, wait.deadline_at
    request.received_at = request.otp_value = None
    request.status = WAITING
    request.save()
    return request


def find_code(step: ClaimedStep, name: str) -> Code | None:
    """The code that came for the step's request; None if there is none to type.

    Raises BusinessError when none came in time, and the deadline was to end the step.
    """
    requests = OtpRequest.objects.select_related("wait")
    request = requests.filter(step_id=step.id, name=name).first()
    if request is None:
        return None
    if request.status == OtpRequest.Status.RECEIVED and request.otp_value:
        return Code(request.otp_value, request.attempts_count + 1)
    if request.wait and request.wait.status == Wait.Status.EXPIRED and request.status == WAITING:
        _settle(step, name, OtpRequest.Status.EXPIRED)
        if request.wait.on_deadline != Wait.OnDeadline.RESUME:
            manual = request.wait.on_deadline == Wait.OnDeadline.MANUAL
            raise BusinessError(
                "otp_expired",
                f"No code of {request.service} came in time. Check the phone, then run this again.",
                Becomes.MANUAL if manual else Becomes.FAILED,
            )
    return None


def accept_code(step: ClaimedStep, name: str) -> None:
    """The site took the code."""
    _settle(step, name, OtpRequest.Status.VERIFIED)


def reject_code(step: ClaimedStep, name: str) -> None:
    """The site says that the code is wrong: ask for another one.

    Raises BusinessError when it was the last that may be tried.
    """
    request = _settle(step, name, OtpRequest.Status.FAILED)
    if request.attempts_count >= request.max_attempts:
        raise BusinessError(
            "otp_rejected",
            f"{request.service} refused {request.attempts_count} codes. Try again by hand before "
            "the account is blocked.",
            Becomes.MANUAL,
        )


def _settle(step: ClaimedStep, name: str, status: OtpRequest.Status) -> OtpRequest:
    """Writes what became of the code, and erases it. Safe to repeat."""
    with transaction.atomic():
        requests = OtpRequest.objects.select_for_update(of=("self",), no_key=True)
        request = requests.get(step_id=step.id, name=name)
        if request.status == status:
            return request
        if status == OtpRequest.Status.VERIFIED:
            request.verified_at = timezone.now()
        if status in (OtpRequest.Status.VERIFIED, OtpRequest.Status.FAILED):
            request.attempts_count += 1
        if status == OtpRequest.Status.FAILED:
            request.not_before = timezone.now()
        request.status, request.otp_value = status, None
        request.save()
    return request


# ---- for whoever has a code ---------------------------------------------------------------------


def enter_code(request_id: uuid.UUID, code: str, by: User | None) -> None:
    """Somebody who has read the message types it. Raises InvalidAnswer or WaitClosed."""
    code = cleaned(code)
    with transaction.atomic():
        workspaces = OtpRequest.objects.values_list("workspace_id", flat=True)
        waits.lock_topics([topic(workspaces.get(pk=request_id))])
        who = by.get_username() if by else "A client"
        if not give_code(request_id, code, message=f"{who} entered the code.", by=by):
            raise WaitClosed("This code is not waited for any more. Look at the job again.")
        audit.note(OtpRequest.objects.get(pk=request_id), Act.CODE_ENTERED, by=by)


def cleaned(code: str) -> str:
    """A typed code without its blanks. Raises InvalidAnswer for what is none."""
    code = code.strip().replace(" ", "")
    if not CODE.fullmatch(code):
        raise InvalidAnswer(
            "A code has 3 to 12 digits or letters, and at least one digit. Type it as the message "
            "has it."
        )
    return code


def enter_code_for(wait: Wait, code: str, by: User) -> None:
    """The same for the request of this wait."""
    request = OtpRequest.objects.filter(wait=wait).first()
    if request is None:
        raise InvalidAnswer(
            "This waits for something else than a code. Look at the job again for what it asks."
        )
    enter_code(request.pk, code, by)


def give_code(request_id: uuid.UUID, code: str, *, message: str, by: User | None = None) -> bool:
    """Hands the code to the request and wakes its step; False if it waits no more.

    Needs the workspace's lock, and the transaction in which the code's message is written.
    """
    request = OtpRequest.objects.get(pk=request_id)
    if request.status != WAITING or request.wait_id is None:
        return False
    if not waits.answer(request.wait_id, {"request": str(request.pk)}, message=message, by=by):
        return False
    request.otp_value = code
    request.status, request.received_at = OtpRequest.Status.RECEIVED, timezone.now()
    request.save(update_fields=["otp_value", "status", "received_at"])
    return True
