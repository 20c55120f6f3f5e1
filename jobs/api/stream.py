"""A job's events as server-sent events, one client each. It holds no thread and no connection.

As for the websockets, the database is the only source: a hint of the channel layer says no more
than "look again", and without any hint it looks every TICK_SECONDS.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog
from asgiref.sync import SyncToAsync
from channels.layers import get_channel_layer
from django.core.serializers.json import DjangoJSONEncoder

from jobs import consumers
from jobs.events import read_events
from jobs.live import JOBS_GROUP
from jobs.models import Job, Status

log = structlog.get_logger(__name__)

BATCH = 500  # events read at a time
HINTS_SECONDS = 2.0  # for what is asked of the channel layer: one that hangs must not hold us up
KEEP_ALIVE = ": still here\n\n"


@dataclass(frozen=True)
class News:
    events: list[dict[str, Any]]
    is_last: bool  # nothing will follow


async def stream_events(
    job_id: uuid.UUID, after: int, is_admitted: Callable[[], bool]
) -> AsyncIterator[str]:
    """Every event after `after`, in order. Ends with the job, with the caller's access, or when the
    caller goes away, which cancels it."""
    _give_the_thread_back()
    async with _hints(job_id) as (join, woken):
        while True:
            if not await consumers.read(is_admitted):
                return
            # Before anything is read, so that no change falls between; and again with each tick,
            # for a channel layer forgets its groups when it restarts.
            await join()
            tick_at = monotonic() + consumers.TICK_SECONDS
            yield KEEP_ALIVE
            while monotonic() < tick_at:
                woken.clear()
                news = await consumers.read(_read_news, job_id, after)
                if news.events:
                    yield "".join(map(_written, news.events))
                    after = news.events[-1]["number"]
                if news.is_last:
                    return
                if len(news.events) < BATCH and await _is_set_before(woken, tick_at):
                    await asyncio.sleep(consumers.GATHER_SECONDS)


def _read_news(job_id: uuid.UUID, after: int) -> News:
    """The job is read before its events: when it has ended, all that it had to say is there."""
    job = Job.objects.filter(pk=job_id).first()
    if job is None:
        return News([], is_last=True)
    # A step that others ran beside may still be at work when its job has failed.
    is_over = job.is_finished and not job.steps.filter(status=Status.RUNNING).exists()
    events = read_events(job_id, after=after, limit=BATCH)
    return News(events, is_last=is_over and len(events) < BATCH)


def _written(event: dict[str, Any]) -> str:
    """JSON has no line breaks outside of its texts, and those are escaped: one `data:` line."""
    return f"id: {event['number']}\ndata: {json.dumps(event, cls=DjangoJSONEncoder)}\n\n"


async def _is_set_before(woken: asyncio.Event, moment: float) -> bool:
    try:
        await asyncio.wait_for(woken.wait(), max(moment - monotonic(), 0))
    except TimeoutError:
        return False
    return True


@asynccontextmanager
async def _hints(job_id: uuid.UUID) -> AsyncIterator[tuple[Callable[[], Any], asyncio.Event]]:
    """A function that joins the group of pages, and the event that is set when the job changes."""
    layer: Any = get_channel_layer()
    channel, woken = await layer.new_channel(), asyncio.Event()

    async def listen() -> None:
        while True:
            message = await layer.receive(channel)
            if str(job_id) in message["jobs"]:
                woken.set()

    async def join() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(layer.group_add(JOBS_GROUP, channel), HINTS_SECONDS)

    listener = asyncio.create_task(listen())
    try:
        yield join, woken
    finally:
        listener.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(layer.group_discard(JOBS_GROUP, channel), HINTS_SECONDS)


def _give_the_thread_back() -> None:
    """Django's middlewares ran in a thread that is kept until the answer is sent. A stream is sent
    for hours and needs it no more; what needs one at the end gets another."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context else None
    if executor:
        executor.shutdown(wait=False)
