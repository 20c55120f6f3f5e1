"""Rule 10: the websockets, spoken to as any client would, over a connection to a real server."""

# ruff: noqa: F401, F811  fixtures come by import

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import pytest
from channels_redis.core import RedisChannelLayer
from django.contrib.sessions.models import Session
from django.core.files.storage import FileSystemStorage
from redis.exceptions import ConnectionError as RedisConnectionError
from websockets.exceptions import InvalidStatus

from accounts.models import ApiKey, User
from jobs import consumers, hint_layer, live, snapshots, steps
from jobs.listing import PAGE_SIZE, JobListing
from jobs.models import Artifact, Job
from jobs.runner import runner
from jobs.subjects import Fact, Subject, _describers, register_subject
from tests.jobs import workflows
from tests.jobs.workflows import submit_toy
from tests.live_site import alice, live_site, make_key, run

pytestmark = pytest.mark.django_db(transaction=True)


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


def path_of(job, query=""):
    return f"/ws/jobs/{job.pk}/{query}"


def run_all():
    runner.run_ready_steps(["steps"])


def is_end(message):
    """The message with the event that ends the job."""
    return any(event["kind"] == "job.completed" for event in message.get("events", []))


def events_of(messages):
    return [event for message in messages for event in message.get("events", [])]


def merge(state, events):
    """As docs/live-protocol.md says."""
    for event in events:
        state["job"] |= event["data"].get("job", {})
        if event["step"]:
            state["steps"][event["step"]] |= event["data"].get("step", {})
    return state


def state_of(snapshot):
    return {"job": snapshot["job"], "steps": {step["id"]: step for step in snapshot["steps"]}}


# --- A job -----------------------------------------------------------------------------------


async def test_snapshot_shows_the_whole_plan_before_anything_ran(live_site, alice):
    job = await run(submit_toy, [["a"], ["b", "c"]])

    async with live_site.socket(path_of(job), user=alice) as connection:
        snapshot = await connection.receive()

    assert snapshot["type"] == "snapshot"
    assert snapshot["number"] == 1
    assert snapshot["job"]["status"] == "pending"
    assert [(step["name"], step["stage"], step["status"]) for step in snapshot["steps"]] == [
        ("a", 0, "ready"),
        ("b", 1, "pending"),
        ("c", 1, "pending"),
    ]
    assert [event["kind"] for event in snapshot["events"]] == ["job.created"]
    assert snapshot["artifacts"] == []
    assert snapshot["subject"] is None


async def test_events_that_follow_make_the_snapshot_what_it_has_become(live_site, alice):
    job = await run(submit_toy, [["a"], ["b", "c"], ["d"]])

    async with live_site.socket(path_of(job), user=alice) as connection:
        snapshot = await connection.receive()
        await run(run_all)
        messages = await connection.receive_until(is_end)
    async with live_site.socket(path_of(job), user=alice) as connection:
        later = await connection.receive()

    events = events_of(messages)
    assert [event["number"] for event in events] == list(range(2, later["number"] + 1))
    merged = merge(state_of(snapshot), events)
    assert merged["job"]["status"] == "completed"
    assert merged["job"]["progress"] == 100
    assert {step["status"] for step in merged["steps"].values()} == {"completed"}
    assert statuses_and_progress(merged) == statuses_and_progress(state_of(later))


def statuses_and_progress(state):
    parts = [state["job"], *(state["steps"][key] for key in sorted(state["steps"]))]
    return [(part["status"], part["progress"], part.get("attempt")) for part in parts]


async def test_who_comes_back_gets_what_came_after_the_number(live_site, alice):
    job = await run(submit_toy, [["a"], ["b"]])
    await run(run_all)

    async with live_site.socket(path_of(job, "?after=3"), user=alice) as connection:
        first = await connection.receive()
        ping = await connection.receive()

    assert first["type"] == "events"
    assert [event["number"] for event in first["events"]] == [4, 5, 6]
    assert (ping["type"], ping["number"]) == ("ping", 6)


async def test_who_comes_back_to_nothing_new_hears_that_it_is_live(live_site, alice):
    job = await run(submit_toy, [["a"]])

    async with live_site.socket(path_of(job, "?after=1"), user=alice) as connection:
        first = await connection.receive()

    assert (first["type"], first["number"]) == ("ping", 1)


