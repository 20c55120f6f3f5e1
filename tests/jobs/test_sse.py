"""A job's events as server-sent events, from a real server and with real hints."""

# ruff: noqa: F401, F811  fixtures come by import

import asyncio
import json
import threading
from contextlib import asynccontextmanager

import httpx
import pytest
from channels_redis.core import RedisChannelLayer
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from redis.exceptions import ConnectionError as RedisConnectionError
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import ApiKey, User
from jobs import consumers, live, steps
from jobs.api import stream
from jobs.errors import BusinessError
from jobs.models import Job
from jobs.runner import runner
from tests.jobs import workflows
from tests.jobs.workflows import submit_toy
from tests.live_site import alice, live_site, log_in, make_key, run

pytestmark = pytest.mark.django_db(transaction=True)

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(autouse=True)
def hints():
    """Here hints are sent, unless a test asks for them to be lost."""


@pytest.fixture
def lost_hints(monkeypatch):
    monkeypatch.setattr(live.messenger, "post", lambda **_: None)


@pytest.fixture
def quick_ticks(monkeypatch):
    monkeypatch.setattr(consumers, "TICK_SECONDS", 0.2)


@pytest.fixture
def bob(transactional_db):
    """No staff: sees what he asked for."""
    return User.objects.create_user("bob")


def run_all():
    runner.run_ready_steps(["steps"])


class Stream:
    """An open stream, read as the standard says."""

    def __init__(self, response):
        self.response = response
        self.lines = response.aiter_lines()

    async def next_block(self):
        """The lines up to the next empty one; None at the end."""
        lines = []
        async for line in self.lines:
            if not line:
                return lines
            lines.append(line)
        return None

    async def events(self, count=None):
        """The next `count` events, or all to the end."""
        found = []
        while len(found) != count and (block := await self.next_block()) is not None:
            fields = dict(line.split(": ", 1) for line in block if not line.startswith(":"))
            if fields:
                event = json.loads(fields["data"])
                assert fields["id"] == str(event["number"])
                found.append(event)
        return found


@asynccontextmanager
async def opened(site, job, query="", *, path="events", **headers):
    async with httpx.AsyncClient(base_url=site.url, timeout=20) as client:
        address = f"/api/jobs/{job.pk}/{path}{query}"
        async with client.stream("GET", address, headers={**STREAM, **headers}) as response:
            yield Stream(response)


async def key_of(user):
    return {"Authorization": f"token {await run(make_key, user)}"}


def numbers(events):
    return [event["number"] for event in events]


# --- What is sent ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["events", "stream"])
async def test_events_come_as_they_happen_and_the_stream_ends_with_the_job(live_site, bob, path):
    job = await run(submit_toy, [["a"], ["b"]], created_by=bob)

    async with opened(live_site, job, path=path, **await key_of(bob)) as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["content-type"] == "text/event-stream"
        first = await stream.events(1)
        await run(run_all)
        later = await stream.events()

    assert numbers(first + later) == [1, 2, 3, 4, 5, 6]
    assert first[0]["kind"] == "job.created"
    assert later[-1]["kind"] == "job.completed"


async def test_event_is_the_websockets_event(live_site, bob, alice):
    job = await run(submit_toy, [["a"]], created_by=bob)

    async with live_site.socket(f"/ws/jobs/{job.pk}/", key=await run(make_key, bob)) as socket:
        snapshot = await socket.receive()
    async with opened(live_site, job, **await key_of(bob)) as stream:
        assert await stream.events(1) == snapshot["events"]


async def test_finished_job_is_told_at_once_and_to_the_end(live_site, bob):
    job = await run(submit_toy, [["a"], ["b"]], created_by=bob)
    await run(run_all)

    async with opened(live_site, job, "?after=2", **await key_of(bob)) as stream:
        assert numbers(await stream.events()) == [3, 4, 5, 6]


