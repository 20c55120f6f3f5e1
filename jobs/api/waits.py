"""What jobs wait for, from outside: messages with codes, codes, approvals and signals."""

import uuid
from typing import IO, Any, cast

import structlog
from django.conf import settings
from django.utils import timezone
from rest_framework import status
from rest_framework.exceptions import NotAuthenticated
from rest_framework.generics import get_object_or_404
from rest_framework.parsers import BaseParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.models import User
from jobs import waits
from jobs.api import waits_schema as schema
from jobs.api.control import read
from jobs.api.waits_serializers import (
    AnswerSerializer,
    CodeSerializer,
    SignalSerializer,
    SignalsSerializer,
)
from jobs.errors import InvalidAnswer, WaitClosed
from jobs.models import InboundSource, OtpRequest, Wait
from jobs.otp import messages, requests, sources
from jobs.otp.sources import Delivery, InvalidMessage, InvalidSignature
from jobs.snapshots import jobs_visible_to
from jobs.waits import NewSignal

log = structlog.get_logger(__name__)


class RawParser(BaseParser):
    """The bytes as they came: a signature is over these."""

    media_type = "*/*"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None
    ) -> Any:
        return stream.read()


class InboundView(APIView):
    """Who calls is known by an API key, or by the signature of a source that signs."""

    permission_classes = [AllowAny]
    parser_classes = [RawParser]

    @schema.receive_message
    def post(self, request: Request) -> Response:
        delivery = Delivery(
            url=settings.PUBLIC_URL.geturl().rstrip("/") + request.get_full_path(),
            headers=request.headers,
            body=cast("bytes", request.data) or b"",
            now=timezone.now(),
        )
        source = find_source(request)
        try:
            if source and sources.is_signed(source):
                sources.check_signature(delivery, source)
                workspace_id = source.workspace.pk
            elif isinstance(request.user, User):
                workspace_id = request.user.workspace.pk
            else:
                raise NotAuthenticated
            if source and source.workspace_id != workspace_id:
                raise unknown_source()
            inbound = sources.read_delivery(delivery)
        except InvalidSignature as error:
            log.warning("message_refused", reason=error.code, source=str(source))
            raise Refusal("INVALID_SIGNATURE", str(error), status.HTTP_401_UNAUTHORIZED) from error
        except InvalidMessage as error:
            raise Refusal("INVALID_MESSAGE", str(error)) from error
        if inbound is None:
            return Response({"success": True, "status": "ignored"})
        message = messages.receive(inbound, workspace_id=workspace_id, source=source)
        return Response({"success": True, "status": message.status, "message_id": message.pk})


def find_source(request: Request) -> InboundSource | None:
    """The source that `?source=` names. Raises Refusal if there is none."""
    named = request.query_params.get("source")
    if named is None:
        return None
    try:
        return InboundSource.objects.get(pk=uuid.UUID(named), is_active=True)
    except (ValueError, InboundSource.DoesNotExist):
        raise unknown_source() from None


def unknown_source() -> Refusal:
    return Refusal(
        "UNKNOWN_SOURCE",
        "There is no such source of messages, or it is turned off: copy its address anew from "
        "the admin.",
        status.HTTP_404_NOT_FOUND,
    )


class AnswerView(APIView):
    """Logs an answer that is refused, without what it said: that may be a code."""

    def handle_exception(self, exc: Exception) -> Response:
        response: Response = super().handle_exception(exc)
        log.warning(
            "answer_refused",
            path=self.request.path,
            code=response.data["code"],
            user=str(self.request.user),
        )
        return response


class CodeView(AnswerView):
    """payment-automation-realtime's `POST /api/jobs/otp-received`."""

    @schema.enter_code
    def post(self, request: Request) -> Response:
        asked = read(CodeSerializer, request)
        visible = OtpRequest.objects.filter(job__in=jobs_visible_to(request.user))
        found = get_object_or_404(visible, pk=asked["otpRequestId"])
        assert isinstance(request.user, User)  # by the default permission
        try:
            requests.enter_code(found.pk, asked["otpValue"], request.user)
        except InvalidAnswer as error:
            raise Refusal("INVALID_OTP", str(error)) from error
        except WaitClosed as error:
            raise closed(error) from error
        return Response({"success": True})


class WaitView(AnswerView):
    """A person answers an approval, or types the code that came."""

    @schema.answer_wait
    def post(self, request: Request, pk: str, wait: str) -> Response:
        asked = read(AnswerSerializer, request)
        visible = Wait.objects.filter(job__in=jobs_visible_to(request.user), job=id_of(pk))
        found = get_object_or_404(visible, pk=id_of(wait))
        assert isinstance(request.user, User)
        try:
            if "code" in asked:
                requests.enter_code_for(found, asked["code"], request.user)
            else:
                waits.choose(found, asked["choice"], request.user)
        except InvalidAnswer as error:
            raise Refusal("INVALID_ANSWER", str(error)) from error
        except WaitClosed as error:
            raise closed(error) from error
        return Response({"success": True})


class SignalsView(APIView):
    @schema.send_signal
    def post(self, request: Request) -> Response:
        asked = read(SignalSerializer, request)
        assert isinstance(request.user, User)
        sent = waits.send_signal(
            asked["topic"],
            asked["fields"],
            workspace_id=request.user.workspace.pk,
            key=asked["key"],
        )
        job_id = sent.taken_by.job_id if sent.taken_by else None
        return Response({"success": True, "signal_id": sent.pk, "job_id": job_id})


class SignalsBulkView(APIView):
    @schema.send_signals
    def post(self, request: Request) -> Response:
        asked = read(SignalsSerializer, request)
        assert isinstance(request.user, User)
        new = [NewSignal(**each) for each in asked["signals"]]
        sent = waits.send_signals(new, workspace_id=request.user.workspace.pk)
        answers = [
            {"signal_id": each.pk, "job_id": each.taken_by.job_id if each.taken_by else None}
            for each in sent
        ]
        return Response({"success": True, "signals": answers})


def id_of(text: str) -> uuid.UUID:
    """An id that is none is one that nothing has."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.UUID(int=0)


def closed(error: WaitClosed) -> Refusal:
    return Refusal("WAIT_CLOSED", str(error), status.HTTP_409_CONFLICT)
