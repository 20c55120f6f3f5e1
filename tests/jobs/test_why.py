"""Rule 8: a step that does not start says why, by the rows and the decision of the claim itself."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from rest_framework.test import APIClient

from accounts.models import ApiKey, User
from jobs import flow, steps
from jobs.errors import BusinessError, TransientError
from jobs.models import FlowLimit, Job, Process, Status, Step
from jobs.plans import WaitFor
from jobs.waits import approval
from jobs.why import why
from tests.jobs.rows import get_step
from tests.jobs.workflows import submit_toy

pytestmark = pytest.mark.django_db(transaction=True)

SHOP = "vendor:shop"
TIMED_OUT = TransientError("site_timeout", "The page did not load.")


def claim():
    return steps.claim_next(["steps"], worker="alice")


def submit_at_shop(count=1, **submission):
    options = {"a": {"keys": [SHOP]}}
    return [submit_toy([["a"]], options=options, **submission) for _ in range(count)]


def ask(job, name="a", visible=None):
    return why(get_step(job, name).pk, visible=Job.objects.all() if visible is None else visible)


def start_worker(*queues):
    return Process.objects.create(kind="worker", name="host:1", queues=list(queues), beat_at=Now())


# --- Each reason -----------------------------------------------------------------------------


def test_later_step_names_the_earlier_ones_that_are_not_done():
    job = submit_toy([["a", "b"], ["c"], ["d"]])
    steps.complete(claim(), {}, queues=[], worker="alice")

    reason = ask(job, "d")

    assert (reason.code, reason.sentence) == (
        "earlier_steps",
        "Earlier steps are not done: “Step b”, “Step c”.",
    )
    assert [(step["name"], step["status"]) for step in reason.data["steps"]] == [
        ("b", "ready"),
        ("c", "pending"),
    ]


def test_step_that_failed_an_attempt_says_which_error_it_is_retried_for():
    job = submit_toy([["a"]])
    steps.retry(claim(), TIMED_OUT, delay=timedelta(minutes=1))

    reason = ask(job)

    assert (reason.code, reason.sentence) == (
        "retry",
        "It is tried again after: The page did not load.",
    )
    assert reason.data == {
        "due_at": get_step(job, "a").due_at,
        "error": {"code": "site_timeout", "message": "The page did not load."},
        "attempt": 1,
    }


def test_postponed_step_says_for_what():
    job = submit_toy([["a"]])
    steps.postpone(claim(), delay=timedelta(minutes=1), reason="Every account is busy.")

    reason = ask(job)

    assert (reason.code, reason.sentence) == ("postponed", "Every account is busy.")
    assert reason.data == {"due_at": get_step(job, "a").due_at}


def test_step_that_waits_for_a_person_says_so():
    job = submit_toy([["a"]])
    steps.suspend(claim(), WaitFor([approval("go", "Buy it?")], "Somebody must agree"))

    reason = ask(job)

    assert (reason.code, reason.sentence) == (
        "answer",
        "Waits for an answer: Somebody must agree",
    )
    assert [wait["name"] for wait in reason.data["waits"]] == ["go"]


def test_full_limit_says_how_many_run_and_which_jobs_they_are_of():
    flow.set_limit(SHOP, concurrency=2, by="olga")
    first, second, third, fourth = submit_at_shop(4)
    claim(), claim(), claim()

    reason = ask(fourth)

    assert (reason.code, reason.sentence) == (
        "concurrency",
        "2 of 2 steps of the vendor shop are running.",
    )
    assert reason.data == {
        "key": SHOP,
        "running": 2,
        "limit": 2,
        "jobs": [{"id": str(job.pk), "title": "Toy"} for job in (first, second)],
        "ahead": 1,
    }
    assert ask(third).data["ahead"] == 0


def test_jobs_that_one_may_not_see_are_not_named():
    flow.set_limit(SHOP, concurrency=2, by="olga")
    _, mine, waiting = submit_at_shop(3)
    claim(), claim()

    reason = ask(waiting, visible=Job.objects.filter(pk__in=[mine.pk, waiting.pk]))

    assert reason.data["running"] == 2
    assert [job["id"] for job in reason.data["jobs"]] == [str(mine.pk)]


def test_rate_says_when():
    flow.set_limit(SHOP, rate=1, period_seconds=3600, by="olga")
    *_, third = submit_at_shop(3)
    start = Step.objects.get(pk=claim().id).started_at
    claim()

    reason = ask(third)

    assert (reason.code, reason.sentence) == (
        "rate",
        "The vendor shop starts at most 1 step in an hour.",
    )
    assert reason.data == {
        "key": SHOP,
        "rate": 1,
        "period_seconds": 3600.0,
        "due_at": start + timedelta(hours=2),
        "ahead": 1,
    }


def test_pause_says_by_whom_when_and_why_even_before_a_claim_has_met_it():
    (job,) = submit_at_shop()
    flow.pause(SHOP, by="olga", reason="Their site is down.")

    before = ask(job)
    claim()

    assert ask(job) == before
    assert (before.code, before.sentence) == (
        "paused",
        "The vendor shop is paused by olga: Their site is down.",
    )
    assert before.data == {
        "key": SHOP,
        "paused_at": FlowLimit.objects.get().paused_at,
        "paused_by": "olga",
        "reason": "Their site is down.",
    }


def test_newcomer_says_that_it_is_not_its_turn():
    flow.set_limit(SHOP, concurrency=1, by="olga")
    submit_at_shop(2)
    running = claim()
    claim()
    steps.complete(running, {}, queues=[], worker="alice")
    (newcomer,) = submit_at_shop()

    reason = ask(newcomer)

    assert (reason.code, reason.data) == ("turn", {"key": SHOP, "ahead": 1})


def test_held_step_with_a_place_says_that_it_is_about_to_start():
    flow.set_limit(SHOP, concurrency=1, by="olga")
    _, second = submit_at_shop(2)
    running = claim()
    claim()
    steps.complete(running, {}, queues=[], worker="alice")

    assert ask(second).code == "next"


def test_ready_step_of_a_queue_that_nobody_serves_says_so():
    start_worker("steps")
    job = submit_toy([["a"]], options={"a": {"queue": "host-7"}})

    reason = ask(job)

    assert (reason.code, reason.sentence) == (
        "no_worker",
        "No worker serves the queue “host-7”; start one.",
    )


def test_worker_that_has_not_beaten_for_long_serves_nothing():
    worker = start_worker("steps")
    job = submit_toy([["a"]])
    assert ask(job).code == "next"

    Process.objects.filter(pk=worker.pk).update(beat_at=Now() - timedelta(minutes=2))

    assert ask(job).code == "no_worker"


def test_ready_step_behind_others_says_how_many():
    start_worker("steps")
    submit_toy([["a"]])
    claim()
    submit_toy([["a"]])
    last = submit_toy([["a"]])
    submit_toy([["a"]], priority=1)

    reason = ask(last)

    assert (reason.code, reason.sentence) == (
        "workers_busy",
        "2 steps before it in the queue; the workers are busy with 1 step.",
    )
    assert reason.data == {"queue": "steps", "workers": 1, "running": 1, "ahead": 2}


def test_step_of_a_job_that_has_ended_says_so():
    job = submit_toy([["a"], ["b"]])
    steps.fail(claim(), BusinessError("out_of_stock", "It is sold out."))
    Step.objects.filter(job=job, name="b").update(status=Status.PENDING)

    reason = ask(job, "b")

    assert (reason.code, reason.sentence) == ("job_ended", "The job has ended: failed.")


def test_step_that_runs_is_held_back_by_nothing():
    job = submit_toy([["a"]])
    claim()

    assert ask(job).sentence == "Nothing holds it back: it is running."


def test_reason_is_the_claims_own():
    """Whatever the reason says, the claim does: for each hold, and after it."""
    start_worker("steps")
    flow.set_limit(SHOP, concurrency=1, by="olga")
    flow.set_limit("workflow:toy", concurrency=1, by="olga")
    (job,) = submit_at_shop()
    for act, code in [
        (lambda: flow.pause(SHOP, by="olga"), "paused"),
        (lambda: flow.pause("workflow:toy", by="olga"), "paused"),
        (lambda: flow.resume(SHOP, by="olga"), "paused"),
    ]:
        act()
        assert ask(job).code == code
        assert claim() is None
    flow.resume("workflow:toy", by="olga")
    assert ask(job).code == "next"
    assert claim().job_id == job.pk


# --- REST ------------------------------------------------------------------------------------


@pytest.fixture
def alice():
    """Staff."""
    return User.objects.create_user("alice", is_staff=True)


@pytest.fixture
def bob():
    return User.objects.create_user("bob")


def api(user):
    key, secret = ApiKey.issue(user, user.username)
    return APIClient(headers={"authorization": f"token {key.key}:{secret}"})


def test_job_says_why_each_of_its_steps_does_not_start(alice):
    job = submit_toy([["a", "b"], ["c"]], options={"a": {"keys": [SHOP]}})
    flow.pause(SHOP, by="olga")

    answer = api(alice).get(f"/api/jobs/{job.pk}/why")

    assert answer.status_code == 200
    assert answer.json()["job"] == str(job.pk)
    told = [(step["name"], step["code"]) for step in answer.json()["steps"]]
    assert told == [("a", "paused"), ("b", "no_worker"), ("c", "earlier_steps")]


def test_job_that_is_not_ones_own_says_nothing(bob):
    theirs = submit_toy([["a"]])
    mine = submit_toy([["a"]], created_by=bob)

    assert api(bob).get(f"/api/jobs/{mine.pk}/why").status_code == 200
    assert api(bob).get(f"/api/jobs/{theirs.pk}/why").status_code == 404


def test_limit_is_set_and_read_over_rest(alice):
    client = api(alice)
    submit_at_shop(3)
    nothing = client.get(f"/api/limits/{SHOP}").json()["limit"]

    answer = client.put(
        f"/api/limits/{SHOP}", {"concurrency": 1, "rate": 30, "period_seconds": 10}, format="json"
    )
    claim(), claim()

    assert (nothing["concurrency"], nothing["rate"], nothing["paused"]) == (None, None, False)
    assert answer.status_code == 200
    assert client.get(f"/api/limits/{SHOP}").json() == {
        "success": True,
        "limit": {
            "key": SHOP,
            "concurrency": 1,
            "rate": 30,
            "period_seconds": 10,
            "paused": False,
            "paused_at": None,
            "paused_by": "",
            "pause_reason": "",
            "running": 1,
            "waiting": 2,
        },
    }
    assert [limit["key"] for limit in client.get("/api/limits").json()["limits"]] == [SHOP]


def test_key_is_paused_and_resumed_over_rest(alice):
    client = api(alice)
    submit_at_shop()

    answer = client.post(f"/api/limits/{SHOP}/pause", {"reason": "Down."}, format="json")
    assert claim() is None

    assert answer.json()["limit"]["paused_by"] == "alice"
    assert answer.json()["limit"]["pause_reason"] == "Down."
    assert client.post(f"/api/limits/{SHOP}/resume").json()["limit"]["paused"] is False
    assert claim() is not None


@pytest.mark.parametrize(
    ("key", "body", "code"),
    [
        ("shop", {"concurrency": 1}, "INVALID_LIMIT"),
        ("workflow:cart_ad", {"concurrency": 1}, "INVALID_LIMIT"),
        (SHOP, {"concurrency": 0}, "INVALID_REQUEST"),
        (SHOP, {"concurency": 1}, "INVALID_REQUEST"),
    ],
)
def test_limit_that_makes_no_sense_is_refused_over_rest(alice, key, body, code):
    answer = api(alice).put(f"/api/limits/{key}", body, format="json")

    assert answer.status_code == 400
    assert (answer.json()["success"], answer.json()["code"]) == (False, code)
    assert not FlowLimit.objects.exists()


@pytest.mark.parametrize(
    ("method", "path"), [("get", ""), ("put", ""), ("post", "/pause"), ("post", "/resume")]
)
def test_limits_are_for_staff(bob, method, path):
    flow.pause(SHOP, by="olga")

    answer = getattr(api(bob), method)(f"/api/limits/{SHOP}{path}")

    assert answer.status_code == 403
    assert FlowLimit.objects.get().paused_by == "olga"


# --- The admin's page ------------------------------------------------------------------------


def test_limit_is_made_edited_paused_resumed_and_deleted_in_the_admin(admin_client):
    submit_at_shop(3)
    url = "/admin/jobs/flowlimit/"
    numbers = {"concurrency": "1", "rate": "", "period_seconds": "60"}

    assert admin_client.post(f"{url}add/", {"key": SHOP, **numbers}).status_code == 302
    claim(), claim()
    page = admin_client.get(url).content.decode()
    assert "vendor shop" in page

    change = f"{url}vendor_3Ashop/change/"
    assert admin_client.post(change, {**numbers, "concurrency": "2"}).status_code == 302
    assert Step.objects.filter(status="ready").count() == 1

    chosen = {"_selected_action": SHOP}
    admin_client.post(url, {"action": "pause_selected", **chosen})
    assert FlowLimit.objects.get().paused_by == "admin"
    assert admin_client.get(change).status_code == 200
    admin_client.post(url, {"action": "resume_selected", **chosen})
    assert FlowLimit.objects.get().paused_at is None

    assert admin_client.post(f"{url}vendor_3Ashop/delete/", {"post": "yes"}).status_code == 302
    assert not FlowLimit.objects.exists()
    assert Step.objects.filter(status="waiting").count() == 0


def test_limit_of_no_workflow_is_refused_in_the_admin(admin_client):
    answer = admin_client.post(
        "/admin/jobs/flowlimit/add/",
        {"key": "workflow:cart_ad", "concurrency": "1", "rate": "", "period_seconds": "60"},
    )

    assert "No workflow is called" in answer.content.decode()
    assert not FlowLimit.objects.exists()