async def test_number_that_cannot_be_honoured_gets_a_snapshot(live_site, alice, monkeypatch):
    job = await run(submit_toy, [["a"], ["b"]])
    await run(run_all)
    monkeypatch.setattr(snapshots, "MOST_MISSED", 3)

    for after in (2, 99, -1):  # too long ago; of another database; nonsense
        async with live_site.socket(path_of(job, f"?after={after}"), user=alice) as connection:
            first = await connection.receive()
        assert (first["type"], first["number"]) == ("snapshot", 6)


async def test_client_that_sees_a_gap_asks_from_its_number(live_site, alice):
    job = await run(submit_toy, [["a"], ["b"]])
    await run(run_all)

    async with live_site.socket(path_of(job), user=alice) as connection:
        await connection.receive_until(lambda message: message["type"] == "ping")
        await connection.send({"type": "resume", "after": 4})
        again = await connection.receive()

    assert [event["number"] for event in again["events"]] == [5, 6]


async def test_lost_hints_are_made_up_for(live_site, alice, lost_hints, quick_ticks):
    job = await run(submit_toy, [["a"], ["b"]])

    async with live_site.socket(path_of(job), user=alice) as connection:
        await connection.receive()
        await run(run_all)
        messages = await connection.receive_until(is_end)

    assert [event["number"] for event in events_of(messages)] == [2, 3, 4, 5, 6]


async def test_new_evidence_comes_with_the_events(live_site, alice, monkeypatch, tmp_path):
    monkeypatch.setattr(Artifact._meta.get_field("file"), "storage", FileSystemStorage(tmp_path))
    job = await run(submit_toy, [["a"]])

    def leave_evidence(context):
        context.keep_artifact(Artifact.Kind.PAGE, "page.html", b"<p>")
        return workflows.Done({})

    workflows.BEHAVIOURS["a"] = leave_evidence

    async with live_site.socket(path_of(job), user=alice) as connection:
        await connection.receive()
        await run(run_all)
        messages = await connection.receive_until(is_end)

    artifacts = [artifact for message in messages for artifact in message.get("artifacts", [])]
    stored = await run(Artifact.objects.get)
    assert artifacts == [
        {
            "id": str(stored.pk),
            "step": str(stored.step_id),
            "attempt": 1,
            "kind": "page",
            "title": "Page",
            "url": f"/jobs/{job.pk}/artifacts/{stored.pk}",
            "created_at": artifacts[0]["created_at"],
        }
    ]


async def test_subject_is_sent_again_only_when_it_changes(live_site, alice, monkeypatch):
    monkeypatch.setitem(_describers, "toy", None)
    words = "nobody yet"
    register_subject("toy", lambda job_id: Subject([Fact("Account", words)]))
    job = await run(submit_toy, [["a"], ["b"]])

    async with live_site.socket(path_of(job), user=alice) as connection:
        snapshot = await connection.receive()
        await run(run_all)
        same = await connection.receive_until(is_end)
        words = "buyer@example.com"
        await run(live.job_changed, job.pk)
        changed = await connection.receive()

    assert snapshot["subject"]["facts"] == [{"label": "Account", "text": "nobody yet", "url": ""}]
    assert not any("subject" in message for message in same)
    assert changed["subject"]["facts"][0]["text"] == "buyer@example.com"
    assert changed["events"] == []


# --- Who may look ----------------------------------------------------------------------------


async def test_without_a_session_one_is_told_to_log_in(live_site):
    job = await run(submit_toy, [["a"]])

    async with live_site.socket(path_of(job)) as connection:
        assert await connection.close_code() == consumers.LOG_IN


async def test_charlie_cannot_see_bobs_job(live_site, bob):
    job = await run(submit_toy, [["a"]], created_by=bob)
    charlie = await run(User.objects.create_user, "charlie")

    async with live_site.socket(path_of(job), user=bob) as connection:
        assert (await connection.receive())["type"] == "snapshot"
    async with live_site.socket(path_of(job), user=charlie) as connection:
        assert await connection.close_code() == consumers.NOT_FOUND


@pytest.mark.parametrize("origin", [None, "http://evil.example", "http://localhost:1"])
async def test_other_pages_are_refused_whatever_cookie_they_bring(live_site, alice, origin):
    job = await run(submit_toy, [["a"]])

    with pytest.raises(InvalidStatus) as refusal:
        async with live_site.socket(path_of(job), user=alice, origin=origin):
            pass

    assert refusal.value.response.status_code == 403


