"""Limits of flow keys, and why a step does not start, over REST."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.permissions import IsAdmin
from jobs import flow
from jobs.api import limits_schema as schema
from jobs.api.limits_serializers import LimitSerializer, PauseSerializer
from jobs.api.views import find_job
from jobs.errors import InvalidLimit
from jobs.models import FlowLimit
from jobs.snapshots import jobs_visible_to
from jobs.why import why_of_job


class LimitsView(APIView):
    permission_classes = [IsAdmin]

    @schema.list_limits
    def get(self, request: Request) -> Response:
        keys = FlowLimit.objects.values_list("key", flat=True)
        return Response({"success": True, "limits": [flow.describe_limit(key) for key in keys]})


class LimitView(APIView):
    permission_classes = [IsAdmin]

    @schema.get_limit
    def get(self, request: Request, key: str) -> Response:
        return answer(key)

    @schema.set_limit
    def put(self, request: Request, key: str) -> Response:
        asked = LimitSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            flow.set_limit(key, **asked.validated_data, by=name_of(request))
        except InvalidLimit as error:
            raise refusal(error) from error
        return answer(key)


class PauseView(APIView):
    permission_classes = [IsAdmin]

    @schema.pause
    def post(self, request: Request, key: str) -> Response:
        asked = PauseSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            flow.pause(key, by=name_of(request), reason=asked.validated_data["reason"])
        except InvalidLimit as error:
            raise refusal(error) from error
        return answer(key)


class ResumeView(APIView):
    permission_classes = [IsAdmin]

    @schema.resume
    def post(self, request: Request, key: str) -> Response:
        flow.resume(key, by=name_of(request))
        return answer(key)


class WhyView(APIView):
    @schema.why
    def get(self, request: Request, pk: str) -> Response:
        job = find_job(request, pk)
        visible = jobs_visible_to(request.user)
        return Response({"job": job.pk, "steps": why_of_job(job, visible=visible)})


def answer(key: str) -> Response:
    return Response({"success": True, "limit": flow.describe_limit(key)})


def refusal(error: InvalidLimit) -> Refusal:
    return Refusal("INVALID_LIMIT", str(error))


def name_of(request: Request) -> str:
    user: Any = request.user
    return str(user.get_username())