async def test_more_events_than_one_reading_takes_come_all_and_in_order(
    live_site, bob, monkeypatch
):
    monkeypatch.setattr(stream, "BATCH", 2)
    job = await run(submit_toy, [["a"], ["b"], ["c"]], created_by=bob)
    await run(run_all)

    async with opened(live_site, job, **await key_of(bob)) as opened_stream:
        assert numbers(await opened_stream.events()) == list(range(1, 9))


async def test_last_event_id_goes_before_after(live_site, bob):
    job = await run(submit_toy, [["a"], ["b"]], created_by=bob)
    await run(run_all)
    again = {"Last-Event-ID": "5", **await key_of(bob)}

    async with opened(live_site, job, "?after=2", **again) as stream:
        assert numbers(await stream.events()) == [6]


async def test_browser_that_has_everything_of_a_finished_job_is_told_to_stay_away(live_site, bob):
    job = await run(submit_toy, [["a"], ["b"]], created_by=bob)
    await run(run_all)

    async with opened(live_site, job, **{"Last-Event-ID": "6", **await key_of(bob)}) as stream:
        assert stream.response.status_code == 204


async def test_step_that_ends_after_its_job_is_still_told(live_site, bob, quick_ticks):
    job = await run(submit_toy, [["a", "b"]], created_by=bob)
    slow = await run(steps.claim_next, ["steps"], worker="alice")
    other = await run(steps.claim_next, ["steps"], worker="bob")
    await run(steps.fail, other, BusinessError("out_of_stock", "It is sold out."))

    async with opened(live_site, job, **await key_of(bob)) as stream:
        before = await stream.events(5)
        await run(steps.complete, slow, {}, queues=[], worker="alice")
        after = await stream.events()

    assert before[-1]["kind"] == "job.failed"
    assert [event["kind"] for event in after] == ["step.completed"]


# --- Who is admitted -------------------------------------------------------------------------


async def test_machine_with_a_jwt_and_browser_with_a_session_are_admitted(live_site, bob):
    job = await run(submit_toy, [["a"]], created_by=bob)
    cookie = f"{settings.SESSION_COOKIE_NAME}={await run(log_in, bob)}"

    for headers in ({"Authorization": f"Bearer {AccessToken.for_user(bob)}"}, {"Cookie": cookie}):
        async with opened(live_site, job, **headers) as stream:
            assert numbers(await stream.events(1)) == [1]


@pytest.mark.parametrize("path", ["events", "stream"])
async def test_stranger_gets_a_refusal_in_json(live_site, bob, path):
    job = await run(submit_toy, [["a"]])

    async with opened(live_site, job, path=path, **await key_of(bob)) as stream:
        body = json.loads(await stream.response.aread())
        assert (stream.response.status_code, body["code"]) == (404, "NOT_FOUND")
        assert stream.response.headers["content-type"] == "application/json"
    async with opened(live_site, job, path=path) as stream:
        body = json.loads(await stream.response.aread())
        assert (stream.response.status_code, body["code"]) == (401, "NOT_AUTHENTICATED")


async def test_stream_ends_when_the_key_is_revoked(live_site, bob, quick_ticks):
    job = await run(submit_toy, [["a"]], created_by=bob)

    async with opened(live_site, job, **await key_of(bob)) as stream:
        await stream.events(1)
        await run(ApiKey.objects.all().delete)
        assert await stream.events() == []


async def test_stream_ends_with_its_session(live_site, bob, quick_ticks):
    job = await run(submit_toy, [["a"]], created_by=bob)
    cookie = f"{settings.SESSION_COOKIE_NAME}={await run(log_in, bob)}"

    async with opened(live_site, job, Cookie=cookie) as stream:
        await stream.events(1)
        await run(Session.objects.all().delete)
        assert await stream.events() == []


async def test_stream_ends_when_the_job_is_deleted(live_site, bob, quick_ticks):
    job = await run(submit_toy, [["a"]], created_by=bob)

    async with opened(live_site, job, **await key_of(bob)) as stream:
        await stream.events(1)
        await run(Job.objects.all().delete)
        assert await stream.events() == []