async def test_machine_comes_with_a_key_and_no_origin(live_site, alice):
    job = await run(submit_toy, [["a"]])
    key = await run(make_key, alice)

    async with live_site.socket(path_of(job), key=key) as connection:
        assert (await connection.receive())["type"] == "snapshot"
    async with live_site.socket(path_of(job), key=f"{key}x") as connection:
        assert await connection.close_code() == consumers.LOG_IN


async def test_socket_ends_with_its_session(live_site, alice, quick_ticks):
    job = await run(submit_toy, [["a"]])

    async with live_site.socket(path_of(job), user=alice) as connection:
        await connection.receive()
        await run(Session.objects.all().delete)
        assert await connection.close_code() == consumers.LOG_IN


async def test_socket_ends_when_its_user_is_deactivated(live_site, alice, quick_ticks):
    job = await run(submit_toy, [["a"]])

    async with live_site.socket(path_of(job), user=alice) as connection:
        await connection.receive()
        await run(User.objects.filter(pk=alice.pk).update, is_active=False)
        assert await connection.close_code() == consumers.LOG_IN


async def test_socket_ends_when_its_key_is_revoked(live_site, alice, quick_ticks):
    job = await run(submit_toy, [["a"]])
    key = await run(make_key, alice)

    async with live_site.socket(path_of(job), key=key) as connection:
        await connection.receive()
        await run(ApiKey.objects.all().delete)
        assert await connection.close_code() == consumers.LOG_IN


async def test_looking_does_not_end_a_session_that_is_no_longer_good(live_site, alice):
    """Channels' own `get_user` would delete it, and another tab with it."""
    job = await run(submit_toy, [["a"]])

    async with live_site.socket(path_of(job), user=alice) as connection:
        await connection.receive()
        await run(alice.set_password, "another one")
        await run(alice.save)
    sessions = await run(list, Session.objects.all())

    assert len(sessions) == 1


async def test_job_that_is_deleted_ends_the_socket(live_site, alice, quick_ticks):
    job = await run(submit_toy, [["a"]])

    async with live_site.socket(path_of(job), user=alice) as connection:
        await connection.receive()
        await run(Job.objects.all().delete)
        assert await connection.close_code() == consumers.NOT_FOUND


async def test_unknown_path_is_refused(live_site, alice):
    with pytest.raises(InvalidStatus) as refusal:
        async with live_site.socket("/ws/nowhere", user=alice):
            pass

    assert refusal.value.response.status_code == 403


@pytest.mark.parametrize("message", ["{", "[]", "null", '{"type": "resume", "after": "x"}'])
async def test_nonsense_from_a_client_is_refused(live_site, alice, message):
    job = await run(submit_toy, [["a"]])

    async with live_site.socket(path_of(job), user=alice) as connection:
        await connection.raw.send(message)
        assert await connection.close_code() == consumers.BAD_REQUEST


async def test_number_that_is_none_is_refused(live_site, alice):
    job = await run(submit_toy, [["a"]])

    async with live_site.socket(path_of(job, "?after=x"), user=alice) as connection:
        assert await connection.close_code() == consumers.BAD_REQUEST


# --- Without Redis ---------------------------------------------------------------------------


async def test_loss_of_the_channel_layer_is_no_loss_of_the_socket(monkeypatch):
    answers = [RedisConnectionError, OSError, {"type": "job.changed"}]

    async def receive(self, channel):
        answer = answers.pop(0)
        if isinstance(answer, dict):
            return answer
        raise answer

    async def refuse(self, group, channel):
        raise RedisConnectionError

    monkeypatch.setattr(hint_layer, "PAUSE_SECONDS", 0)
    for name, function in (("receive", receive), ("group_add", refuse), ("group_discard", refuse)):
        monkeypatch.setattr(RedisChannelLayer, name, function)
    layer = hint_layer.HintLayer()

    await layer.group_add("jobs", "channel")
    message = await layer.receive("channel")
    await layer.group_discard("jobs", "channel")

    assert message == {"type": "job.changed"}
    assert answers == []


# --- The list --------------------------------------------------------------------------------


