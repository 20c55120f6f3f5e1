"""What waits for a person: on a page, over REST, and answered there. Charlie is no admin."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client as HttpClient

from accounts.models import User, Workspace
from jobs.archive import old_jobs
from jobs.control import rerun_job
from jobs.effects import CannotTell, DidNotHappen, Happened, decide
from jobs.errors import BusinessError
from jobs.models import Effect, InboundMessage, Status
from jobs.otp.messages import Inbound, receive
from jobs.otp.requests import otp
from jobs.plans import Done, WaitFor
from jobs.runner import runner
from jobs.waits import approval
from tests.jobs.rows import all_rows, get_job
from tests.jobs.workflows import BEHAVIOURS, submit_toy

pytestmark = pytest.mark.django_db(transaction=True)

GOOD = "482913"


def log_in(name, **fields):
    user = User.objects.create_user(name, password="pw", **fields)
    client = HttpClient()
    client.force_login(user)
    client.user = user
    return client


@pytest.fixture
def alice():
    return log_in("alice", is_staff=True, is_superuser=True)


@pytest.fixture
def charlie():
    return log_in("charlie")


def post(client, path, body):
    return client.post(path, json.dumps(body), content_type="application/json")


def start(name, behaviour, by):
    job = submit_toy([[name]], created_by=by.user)
    BEHAVIOURS[name] = behaviour
    runner.run_ready_steps(["steps"])
    return job


def wants_code(context):
    code = context.find_code("otp")
    if code is None:
        return WaitFor([otp("otp", otp_type="login", service="gyftr", phone="9876543210")], "…")
    return Done({"typed": code.value == GOOD})


def wants_approval(context):
    answer = context.find_answer("pay")
    return Done(answer.data) if answer else WaitFor([approval("pay", "Pay ₹6,000?")], "…")


def pays(context):
    def die():
        raise ConnectionError

    return Done(
        context.perform(
            "pay:5",
            title="Pay ₹6,000",
            intent={"order": 5, "card": "1009"},
            act=die if context.attempt == 1 else dict,
            reconcile=lambda effect: CannotTell("The order page does not open."),
        )
    )


def unknown_payment(by):
    job = start("p", pays, by)
    job.steps.update(status=Status.READY)
    runner.run_ready_steps(["steps"])
    assert get_job(job).status == Status.MANUAL
    return job


def ambiguous_message(by, text=f"Your OTP is {GOOD}"):
    jobs = [start(name, wants_code, by) for name in ("a", "b")]
    message = receive(Inbound("GYFTR", text, "9876543210"), workspace_id=by.user.workspace_id)
    assert message.status == "unclear"
    return jobs, message


def read(client):
    return client.get("/api/inbox").json()


def test_an_empty_inbox_says_so(alice):
    assert read(alice) == {"waits": [], "messages": [], "effects": [], "webhooks": []}
    assert "Nothing waits for you" in alice.get("/inbox/").content.decode()


def test_everything_that_waits_for_a_person_is_in_it(alice):
    start("pay", wants_approval, alice)
    ambiguous_message(alice)
    unknown_payment(alice)

    inbox = read(alice)

    assert [(wait["kind"], wait["question"]) for wait in inbox["waits"]] == [
        ("approval", "Pay ₹6,000?"),
        ("otp", "The code of gyftr, sent to …3210"),
        ("otp", "The code of gyftr, sent to …3210"),
    ]
    assert [message["reason"] for message in inbox["messages"]] == [
        "2 requests may be meant (gyftr)."
    ]
    (effect,) = inbox["effects"]
    assert (effect["title"], effect["reason"]) == ("Pay ₹6,000", "The order page does not open.")
    assert effect["intent"] == [
        {"label": "Card", "text": "1009"},
        {"label": "Order", "text": "5"},
    ]


def test_neither_page_nor_api_shows_a_code(alice):
    ambiguous_message(alice)

    for path in ("/inbox/", "/api/inbox", "/admin/jobs/inboundmessage/"):
        answer = alice.get(path)
        assert answer.status_code == 200
        assert GOOD not in answer.content.decode()
    message = InboundMessage.objects.get()
    page = alice.get(f"/admin/jobs/inboundmessage/{message.pk}/change/")
    assert GOOD not in page.content.decode()


def test_a_message_is_given_where_a_person_says(alice):
    (first, second), message = ambiguous_message(alice)
    (choice, *_) = read(alice)["messages"][0]["requests"]
    assert choice["id"] == str(first.otp_requests.get().pk)

    answer = post(
        alice,
        f"/api/otp/messages/{message.pk}/assign",
        {"request": str(second.otp_requests.get().pk)},
    )
    runner.run_ready_steps(["steps"])

    assert answer.status_code == 200
    assert get_job(second).result == {"typed": True}
    assert get_job(first).status == Status.RUNNING
    assert read(alice)["messages"] == []


def test_of_several_numbers_a_person_types_the_code(alice):
    (first, _), message = ambiguous_message(alice, f"OTP {GOOD} or 551002")
    body = {"request": str(first.otp_requests.get().pk)}
    path = f"/api/otp/messages/{message.pk}/assign"

    refused = post(alice, path, body)
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_OTP")

    assert post(alice, path, body | {"code": GOOD}).status_code == 200
    runner.run_ready_steps(["steps"])
    assert get_job(first).result == {"typed": True}


@pytest.mark.parametrize(("happened", "status"), [(True, "confirmed"), (False, "absent")])
def test_an_unknown_act_is_settled_with_one_click(happened, status, alice):
    job = unknown_payment(alice)
    (effect,) = read(alice)["effects"]

    answer = post(alice, effect["answer_url"], {"happened": happened})

    assert answer.status_code == 200
    assert (job.effects.get().status, job.effects.get().settled_by) == (status, alice.user)
    assert get_job(job).status != Status.MANUAL
    assert read(alice)["effects"] == []
    again = post(alice, effect["answer_url"], {"happened": happened})
    assert (again.status_code, again.json()["code"]) == (409, "EFFECT_IS_SETTLED")


def test_an_act_that_did_not_happen_is_not_done_again_where_it_is_not_needed(alice):
    job = unknown_payment(alice)
    (effect,) = read(alice)["effects"]

    answer = post(alice, effect["answer_url"], {"happened": False, "cancel": True})

    assert answer.status_code == 200
    assert (get_job(job).status, job.effects.get().status) == (Status.CANCELLED, "absent")


def test_who_is_no_admin_may_not_decide(alice, charlie):
    job = unknown_payment(charlie)
    (_, second), message = ambiguous_message(charlie)
    rows = all_rows()

    settled = post(charlie, f"/api/effects/{job.effects.get().pk}/settle", {"happened": True})
    assigned = post(
        charlie,
        f"/api/otp/messages/{message.pk}/assign",
        {"request": str(second.otp_requests.get().pk)},
    )

    assert (settled.status_code, assigned.status_code) == (403, 403)
    assert all_rows() == rows
    assert job.effects.get().status == "unknown"


def test_one_sees_what_is_ones_own(alice, charlie):
    start("pay", wants_approval, charlie)
    unknown_payment(alice)

    assert [len(read(charlie)[kind]) for kind in ("waits", "messages", "effects")] == [1, 0, 0]
    assert charlie.get("/inbox/").status_code == 302


def test_another_teams_messages_are_not_shown_and_not_found(alice):
    theirs = log_in(
        "bob", is_staff=True, workspace=Workspace.objects.create(name="Bob's"), is_superuser=True
    )
    (_, second), message = ambiguous_message(theirs)

    assert read(alice)["messages"] == []
    answer = post(
        alice,
        f"/api/otp/messages/{message.pk}/assign",
        {"request": str(second.otp_requests.get().pk)},
    )
    assert answer.status_code == 404


# --- Begun by a job that has ended since ---------------------------------------------------------


def dies_after_the_act(context):
    """Its one attempt ends without anybody looking whether the payment went through."""

    def die():
        raise BusinessError("no_answer", "The bank did not answer.")

    return Done(
        context.perform(
            "pay:6",
            title="Pay ₹500",
            intent={"order": 6},
            act=die,
            reconcile=lambda effect: Happened({"found": True}),
        )
    )


def left_open(by):
    job = start("left", dies_after_the_act, by)
    assert (get_job(job).status, job.effects.get().status) == (Status.FAILED, "intended")
    return job


def test_a_person_is_asked_of_an_act_whose_job_has_failed(alice):
    left_open(alice)

    (effect,) = read(alice)["effects"]

    assert effect["title"] == "Pay ₹500"
    assert effect["reason"].startswith("Its job ended before anybody looked what came of it.")
    assert effect["at"] is not None


def test_an_act_of_a_job_that_is_at_work_is_asked_of_nobody(alice):
    seen = []

    def looks_at_the_inbox(context):
        def act():
            seen.append(read(alice)["effects"])
            effect = Effect.objects.get()
            seen.append(post(alice, f"/api/effects/{effect.pk}/settle", {"happened": True}))
            return {}

        return Done(
            context.perform(
                "pay:7", title="Pay", intent={}, act=act, reconcile=lambda _: DidNotHappen()
            )
        )

    job = start("busy", looks_at_the_inbox, alice)

    assert seen[0] == []
    assert (seen[1].status_code, seen[1].json()["code"]) == (409, "EFFECT_IS_UNDER_WAY")
    assert job.effects.get().settled_by is None
    assert get_job(job).status == Status.COMPLETED


def test_an_act_whose_cancelled_step_still_stops_is_asked_of_nobody(alice):
    job = left_open(alice)
    with connection.cursor() as cursor:  # as while its browser unwinds
        cursor.execute("SET session_replication_role = replica")
        job.steps.update(
            status=Status.RUNNING, worker="alice", lease_expires_at=Now() + timedelta(minutes=1)
        )
        cursor.execute("SET session_replication_role = DEFAULT")

    assert read(alice)["effects"] == []


@pytest.mark.parametrize(("happened", "status"), [(True, "confirmed"), (False, "absent")])
def test_what_a_person_says_of_it_is_kept_and_the_job_stays_as_it_ended(happened, status, alice):
    job = left_open(alice)
    (effect,) = read(alice)["effects"]

    answer = post(alice, effect["answer_url"], {"happened": happened})

    assert answer.status_code == 200
    assert (job.effects.get().status, job.effects.get().settled_by) == (status, alice.user)
    assert get_job(job).status == Status.FAILED
    assert read(alice)["effects"] == []


def test_job_that_is_run_again_looks_by_itself(alice):
    job = left_open(alice)

    rerun_job(job.pk, by="alice")
    assert read(alice)["effects"] == []
    runner.run_ready_steps(["steps"])

    assert (get_job(job).status, job.effects.get().status) == (Status.COMPLETED, "confirmed")
    assert job.effects.get().tries == 1


def test_job_of_an_act_left_open_is_not_archived(alice):
    job = left_open(alice)
    type(job).objects.update(finished_at=Now() - timedelta(days=60))
    old = old_jobs(timedelta(days=30))

    assert list(old) == []
    decide(job.effects.get().pk, happened=False, by=alice.user)
    assert list(old.all()) == [job]
