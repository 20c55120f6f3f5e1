"""GET /api/jobs, /api/jobs/{id} and /api/jobs/{id}/events: what docs/live-protocol.md says."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiKey, User
from jobs import steps
from jobs.api import views
from jobs.errors import BusinessError
from jobs.models import Job
from jobs.runner import runner
from jobs.snapshots import read_snapshot
from jobs.submit import submit_job
from tests.jobs.workflows import submit_toy

# The events are read in threads of the pool, which see only what is committed.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bob(transactional_db):
    """No staff: sees what he asked for."""
    return User.objects.create_user("bob")


@pytest.fixture
def alice(transactional_db):
    """Staff: sees everything."""
    return User.objects.create_user("alice", is_staff=True)


def api(user):
    key, secret = ApiKey.issue(user, user.username)
    return APIClient(headers={"authorization": f"token {key.key}:{secret}"})


def run_all():
    runner.run_ready_steps(["steps"])


def ids(answer):
    assert answer.status_code == 200, answer.content
    return [job["id"] for job in answer.json()["jobs"]]


def fail_one(job):
    claim = steps.claim_next(["steps"], worker="alice")
    assert claim.job_id == job.pk
    steps.fail(claim, BusinessError("out_of_stock", "It is sold out."))


# --- The list --------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_with_what_they_are_doing(alice):
    old = submit_toy([["a"]])
    fail_one(old)
    new = submit_toy([["a"], ["b"]])

    answer = api(alice).get("/api/jobs")

    assert ids(answer) == [str(new.pk), str(old.pk)]
    assert answer.json()["next"] is None
    assert answer.json()["jobs"][1] == {
        "id": str(old.pk),
        "workflow": "toy",
        "title": "Toy",
        "status": "failed",
        "progress": 0,
        "result": None,
        "error": {"code": "out_of_stock", "message": "It is sold out."},
        "created_at": answer.json()["jobs"][1]["created_at"],
        "started_at": answer.json()["jobs"][1]["started_at"],
        "finished_at": answer.json()["jobs"][1]["finished_at"],
        "phase": "",
        "due_at": None,
        "url": f"/jobs/{old.pk}/",
    }


def test_filters_by_status_and_by_workflow(alice):
    failed = submit_toy([["a"]])
    fail_one(failed)
    pending = submit_toy([["a"]])
    other = submit_toy([["a"]], workflow="toy.with_rows")
    client = api(alice)

    assert ids(client.get("/api/jobs?status=failed")) == [str(failed.pk)]
    assert ids(client.get("/api/jobs?status=pending")) == [str(other.pk), str(pending.pk)]
    assert ids(client.get("/api/jobs?workflow=toy.with_rows")) == [str(other.pk)]
    assert ids(client.get("/api/jobs?workflow=none")) == []


def test_range_of_creation_includes_its_start_and_excludes_its_end(alice):
    jobs = [submit_toy([["a"]]) for _ in range(3)]
    noon = timezone.now().replace(microsecond=0)
    for minute, job in enumerate(jobs):
        Job.objects.filter(pk=job.pk).update(created_at=noon + timedelta(minutes=minute))
    at = [(noon + timedelta(minutes=minute)).isoformat() for minute in range(3)]
    client = api(alice)

    found = client.get("/api/jobs", {"created_after": at[1], "created_before": at[2]})

    assert ids(found) == [str(jobs[1].pk)]
    assert ids(client.get("/api/jobs", {"created_after": at[1]})) == [
        str(jobs[2].pk),
        str(jobs[1].pk),
    ]
    assert ids(client.get("/api/jobs", {"created_before": at[1]})) == [str(jobs[0].pk)]


@pytest.mark.parametrize("ahead", [timedelta(minutes=-50), timedelta(minutes=50)])
def test_range_finds_a_job_whose_machine_has_a_wrong_clock(alice, ahead):
    now = timezone.now()
    job = submit_toy([["a"]])
    Job.objects.filter(pk=job.pk).update(created_at=now - ahead)
    around = {
        "created_after": (now - ahead - timedelta(seconds=1)).isoformat(),
        "created_before": (now - ahead + timedelta(seconds=1)).isoformat(),
    }

    assert ids(api(alice).get("/api/jobs", around)) == [str(job.pk)]


def test_first_id_of_a_moment_is_not_above_what_is_made_then():
    moment = datetime(2026, 11, 21, 12, tzinfo=UTC)
    made_then = UUID("01a1fdfa-4600-7000-8000-000000000000")

    assert views.first_id_of(moment) < made_then
    assert views.first_id_of(moment + timedelta(milliseconds=1)) > made_then


def test_pages_follow_each_other_without_gaps_while_new_jobs_come(alice):
    jobs = [str(submit_toy([["a"]]).pk) for _ in range(5)]
    client = api(alice)

    first = client.get("/api/jobs?limit=2")
    submit_toy([["a"]])
    second = client.get(f"/api/jobs?limit=2&before={first.json()['next']}")
    third = client.get(f"/api/jobs?limit=2&before={second.json()['next']}")

    assert ids(first) + ids(second) + ids(third) == jobs[::-1]
    assert third.json()["next"] is None


def test_who_is_no_staff_lists_what_he_asked_for(bob):
    submit_toy([["a"]])
    own = submit_toy([["a"]], created_by=bob)

    assert ids(api(bob).get("/api/jobs")) == [str(own.pk)]


@pytest.mark.parametrize(
    "query",
    ["status=ready", "status=none", "limit=0", "limit=201", "before=x", "created_after=yesterday"],
)
def test_query_that_makes_no_sense_is_refused_with_a_sentence(alice, query):
    answer = api(alice).get(f"/api/jobs?{query}")

    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert answer.json()["code"] == "INVALID_REQUEST"
    assert query.partition("=")[0] in answer.json()["error"]


# --- One job ---------------------------------------------------------------------------------


def test_job_is_the_snapshot_that_the_websocket_sends(bob):
    job = submit_toy([["a"], ["b", "c"]], created_by=bob)
    run_all()

    answer = api(bob).get(f"/api/jobs/{job.pk}")

    expected = json.loads(json.dumps(read_snapshot(job.pk), cls=DjangoJSONEncoder))
    assert answer.status_code == 200
    assert set(answer.json()) == set(expected)
    assert answer.json()["number"] == expected["number"] == job_number(job)
    assert set(answer.json()["job"]) == set(expected["job"])
    assert [set(step) for step in answer.json()["steps"]] == [
        set(step) for step in expected["steps"]
    ]
    assert [step["status"] for step in answer.json()["steps"]] == ["completed"] * 3
    assert [event["number"] for event in answer.json()["events"]] == list(
        range(1, job_number(job) + 1)
    )


def job_number(job):
    return Job.objects.get(pk=job.pk).last_event


@pytest.mark.parametrize("path", ["", "/events", "/stream"])
def test_job_of_others_is_not_found(bob, path):
    job = submit_toy([["a"]])
    client = api(bob)

    answers = [client.get(f"/api/jobs/{pk}{path}") for pk in (job.pk, uuid4(), "none")]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert {answer.json()["code"] for answer in answers} == {"NOT_FOUND"}


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/{}", "/api/jobs/{}/events"])
def test_nobody_is_told_to_say_who_he_is(path, transactional_db):
    job = submit_toy([["a"]])

    answer = APIClient().get(path.format(job.pk))

    assert answer.status_code == 401
    assert answer.json()["code"] == "NOT_AUTHENTICATED"


def test_slash_at_the_end_is_forgiven(alice):
    job = submit_toy([["a"]])
    client = api(alice)

    for path in ("", f"/{job.pk}", f"/{job.pk}/events"):
        assert client.get(f"/api/jobs{path}/").json() | {"at": 0} == client.get(
            f"/api/jobs{path}"
        ).json() | {"at": 0}


# --- Events ----------------------------------------------------------------------------------


def numbers(answer):
    assert answer.status_code == 200, answer.content
    return [event["number"] for event in answer.json()["events"]]


def test_events_after_a_number_come_in_order_and_say_how_to_go_on(bob):
    job = submit_toy([["a"], ["b"]], created_by=bob)
    run_all()
    client = api(bob)

    all_events = client.get(f"/api/jobs/{job.pk}/events")
    later = client.get(f"/api/jobs/{job.pk}/events?after=4")
    none = client.get(f"/api/jobs/{job.pk}/events?after=6")

    assert numbers(all_events) == [1, 2, 3, 4, 5, 6]
    assert set(all_events.json()["events"][0]) == {
        "number",
        "kind",
        "at",
        "step",
        "message",
        "data",
    }
    assert numbers(later) == [5, 6]
    assert (later.json()["next"], later.json()["last"]) == (6, 6)
    assert (numbers(none), none.json()["next"], none.json()["last"]) == ([], 6, 6)


def test_events_come_in_parts_that_fit_together(bob, monkeypatch):
    monkeypatch.setattr(views, "MOST_EVENTS", 4)
    job = submit_toy([["a"], ["b"]], created_by=bob)
    run_all()
    client = api(bob)

    first = client.get(f"/api/jobs/{job.pk}/events")
    second = client.get(f"/api/jobs/{job.pk}/events?after={first.json()['next']}")

    assert (numbers(first), first.json()["next"], first.json()["last"]) == ([1, 2, 3, 4], 4, 6)
    assert (numbers(second), second.json()["next"]) == ([5, 6], 6)


@pytest.mark.parametrize(
    ("after", "code"), [("7", "NO_SUCH_EVENT"), ("-1", "INVALID_REQUEST"), ("x", "INVALID_REQUEST")]
)
@pytest.mark.parametrize("path", ["events", "stream"])
def test_number_that_cannot_be_is_refused(bob, path, after, code):
    job = submit_toy([["a"], ["b"]], created_by=bob)
    run_all()

    answer = api(bob).get(f"/api/jobs/{job.pk}/{path}?after={after}")

    assert answer.status_code == 400
    assert answer["content-type"] == "application/json"
    assert answer.json()["code"] == code


def test_list_of_a_large_table_reads_no_more_rows_than_it_shows(alice, django_assert_num_queries):
    for _ in range(3):
        submit_job("toy", {"chain": [["a"]], "options": {}}, title="Toy")
    client = api(alice)
    client.get("/api/jobs")  # notes the use of the key

    with django_assert_num_queries(2):  # the key, the page
        client.get("/api/jobs?limit=2")