async def test_list_begins_with_the_newest_and_goes_on_with_what_changes(live_site, alice):
    older, newer = await run(submit_toy, [["a"]]), await run(submit_toy, [["a"]])

    async with live_site.socket("/ws/jobs/", user=alice) as connection:
        first = await connection.receive()
        await run(run_all)
        messages = await connection.receive_until(
            lambda message: message["stats"]["completed"] == 2
        )

    assert first["complete"] is True
    assert [row["id"] for row in first["jobs"]] == [str(newer.pk), str(older.pk)]
    assert first["stats"]["pending"] == 2
    assert messages[-1]["complete"] is False
    assert {row["status"] for row in messages[-1]["jobs"]} == {"completed"}
    assert messages[-1]["jobs"][0]["url"].startswith("/jobs/")


async def test_list_can_be_of_one_status(live_site, alice):
    await run(submit_toy, [["a"]])
    await run(run_all)
    waiting = await run(submit_toy, [["a"]])

    async with live_site.socket("/ws/jobs/?status=pending", user=alice) as connection:
        first = await connection.receive()
    async with live_site.socket("/ws/jobs/?status=nonsense", user=alice) as connection:
        assert await connection.close_code() == consumers.BAD_REQUEST

    assert [row["id"] for row in first["jobs"]] == [str(waiting.pk)]


async def test_bob_follows_his_own_by_their_ids_and_nothing_else(live_site, bob):
    his = await run(submit_toy, [["a"]], created_by=bob)
    other = await run(submit_toy, [["a"]])
    key = await run(make_key, bob)

    async with live_site.socket("/ws/jobs/", key=key) as connection:
        assert await connection.close_code() == consumers.FORBIDDEN
    path = f"/ws/jobs/?ids={his.pk},{other.pk}"
    async with live_site.socket(path, key=key) as connection:
        first = await connection.receive()
        await run(run_all)
        changed = await connection.receive_until(
            lambda message: message["jobs"][0]["status"] == "completed"
        )

    assert [row["id"] for row in first["jobs"]] == [str(his.pk)]
    assert {row["id"] for message in changed for row in message["jobs"]} == {str(his.pk)}
    assert "stats" not in first


@pytest.mark.parametrize("ids", ["", "x", f"{uuid4()},{uuid4()},{uuid4()}"])
async def test_ids_that_make_no_sense_are_refused(live_site, alice, ids, monkeypatch):
    monkeypatch.setattr(consumers, "MOST_FOLLOWED", 2)

    async with live_site.socket(f"/ws/jobs/?ids={ids}", user=alice) as connection:
        assert await connection.close_code() == consumers.BAD_REQUEST


async def test_flood_of_changes_is_read_once_for_all_open_lists(live_site, alice, monkeypatch):
    jobs = [await run(submit_toy, [["a"]]) for _ in range(30)]
    reads = []
    real = consumers.ChangeReader._read_now

    def count(self, job_ids):
        reads.append(len(job_ids))
        return real(self, job_ids)

    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(live_site.socket("/ws/jobs/", user=alice))
            for _ in range(5)
        ]
        for connection in connections:
            await connection.receive()
        await asyncio.sleep(0.3)  # the hints of submitting
        monkeypatch.setattr(consumers.ChangeReader, "_read_now", count)
        for job in jobs:
            live.messenger.post(changed=[str(job.pk)])

        seen = [set() for _ in connections]
        for rows, connection in zip(seen, connections, strict=True):
            while len(rows) < 30:
                rows.update(row["id"] for row in (await connection.receive())["jobs"])

    # A query a change and client would be 150.
    assert sum(reads) >= 30
    assert len(reads) <= 6


def test_rows_need_the_same_number_of_queries_however_many(django_assert_num_queries, alice):
    listing = JobListing()
    for _ in range(5):
        submit_toy([["a"], ["b"]])
        step = steps.claim_next(["steps"], worker="w")
        steps.postpone(step, delay=timedelta(minutes=1), reason="The shop is closed.")

    with django_assert_num_queries(1):
        rows = [listing.row(job) for job in listing.visible_to(alice)]
    with django_assert_num_queries(1):
        stats = listing.stats()

    assert len(rows) == 5 < PAGE_SIZE
    assert {row["phase"] for row in rows} == {"Step a"}
    assert all(row["due_at"] for row in rows)
    assert stats["running"] == 5
