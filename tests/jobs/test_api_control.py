"""POST /api/jobs/{id}/cancel, /api/jobs/{id}/rerun and /api/jobs/bulk."""

from uuid import uuid4

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import ApiKey, User
from jobs import steps
from jobs.api import control
from jobs.errors import BusinessError
from jobs.models import Effect, Job, Status
from jobs.runner import runner
from tests.jobs.rows import all_rows, get_job, statuses
from tests.jobs.workflows import submit_toy

pytestmark = pytest.mark.django_db


def client_of(user):
    key, secret = ApiKey.issue(user, user.username)
    return APIClient(headers={"authorization": f"token {key.key}:{secret}"})


@pytest.fixture
def alice():
    """An admin."""
    return client_of(User.objects.create_user("alice", is_staff=True))


@pytest.fixture
def bob_himself():
    return User.objects.create_user("bob")


@pytest.fixture
def bob(bob_himself):
    return client_of(bob_himself)


def post(client, path, body=None):
    return client.post(f"/api/jobs/{path}", body or {}, format="json")


def assert_refused(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["success"] is False


def failed_job(becomes=Status.FAILED, **submission) -> Job:
    job = submit_toy([["a"], ["b"]], **submission)
    step = steps.claim_next(["steps"], worker="w")
    steps.fail(step, BusinessError("out_of_stock", "It is sold out."), becomes=becomes)
    return job


def test_admin_cancels_any_job(alice):
    job = submit_toy([["a"]])

    response = post(alice, f"{job.pk}/cancel", {"reason": "Ordered by hand"})

    assert response.status_code == 200
    assert response.json()["success"] is True
    assert response.json()["job"]["status"] == "cancelled"
    assert get_job(job).error["message"] == "Cancelled by alice: Ordered by hand"
    assert post(alice, f"{job.pk}/cancel").status_code == 200


def test_manual_jobs_are_cancelled_one_and_many(alice):
    one, *more = [failed_job(becomes=Status.MANUAL) for _ in range(3)]

    assert post(alice, f"{one.pk}/cancel").json()["job"]["status"] == "cancelled"
    body = {"action": "cancel", "filter": {"status": ["manual"]}}
    assert post(alice, "bulk", body).json()["done"] == 2

    assert {get_job(job).status for job in more} == {"cancelled"}


def test_job_with_an_unknown_outcome_is_not_cancelled(alice):
    job = failed_job(becomes=Status.MANUAL)
    Effect.objects.create(
        workspace=job.workspace, job=job, key="pay:5", title="Pay ₹6,000", status="unknown"
    )
    rows = all_rows()

    refusal = post(alice, f"{job.pk}/cancel")

    assert_refused(refusal, 409, "OUTCOME_IS_UNKNOWN")
    assert "say so in the inbox" in refusal.json()["error"]
    assert all_rows() == rows


def test_who_asked_for_a_job_may_cancel_it_and_no_other(bob, bob_himself):
    own, other = submit_toy([["a"]], created_by=bob_himself), submit_toy([["a"]])

    assert post(bob, f"{own.pk}/cancel").status_code == 200
    assert_refused(post(bob, f"{other.pk}/cancel"), 404, "NOT_FOUND")

    assert (get_job(own).status, get_job(other).status) == ("cancelled", "pending")


def test_who_is_no_admin_runs_nothing_again(bob, bob_himself):
    job = failed_job(created_by=bob_himself)
    rows = all_rows()

    assert_refused(post(bob, f"{job.pk}/rerun"), 403, "FORBIDDEN")
    assert_refused(post(bob, "bulk", {"action": "cancel"}), 403, "FORBIDDEN")
    assert_refused(post(APIClient(), f"{job.pk}/cancel"), 401, "NOT_AUTHENTICATED")

    assert all_rows() == rows


def test_admin_runs_a_job_again_from_a_step(alice):
    job = submit_toy([["a"], ["b"]])
    runner.run_ready_steps(["steps"])

    response = post(alice, f"{job.pk}/rerun", {"from_step": "b"})

    assert response.json()["job"]["status"] == "pending"
    assert statuses(job) == {"a": "completed", "b": "ready"}


def test_job_is_run_again_from_the_first_step_that_is_not_done(alice):
    job = failed_job()

    assert post(alice, f"{job.pk}/rerun").status_code == 200

    assert statuses(job) == {"a": "ready", "b": "pending"}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("{failed}/cancel", {}, 409, "JOB_HAS_ENDED"),
        ("{pending}/rerun", {}, 409, "JOB_HAS_NOT_ENDED"),
        ("{failed}/rerun", {"from_step": "z"}, 400, "UNKNOWN_STEP"),
        ("{failed}/rerun", {"from_step": "b"}, 409, "EARLIER_STEP_NOT_DONE"),
        ("{failed}/rerun", {"form_step": "a"}, 400, "INVALID_REQUEST"),
        ("{failed}/rerun", {"from_step": 7 * [1]}, 400, "INVALID_REQUEST"),
        ("{nobody}/cancel", {}, 404, "NOT_FOUND"),
        ("nonsense/rerun", {}, 404, "NOT_FOUND"),
        ("bulk", {}, 400, "INVALID_REQUEST"),
        ("bulk", {"action": "delete", "filter": {"workflow": "toy"}}, 400, "INVALID_REQUEST"),
        ("bulk", {"action": "cancel", "filter": {}}, 400, "INVALID_FILTER"),
        ("bulk", {"action": "cancel", "filter": {"worklow": "toy"}}, 400, "INVALID_REQUEST"),
        ("bulk", {"action": "cancel", "filter": {"status": ["failed"]}}, 400, "INVALID_FILTER"),
        ("bulk", {"action": "cancel", "filter": {"params": {"n": [1]}}}, 400, "INVALID_REQUEST"),
        ("bulk", {"action": "cancel", "filter": {"ids": ["x"]}}, 400, "INVALID_REQUEST"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(alice, path, body, status, code):
    jobs = {"failed": failed_job().pk, "pending": submit_toy([["a"]]).pk, "nobody": uuid4()}
    rows = all_rows()

    response = post(alice, path.format(**jobs), body)

    assert_refused(response, status, code)
    assert all_rows() == rows


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"action": "delete", "filter": {}}, "action: 'delete' is none of: cancel, rerun, resume."),
        (
            {"action": "cancel", "filter": {"status": ["ready"]}},
            "filter.status.0: 'ready' is none of: pending, running, waiting, completed, failed, "
            "manual, cancelled.",
        ),
    ],
)
def test_refused_choice_says_which_there_are(alice, body, sentence):
    assert post(alice, "bulk", body).json()["error"] == sentence


