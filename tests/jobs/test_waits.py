"""Rule 5: waits hold nothing, an answer that came first is kept, and it has one taker."""

from datetime import timedelta
from threading import Thread

import pytest
from django.db import connection
from django.db.models.functions import Now

from accounts.models import FIRST_WORKSPACE, User, Workspace
from jobs import steps, waits
from jobs.errors import InvalidAnswer, LeaseLost, WaitClosed
from jobs.models import Signal, Status, Step, Wait
from jobs.plans import Done, WaitFor
from jobs.runner import runner
from jobs.sweep import make_due_ready
from jobs.waits import NewSignal, approval, send_signal, send_signals, signal, timer
from tests.jobs.clients import Client, differences, snapshot
from tests.jobs.crashing import crash
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import LONG_AGO, all_rows, event_kinds, get_job, get_step, let_leases_expire
from tests.jobs.workflows import BEHAVIOURS, submit_toy

DAY = timedelta(hours=24)


def run_all():
    return runner.run_ready_steps(["steps"])


def waiting_for(*awaited):
    """Asks for these, and is done with the first answer."""

    def behave(context):
        answer = context.find_answer(*(each.name for each in awaited))
        if answer is None:
            return WaitFor(awaited, "Waiting for the voucher")
        return Done({"by": answer.name, "data": answer.data, "expired": answer.is_expired})

    return behave


def issued(order, **more):
    return signal("issued", "voucher.issued", {"order": order}, **more)


def start(*awaited, name="a"):
    """A job whose step waits for these."""
    job = submit_toy([[name]])
    BEHAVIOURS[name] = waiting_for(*awaited)
    run_all()
    return job


def send(topic="voucher.issued", *, workspace_id=FIRST_WORKSPACE, key=None, **fields):
    return send_signal(topic, fields, workspace_id=workspace_id, key=key)


def wait_statuses(job):
    return dict(job.waits.values_list("name", "status"))


def let_deadlines_pass():
    Wait.objects.filter(deadline_at__isnull=False).update(deadline_at=Now() - LONG_AGO)
    Step.objects.filter(status=Status.WAITING).update(due_at=Now() - LONG_AGO)
    return make_due_ready()


@pytest.fixture
def alice(db):
    return User.objects.create_user("alice")


# ---- a signal -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_waiting_step_is_a_row_and_nothing_else():
    job = start(issued(5))

    step = get_step(job, "a")
    assert (step.status, step.attempt, step.lease_expires_at, step.due_at) == (
        Status.WAITING,
        0,
        None,
        None,
    )
    assert step.phase == "Waiting for the voucher"
    assert runner.keeper.running == 0
    assert run_all() == 0
    assert event_kinds(job) == ["job.created", "step.started", "step.waiting"]


@pytest.mark.django_db
def test_the_signal_that_fits_wakes_the_step():
    job = start(issued(5))

    sent = send(order=5, code="in an envelope")
    run_all()

    assert get_job(job).result == {
        "by": "issued",
        "data": {"order": 5, "code": "in an envelope"},
        "expired": False,
    }
    assert sent.taken_by == job.waits.get()
    assert wait_statuses(job) == {"issued": "answered"}
    assert get_step(job, "a").attempt == 1
    assert event_kinds(job)[2:4] == ["step.waiting", "step.answered"]


@pytest.mark.parametrize("fields", [{"order": 6}, {"order": "5"}, {"code": "x"}, {}])
@pytest.mark.django_db
def test_a_signal_with_other_fields_changes_nothing_and_is_kept(fields):
    job = start(issued(5))
    rows = all_rows()

    assert send(**fields).taken_by is None

    assert all_rows() == rows
    assert wait_statuses(job) == {"issued": "open"}
    assert Signal.objects.get().fields == fields


@pytest.mark.django_db
def test_a_signal_of_another_workspace_answers_nothing():
    job = start(issued(5))
    theirs = Workspace.objects.create(name="Theirs")

    assert send(order=5, workspace_id=theirs.pk).taken_by is None

    assert wait_statuses(job) == {"issued": "open"}