# --- What is lost ----------------------------------------------------------------------------


async def test_lost_hints_are_made_up_for(live_site, bob, lost_hints, quick_ticks):
    job = await run(submit_toy, [["a"], ["b"]], created_by=bob)

    async with opened(live_site, job, **await key_of(bob)) as stream:
        await stream.events(1)
        await run(run_all)
        assert numbers(await stream.events()) == [2, 3, 4, 5, 6]


async def test_stream_does_without_the_channel_layer(live_site, bob, quick_ticks, monkeypatch):
    async def refuse(*_args, **_kwargs):
        raise RedisConnectionError("down")

    for name in ("group_add", "group_discard", "receive", "group_send"):
        monkeypatch.setattr(RedisChannelLayer, name, refuse)
    job = await run(submit_toy, [["a"], ["b"]], created_by=bob)

    async with opened(live_site, job, **await key_of(bob)) as stream:
        await stream.events(1)
        await run(run_all)
        assert numbers(await stream.events()) == [2, 3, 4, 5, 6]


async def test_channel_layer_that_hangs_holds_nobody_up(live_site, bob, quick_ticks, monkeypatch):
    async def hang(*_args, **_kwargs):
        await asyncio.Event().wait()

    monkeypatch.setattr(stream, "HINTS_SECONDS", 0.05)
    for name in ("group_add", "group_discard", "receive"):
        monkeypatch.setattr(RedisChannelLayer, name, hang)
    job = await run(submit_toy, [["a"], ["b"]], created_by=bob)

    async with opened(live_site, job, **await key_of(bob)) as opened_stream:
        await opened_stream.events(1)
        await run(run_all)
        assert numbers(await opened_stream.events()) == [2, 3, 4, 5, 6]


async def test_quiet_stream_is_kept_alive_by_comments(live_site, bob, quick_ticks):
    job = await run(submit_toy, [["a"]], created_by=bob)

    async with opened(live_site, job, **await key_of(bob)) as stream:
        await stream.events(1)
        assert [await stream.next_block() for _ in range(3)] == [[": still here"]] * 3


# --- What is held ----------------------------------------------------------------------------


async def until(holds):
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 5 s")


async def test_idle_streams_hold_no_thread_and_no_connection(live_site, bob):
    job = await run(submit_toy, [["a"]], created_by=bob)
    headers = await key_of(bob)

    async def one():
        async with opened(live_site, job, **headers) as stream:
            await stream.events(1)
            ready.append(1)
            await leave.wait()

    ready, leave, others = [], asyncio.Event(), request_threads()
    in_use_before = await run(connections_in_use)
    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(one())
        await until(lambda: len(ready) == 40)
        # The server's pool for reading has at most 32, whatever the streams.
        await until(lambda: len(request_threads() - others) <= 2)
        in_use = await run(connections_in_use)
        leave.set()

    assert in_use <= in_use_before


def request_threads():
    """Those that Django makes, one for each request. It names none of them: they are
    ThreadPoolExecutor-N_0, as are those of earlier tests. The pool that reads has names of its
    own."""
    return {
        thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")
    }


def connections_in_use():
    connection.ensure_connection()
    stats = connection.pool.get_stats()
    return stats["pool_size"] - stats["pool_available"]


async def test_client_that_goes_away_ends_its_stream(live_site, bob, monkeypatch):
    discarded = []
    discard = RedisChannelLayer.group_discard

    async def note(self, group, channel):
        discarded.append(group)
        await discard(self, group, channel)

    monkeypatch.setattr(RedisChannelLayer, "group_discard", note)
    job = await run(submit_toy, [["a"]], created_by=bob)

    async with opened(live_site, job, **await key_of(bob)) as stream:
        await stream.events(1)
        assert discarded == []

    await until(lambda: discarded == [live.JOBS_GROUP])