def test_dry_run_counts_and_changes_nothing(alice):
    jobs = [submit_toy([["a"]]) for _ in range(12)]
    rows = all_rows()

    body = {"action": "cancel", "filter": {"workflow": "toy"}, "dry_run": True}
    answer = post(alice, "bulk", body).json()

    assert (answer["count"], answer["dry_run"]) == (12, True)
    assert [job["id"] for job in answer["first"]] == [str(job.pk) for job in jobs[:10]]
    assert all_rows() == rows


def test_many_are_cancelled_in_as_many_calls_as_it_takes(alice, monkeypatch):
    monkeypatch.setattr(control, "MOST", 2)
    for _ in range(3):
        submit_toy([["a"]])
    body = {"action": "cancel", "filter": {"workflow": "toy"}, "reason": "Stocktaking"}

    first = post(alice, "bulk", body).json()
    second = post(alice, "bulk", {**body, "after": first["next"]}).json()

    assert (first["count"], first["done"]) == (3, 2)
    assert (second["count"], second["done"], second["next"]) == (1, 1, None)
    assert set(Job.objects.values_list("status", flat=True)) == {Status.CANCELLED}


def test_many_are_run_again_by_their_error_and_what_cannot_be_is_said(alice):
    job = failed_job()
    filters = {"error_code": "out_of_stock", "params": {}, "status": ["failed"]}

    body = {"action": "rerun", "filter": filters, "from_step": "b"}
    skipped = post(alice, "bulk", body).json()
    assert (skipped["done"], skipped["skipped"]) == (0, 1)
    assert skipped["skipped_first"][0]["id"] == str(job.pk)
    assert "run the job again from 'a'" in skipped["skipped_first"][0]["reason"]

    done = post(alice, "bulk", {**body, "from_step": None}).json()
    assert (done["done"], done["skipped"]) == (1, 0)
    assert statuses(job) == {"a": "ready", "b": "pending"}


def test_page_of_another_site_cannot_cancel():
    """A browser's session alone does not do: the token of our own page belongs to it."""
    User.objects.create_user("alice", is_staff=True, password="x")
    job = submit_toy([["a"]])
    browser = Client(enforce_csrf_checks=True)
    browser.login(username="alice", password="x")

    response = browser.post(f"/api/jobs/{job.pk}/cancel", {}, content_type="application/json")

    assert response.status_code == 403
    assert get_job(job).status == Status.PENDING