@pytest.mark.django_db
def test_a_signal_that_came_first_is_kept_and_used():
    sent = send(order=5, code="early")

    job = start(issued(5))
    run_all()

    assert get_job(job).result["data"] == {"order": 5, "code": "early"}
    sent.refresh_from_db()
    assert sent.taken_by == job.waits.get()


@pytest.mark.django_db
def test_a_kept_signal_is_used_once():
    send(order=5)

    first, second = start(issued(5)), start(issued(5))

    assert [wait_statuses(job) for job in (first, second)] == [
        {"issued": "answered"},
        {"issued": "open"},
    ]


@pytest.mark.django_db
def test_a_kept_signal_is_forgotten_after_its_time():
    send(order=5)
    Signal.objects.update(expires_at=Now() - LONG_AGO)

    job = start(issued(5))

    assert wait_statuses(job) == {"issued": "open"}


@pytest.mark.django_db
def test_the_same_key_again_is_the_same_signal():
    first, second = start(issued(5)), start(issued(5))

    sent = send(order=5, key="sms-17")
    again = send(order=5, key="sms-17")

    assert again == sent
    assert [wait_statuses(job)["issued"] for job in (first, second)] == ["answered", "open"]


def send_all(*signals):
    return send_signals(list(signals), workspace_id=FIRST_WORKSPACE)


def new_signal(order, key=None):
    return NewSignal("voucher.issued", {"order": order}, key)


@pytest.mark.django_db
def test_signals_sent_at_once_each_go_to_their_wait():
    jobs = [submit_toy([[name]]) for name in "abc"]
    for number, name in enumerate("abc"):
        BEHAVIOURS[name] = waiting_for(issued(number))
    run_all()

    sent = send_all(new_signal(2), new_signal(0), new_signal(7))
    run_all()

    assert [each.taken_by and each.taken_by.job_id for each in sent] == [
        jobs[2].pk,
        jobs[0].pk,
        None,
    ]
    assert [get_job(job).status for job in jobs] == ["completed", "running", "completed"]


@pytest.mark.django_db
def test_of_signals_that_fit_one_wait_the_first_is_taken_and_the_next_goes_to_another():
    first, second = submit_toy([["a"]]), submit_toy([["b"]])
    BEHAVIOURS["a"] = BEHAVIOURS["b"] = waiting_for(issued(5))
    run_all()

    sent = send_all(*[new_signal(5)] * 3)

    assert [each.taken_by and each.taken_by.job_id for each in sent] == [
        first.pk,
        second.pk,
        None,
    ]
    assert len({each.pk for each in sent}) == 3


@pytest.mark.django_db
def test_of_two_signals_for_one_step_the_second_is_kept():
    job = start(issued(5), signal("refused", "voucher.refused", {"order": 5}))

    taken, kept = send_all(NewSignal("voucher.refused", {"order": 5}), new_signal(5))
    run_all()

    assert (taken.taken_by.name, kept.taken_by) == ("refused", None)
    assert wait_statuses(job) == {"issued": "cancelled", "refused": "answered"}
    assert event_kinds(job).count("step.answered") == 1


@pytest.mark.django_db
def test_the_same_key_among_signals_sent_at_once_is_the_same_signal():
    known = send(order=1, key="one")

    first, second, third = send_all(
        new_signal(1, "one"), new_signal(2, "two"), new_signal(3, "two")
    )

    assert (first.pk, third.pk) == (known.pk, second.pk)
    assert [each.fields for each in Signal.objects.order_by("id")] == [{"order": 1}, {"order": 2}]


# ---- several at once ----------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_of_several_cancels_the_others():
    job = start(issued(5), signal("refused", "voucher.refused", {"order": 5}), timer("late", DAY))

    send("voucher.refused", order=5)
    late = send(order=5)
    run_all()

    assert get_job(job).result["by"] == "refused"
    assert wait_statuses(job) == {"issued": "cancelled", "refused": "answered", "late": "cancelled"}
    assert late.taken_by is None


@pytest.mark.django_db(transaction=True)
def test_one_wait_takes_one_of_eight_signals_at_once():
    job = start(issued(5))

    sent = elsewhere(*[lambda: send(order=5)] * 8)

    assert sum(each.taken_by_id is not None for each in sent) == 1
    assert Signal.objects.filter(taken_by__job=job).count() == 1
    assert event_kinds(job).count("step.answered") == 1


