"""Cancelling jobs and running them again over REST, one or many."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.permissions import IsAdmin
from jobs import bulk, control
from jobs.api import control_schema as schema
from jobs.api.control_serializers import BulkSerializer, CancelSerializer, RerunSerializer
from jobs.api.views import find_job
from jobs.bulk import Action, JobFilter
from jobs.errors import InvalidFilter, NotPossible
from jobs.events import job_state
from jobs.snapshots import jobs_visible_to

MOST = 1000  # jobs in one call: some seconds of work
SHOWN = 10  # of what a dry run means


class CancelView(APIView):
    """For staff, and for those who asked for the job."""

    @schema.cancel_job
    def post(self, request: Request, pk: str) -> Response:
        asked = read(CancelSerializer, request)
        job = find_job(request, pk)
        try:
            job = control.cancel_job(job.pk, by=name_of(request), reason=asked["reason"])
        except NotPossible as error:
            raise refusal(error) from error
        return Response({"success": True, "job": job_state(job)})


class RerunView(APIView):
    permission_classes = [IsAdmin]

    @schema.rerun_job
    def post(self, request: Request, pk: str) -> Response:
        asked = read(RerunSerializer, request)
        job = find_job(request, pk)
        try:
            job = control.rerun_job(job.pk, asked["from_step"], by=name_of(request))
        except NotPossible as error:
            raise refusal(error) from error
        return Response({"success": True, "job": job_state(job)})


class BulkView(APIView):
    permission_classes = [IsAdmin]

    @schema.control_jobs
    def post(self, request: Request) -> Response:
        asked = read(BulkSerializer, request)
        action = Action(asked["action"])
        try:
            jobs = JobFilter(**asked["filter"]).jobs(action, jobs_visible_to(request.user))
        except InvalidFilter as error:
            raise Refusal("INVALID_FILTER", str(error)) from error
        answer = {"success": True, "action": action, "count": jobs.count()}
        if asked["dry_run"]:
            first = [job_state(job) for job in jobs.order_by("pk")[:SHOWN]]
            return Response({**answer, "dry_run": True, "first": first})
        applied = bulk.apply(
            action,
            jobs,
            by=name_of(request),
            reason=asked["reason"],
            from_step=asked["from_step"],
            after=asked["after"],
            most=MOST,
        )
        return Response({**answer, "dry_run": False, **describe(applied)})


def describe(applied: bulk.Applied) -> dict[str, Any]:
    return {
        "done": applied.done,
        "skipped": applied.skipped,
        "skipped_first": [
            {"id": skipped.id, "title": skipped.title, "reason": skipped.sentence}
            for skipped in applied.examples
        ],
        "next": applied.last,
    }


def read(kind: type[serializers.Serializer[Any]], request: Request) -> Mapping[str, Any]:
    serializer = kind(data=request.data)
    serializer.is_valid(raise_exception=True)
    asked: Mapping[str, Any] = serializer.validated_data
    return asked


def name_of(request: Request) -> str:
    assert request.user.is_authenticated  # by the default permission
    return request.user.get_username()


def refusal(error: NotPossible) -> Refusal:
    is_request_wrong = error.code == "unknown_step"
    status_code = status.HTTP_400_BAD_REQUEST if is_request_wrong else status.HTTP_409_CONFLICT
    return Refusal(error.code.upper(), str(error), status_code)
