"""What waits for a person, over REST, and the answers to it."""

from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.permissions import IsAdmin
from accounts.models import User
from jobs import effects
from jobs.api import inbox_schema as schema
from jobs.api.control import read, refusal
from jobs.api.inbox_serializers import AssignSerializer, SettleSerializer
from jobs.api.waits import closed, id_of
from jobs.errors import InvalidAnswer, NotPossible, WaitClosed
from jobs.inbox import read_inbox
from jobs.models import Effect, InboundMessage
from jobs.otp import messages
from jobs.snapshots import jobs_visible_to


class InboxView(APIView):
    @schema.get_inbox
    def get(self, request: Request) -> Response:
        assert isinstance(request.user, User)  # by the default permission
        return Response(read_inbox(request.user))


class SettleView(APIView):
    """A person says whether an act took effect that nobody could tell of."""

    permission_classes = [IsAdmin]

    @schema.settle_effect
    def post(self, request: Request, pk: str) -> Response:
        asked = read(SettleSerializer, request)
        visible = Effect.objects.filter(job__in=jobs_visible_to(request.user))
        found = get_object_or_404(visible, pk=id_of(pk))
        assert isinstance(request.user, User)
        try:
            effects.decide(found.pk, **asked, by=request.user)
        except NotPossible as error:
            raise refusal(error) from error
        return Response({"success": True})


class AssignView(APIView):
    """A person says which request a message is for."""

    permission_classes = [IsAdmin]

    @schema.assign_message
    def post(self, request: Request, pk: str) -> Response:
        asked = read(AssignSerializer, request)
        assert isinstance(request.user, User)
        ours = InboundMessage.objects.filter(workspace=request.user.workspace_id)
        found = get_object_or_404(ours, pk=id_of(pk))
        try:
            messages.assign(found, asked["request"], request.user, code=asked["code"])
        except InvalidAnswer as error:
            raise Refusal("INVALID_OTP", str(error)) from error
        except WaitClosed as error:
            raise closed(error) from error
        return Response({"success": True})