@pytest.mark.django_db(transaction=True)
def test_one_signal_is_taken_by_one_of_eight_waits_at_once():
    jobs = [submit_toy([["a"]]) for _ in range(8)]
    BEHAVIOURS["a"] = waiting_for(issued(5))

    elsewhere(*[run_all] * 8, lambda: send(order=5))

    statuses = [wait_statuses(job)["issued"] for job in jobs]
    assert sorted(statuses) == ["answered"] + ["open"] * 7


@pytest.mark.django_db(transaction=True)
def test_two_answers_of_different_kinds_at_once_wake_the_step_once(alice):
    for _ in range(10):
        job = start(issued(5), approval("person", "Is it there?"))
        by_hand = job.waits.get(name="person")

        def choose(by_hand=by_hand):
            try:
                waits.choose(by_hand, "approve", alice)
            except WaitClosed:
                return False
            return True

        chosen, sent = elsewhere(choose, lambda: send(order=5))

        assert chosen != (sent.taken_by_id is not None)
        assert sorted(wait_statuses(job).values()) == ["answered", "cancelled"]
        assert event_kinds(job).count("step.answered") == 1
        Signal.objects.all().delete()


def send_while_the_wait_is_written(monkeypatch):
    """A signal that comes after the look for kept ones, and before the wait is committed."""
    real = waits.take_kept_signal

    def send_elsewhere():
        send(order=5)
        connection.close()

    rival = Thread(target=send_elsewhere)

    def take(opened):
        found = real(opened)
        rival.start()
        rival.join(0.5)  # with the lock it cannot end before we commit
        return found

    monkeypatch.setattr(waits, "take_kept_signal", take)
    job = start(issued(5))
    rival.join(10)
    return job


@pytest.mark.django_db(transaction=True)
def test_a_signal_and_its_wait_written_at_once_find_each_other(monkeypatch):
    job = send_while_the_wait_is_written(monkeypatch)

    assert wait_statuses(job) == {"issued": "answered"}


@pytest.mark.django_db(transaction=True)
def test_without_the_lock_they_would_miss_each_other(monkeypatch):
    monkeypatch.setattr(waits, "lock_topics", lambda topics: None)

    job = send_while_the_wait_is_written(monkeypatch)

    assert wait_statuses(job) == {"issued": "open"}
    assert Signal.objects.get().taken_by is None


# ---- timers and deadlines -----------------------------------------------------------------------


@pytest.mark.django_db
def test_a_timer_of_a_day_fires_once_and_not_before():
    job = start(timer("a day", DAY))
    step = get_step(job, "a")

    assert step.due_at - step.started_at >= DAY - timedelta(seconds=1)
    assert make_due_ready() == 0

    assert let_deadlines_pass() == 1
    assert make_due_ready() == 0
    run_all()

    assert get_job(job).result == {"by": "a day", "data": {}, "expired": False}
    assert event_kinds(job).count("step.ready") == 1


@pytest.mark.django_db
def test_after_a_deadline_the_handler_may_go_on_without_an_answer():
    job = start(issued(5, deadline=timedelta(minutes=5)))

    let_deadlines_pass()
    run_all()

    assert get_job(job).result == {"by": "issued", "data": {}, "expired": True}
    assert wait_statuses(job) == {"issued": "expired"}


@pytest.mark.parametrize(
    ("on_deadline", "status"),
    [(Wait.OnDeadline.FAIL, Status.FAILED), (Wait.OnDeadline.MANUAL, Status.MANUAL)],
)
@pytest.mark.django_db
def test_a_deadline_may_end_the_job(on_deadline, status):
    job = start(issued(5, deadline=timedelta(minutes=5), on_deadline=on_deadline))

    let_deadlines_pass()
    run_all()

    job = get_job(job)
    assert (job.status, job.error["code"]) == (status, "deadline_passed")


@pytest.mark.django_db
def test_of_two_deadlines_the_earlier_one_counts():
    job = start(timer("long", DAY), timer("short", timedelta(minutes=1)))
    Wait.objects.filter(name="long").update(deadline_at=Now() - LONG_AGO)
    Wait.objects.filter(name="short").update(deadline_at=Now() - 2 * LONG_AGO)
    Step.objects.update(due_at=Now() - LONG_AGO)

    make_due_ready()

    assert wait_statuses(job) == {"long": "cancelled", "short": "answered"}


