"""Jobs over REST: a list, a snapshot, and the events after a number, at once or as they happen."""

import uuid
from collections.abc import Mapping
from copy import copy
from datetime import datetime, timedelta
from functools import partial, wraps
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject
from django.views.decorators.csrf import csrf_exempt
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.generics import get_object_or_404
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from jobs.api import schema
from jobs.api.serializers import EventQuerySerializer, JobQuerySerializer
from jobs.api.stream import stream_events
from jobs.consumers import read
from jobs.events import read_events
from jobs.listing import JobListing
from jobs.models import Job
from jobs.snapshots import jobs_visible_to, read_snapshot

MOST_EVENTS = 500  # in one answer
# An id tells when it was made, by the clock of the machine that made it; `created_at` is the
# database's. They are believed to agree to this.
CLOCKS_DIFFER = timedelta(hours=1)


class JobsView(APIView):
    @schema.list_jobs
    def get(self, request: Request) -> Response:
        query = JobQuerySerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        asked, listing = query.validated_data, JobListing()
        jobs = listing.visible_to(request.user).filter(**_conditions(asked)).order_by("-pk")
        found = list(jobs[: asked["limit"] + 1])
        page = found[: asked["limit"]]
        return Response(
            {
                "jobs": [listing.row(job) for job in page],
                "next": page[-1].pk if len(found) > len(page) else None,
            }
        )


def _conditions(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The filter for a query's parts. A time becomes a range of ids as well: those are indexed."""
    conditions = {name: asked[name] for name in ("status", "workflow") if name in asked}
    if "before" in asked:
        conditions["pk__lt"] = asked["before"]
    if "created_after" in asked:
        conditions["created_at__gte"] = asked["created_after"]
        conditions["pk__gte"] = first_id_of(asked["created_after"] - CLOCKS_DIFFER)
    if "created_before" in asked:
        conditions["created_at__lt"] = asked["created_before"]
        end = first_id_of(asked["created_before"] + CLOCKS_DIFFER)
        conditions["pk__lt"] = min(conditions.get("pk__lt", end), end)
    return conditions


def first_id_of(moment: datetime) -> uuid.UUID:
    """No UUIDv7 made at `moment` or later is smaller."""
    return uuid.UUID(int=max(int(moment.timestamp() * 1000), 0) << 80)


class JobView(APIView):
    @schema.get_job
    def get(self, request: Request, pk: str) -> Response:
        return Response(read_snapshot(find_job(request, pk).pk))


def find_job(request: Request, pk: str) -> Job:
    """Raises Http404 also for a job that the caller may not see."""
    job: Job = get_object_or_404(jobs_visible_to(request.user), pk=pk)
    return job


class EventStreamRenderer(BaseRenderer):
    """Lets a client ask for a stream. Refusals are JSON whatever it asked for."""

    media_type = "text/event-stream"
    format = "sse"


class EventsView(APIView):
    renderer_classes = [JSONRenderer, EventStreamRenderer]

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """Runs in a thread of the pool. Django would use one that it keeps, with its database
        connection, for as long as the answer is being sent: until the job has ended."""
        view = super().as_view(**initkwargs)

        @wraps(view)
        async def in_the_pool(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            return await read(view, request, *args, **kwargs)

        return csrf_exempt(in_the_pool)

    @schema.read_events
    def get(self, request: Request, pk: str) -> HttpResponseBase:
        job = find_job(request, pk)
        after = parse_after(request, job)
        if request.accepted_renderer.media_type == EventStreamRenderer.media_type:
            return self.stream(request, job, after)
        events = read_events(job.pk, after=after, limit=MOST_EVENTS)
        numbers = [after, *(event["number"] for event in events)]
        last = max(job.last_event, numbers[-1])
        return Response({"events": events, "next": numbers[-1], "last": last})

    def stream(self, request: Request, job: Job, after: int) -> HttpResponseBase:
        if job.is_finished and after == job.last_event:
            return Response(status=status.HTTP_204_NO_CONTENT)  # an EventSource then stays away
        check = partial(self.is_admitted, copy(request._request), job.pk)
        return StreamingHttpResponse(
            stream_events(job.pk, after, check),
            content_type="text/event-stream",
            # nginx collects a proxied answer before it passes it on, unless told not to.
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    def is_admitted(self, request: HttpRequest, job_id: uuid.UUID) -> bool:
        """Whether the caller may still look, asked of the database anew: a stream does not outlive
        its session, its key or its token."""
        sessions = import_module(settings.SESSION_ENGINE)
        request.session = sessions.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        request.user = SimpleLazyObject(lambda: get_user(request))  # type: ignore[assignment]
        try:
            again = self.initialize_request(request)
            self.perform_authentication(again)
            self.check_permissions(again)
        except APIException:
            return False
        return bool(jobs_visible_to(again.user).filter(pk=job_id).exists())

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(response, Response):
            request.accepted_renderer = JSONRenderer()
            request.accepted_media_type = JSONRenderer.media_type
        return super().finalize_response(request, response, *args, **kwargs)


class StreamView(EventsView):
    """The same for who cannot set `Accept`."""

    renderer_classes = [EventStreamRenderer]

    @schema.stream_events
    def get(self, request: Request, pk: str) -> HttpResponseBase:
        return super().get(request, pk)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        return super().perform_content_negotiation(request, force=True)


def parse_after(request: Request, job: Job) -> int:
    """The number of the last event that the caller has. `Last-Event-ID` is the newer one: a browser
    that comes back sends it with the address it first had."""
    asked = request.query_params.dict()
    if last_event := request.headers.get("Last-Event-ID"):
        asked["after"] = last_event
    query = EventQuerySerializer(data=asked)
    query.is_valid(raise_exception=True)
    after: int = query.validated_data["after"]
    if after > job.last_event:
        raise Refusal(
            "NO_SUCH_EVENT",
            f"The newest event of this job is {job.last_event}, not {after}. Read the job anew and "
            "go on from its `number`.",
        )
    return after