@pytest.mark.django_db
def test_what_hastens_postponed_steps_does_not_answer_waits():
    job = start(issued(5, deadline=DAY))
    rows = all_rows()

    steps.make_ready(job.pk)

    assert all_rows() == rows


# ---- approvals ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_person_chooses(alice):
    job = start(approval("pay", "Pay ₹6,000?", ("pay", "stop")))

    waits.choose(job.waits.get(), "stop", alice)
    run_all()

    assert get_job(job).result["data"] == {"choice": "stop"}
    assert job.waits.get().answered_by == alice
    assert job.events.get(kind="step.answered").message == "alice: stop"


@pytest.mark.django_db
def test_a_choice_that_is_not_offered_changes_nothing(alice):
    job = start(approval("pay", "Pay ₹6,000?", ("pay", "stop")))
    rows = all_rows()

    with pytest.raises(InvalidAnswer, match="'maybe' is none of: pay, stop"):
        waits.choose(job.waits.get(), "maybe", alice)

    assert all_rows() == rows
    assert wait_statuses(job) == {"pay": "open"}


@pytest.mark.django_db
def test_who_chooses_second_is_told_so(alice):
    job = start(approval("pay", "Pay ₹6,000?"))
    as_both_saw_it = job.waits.get()
    waits.choose(as_both_saw_it, "approve", alice)

    with pytest.raises(WaitClosed):
        waits.choose(as_both_saw_it, "reject", User.objects.create_user("bob"))

    assert job.waits.get().answer == {"choice": "approve"}


# ---- with the rest of the engine ----------------------------------------------------------------


@pytest.mark.django_db
def test_a_client_of_the_events_knows_what_is_waited_for():
    job = submit_toy([["a"]])
    client = Client(job)
    BEHAVIOURS["a"] = waiting_for(issued(5, deadline=DAY), approval("person", "Is it there?"))

    run_all()
    client.follow(job)

    assert differences(client.state, snapshot(job)) == []
    (step,) = client.state["steps"].values()
    assert [wait["name"] for wait in step["waits"]] == ["issued", "person"]

    send(order=5)
    client.follow(job)
    assert differences(client.state, snapshot(job)) == []
    assert step["waits"] == []

    run_all()
    client.follow(job)
    assert differences(client.state, snapshot(job)) == []


@pytest.mark.django_db
def test_a_late_worker_cannot_begin_to_wait():
    job = submit_toy([["a"]])
    late = steps.claim_next(["steps"], worker="late")
    let_leases_expire()
    Step.objects.update(fence=late.fence + 1)
    rows = all_rows()

    with pytest.raises(LeaseLost):
        steps.suspend(late, WaitFor([issued(5)], "Waiting"))

    assert all_rows() == rows
    assert not job.waits.exists()


@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_while_it_begins_to_wait_leaves_a_wait_or_none():
    job = submit_toy([["a"]])
    claimed = steps.claim_next(["steps"], worker="one")

    crash("before", "suspend", claimed, WaitFor([issued(5)], "Waiting"))
    assert not job.waits.exists()
    assert get_step(job, "a").status == Status.RUNNING

    crash("after", "suspend", claimed, WaitFor([issued(5)], "Waiting"))
    assert wait_statuses(job) == {"issued": "open"}
    BEHAVIOURS["a"] = waiting_for(issued(5))
    send(order=5)
    run_all()
    assert get_job(job).status == Status.COMPLETED


@pytest.mark.django_db(transaction=True)
def test_a_sender_killed_at_its_commit_sends_once_when_it_sends_again():
    job = start(issued(5))
    message = ("voucher.issued", {"order": 5})

    for moment in ("before", "after"):
        crash(moment, "send signal", *message, workspace_id=FIRST_WORKSPACE, key="sms-17")
    send(order=5, key="sms-17")
    run_all()

    assert Signal.objects.count() == 1
    assert get_job(job).status == Status.COMPLETED
    assert event_kinds(job).count("step.answered") == 1
