"""Rule 10: events are numbered by job without gaps, and whoever follows them knows all."""

import json
import random
from datetime import timedelta

import pytest
from django.core.serializers.json import DjangoJSONEncoder

from jobs import steps
from jobs.errors import BusinessError, TransientError
from jobs.events import event_state, job_state, read_events, step_state, with_open_waits
from jobs.models import Event, Status
from jobs.runner import runner
from jobs.sweep import make_due_ready, recover_expired
from tests.jobs.clients import Client, differences, snapshot, times_parsed
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import event_numbers, get_job, let_leases_expire, let_waits_end
from tests.jobs.workflows import submit_toy


def claim():
    return steps.claim_next(["steps"], worker="alice")


# --- Numbers ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_numbers_have_no_gaps_when_four_steps_report_at_once():
    job = submit_toy([["a", "b", "c", "d"]])

    def report(step):
        for percent in range(10):
            steps.report_progress(step, percent, "Counting")

    group = [claim() for _ in range(4)]
    elsewhere(*[lambda step=step: report(step) for step in group])

    assert event_numbers(job) == list(range(1, 1 + 1 + 4 + 40))
    assert get_job(job).last_event == 45


@pytest.mark.django_db
def test_events_are_read_in_order_from_a_number_up_to_a_limit():
    job, other = submit_toy([["a"], ["b"], ["c"]]), submit_toy([["x"]])
    runner.run_ready_steps(["steps"])
    assert get_job(job).last_event == 8
    assert get_job(other).last_event == 4

    assert [event["number"] for event in read_events(job.pk, after=0)] == list(range(1, 9))
    assert [event["number"] for event in read_events(job.pk, after=5)] == [6, 7, 8]
    assert [event["number"] for event in read_events(job.pk, after=2, limit=3)] == [3, 4, 5]
    assert read_events(job.pk, after=8) == []


@pytest.mark.django_db
def test_event_says_what_changed():
    job = submit_toy([["a"]])
    claimed = claim()

    event = read_events(job.pk, after=1)[0]

    started_at = job.steps.get().started_at
    assert event.keys() == {"number", "kind", "at", "step", "message", "data"}
    assert (event["number"], event["kind"], event["message"]) == (2, "step.started", "Step a")
    assert event["step"] == claimed.id
    assert times_parsed(event["data"]) == {
        "job": {"status": "running", "started_at": started_at},
        "step": {
            "status": "running",
            "attempt": 1,
            "started_at": started_at,
            "error": None,
            "due_at": None,
        },
    }


# --- A client that follows --------------------------------------------------------------------


class RandomRun:
    """A job to which random things happen, as workers and sweeps would do them, to its end."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        names = iter(f"s{number}" for number in range(100))
        sizes = [self.chance.randint(1, 3) for _ in range(self.chance.randint(1, 4))]
        chain = [[next(names) for _ in range(size)] for size in sizes]
        weights = {name: {"weight": self.chance.randint(1, 9)} for group in chain for name in group}
        self.job = submit_toy(chain, options=weights)
        self.running: list[steps.ClaimedStep] = []
        self.did: list[str] = []

    def act(self) -> None:
        acts = ["claim"] * 3 + ["let waits end"]
        if self.running:
            acts += ["complete"] * 4 + ["report progress"] * 3
            acts += ["retry", "postpone", "release", "lose the worker"]
            if self.chance.random() < 0.1:
                acts += ["fail"] * 3
        act = self.chance.choice(acts)
        self.did.append(act)
        getattr(self, act.replace(" ", "_"))()

    def claim(self) -> None:
        if step := claim():
            self.running.append(step)

    def let_waits_end(self) -> None:
        let_waits_end()
        make_due_ready()

    def _take(self) -> steps.ClaimedStep:
        return self.running.pop(self.chance.randrange(len(self.running)))

    def complete(self) -> None:
        step = self._take()
        queues = self.chance.choice([["steps"], []])
        if following := steps.complete(step, {"n": 1}, queues=queues, worker="alice"):
            self.running.append(following)

    def report_progress(self) -> None:
        step = self.chance.choice(self.running)
        steps.report_progress(step, self.chance.randint(0, 100), "Doing it")

    def retry(self) -> None:
        step = self._take()
        error = TransientError("site_timeout", "No answer.")
        if step.attempt < step.max_attempts:
            steps.retry(step, error, delay=timedelta(seconds=5))
        else:
            steps.fail(step, error)

    def postpone(self) -> None:
        steps.postpone(self._take(), delay=timedelta(seconds=5), reason="Not now.")

    def release(self) -> None:
        steps.release(self._take())

    def lose_the_worker(self) -> None:
        let_leases_expire(self._take().name)
        assert recover_expired() == 1

    def fail(self) -> None:
        becomes = self.chance.choice([Status.FAILED, Status.MANUAL])
        steps.fail(self._take(), BusinessError("no", "The shop says no."), becomes=becomes)

    @property
    def is_over(self) -> bool:
        """The job has ended, and none of its steps runs any more."""
        return get_job(self.job).is_finished and not self.running


@pytest.mark.django_db
def test_client_that_follows_the_events_knows_what_the_database_knows():
    for seed in range(12):
        run = RandomRun(seed)
        client = Client(run.job)

        while not run.is_over:
            run.act()
            client.follow(run.job)
            wrong = differences(client.state, snapshot(run.job))
            assert not wrong, f"seed {seed}, after {run.did[-1]}: {wrong}"

        assert client.number == Event.objects.filter(job=run.job).count()
        assert {step["status"] for step in client.state["steps"].values()} <= {
            *(Status.COMPLETED, Status.FAILED, Status.CANCELLED),
        }


@pytest.mark.django_db
def test_client_that_starts_in_the_middle_knows_the_same_at_the_end():
    job = submit_toy([["a"], ["b", "c"], ["d"]])
    early = Client(job)
    following = steps.complete(claim(), {}, queues=["steps"], worker="alice")
    assert following is None
    late = Client(job)
    runner.run_ready_steps(["steps"])

    early.follow(job)
    late.follow(job)

    assert early.number == late.number == get_job(job).last_event
    assert early.state == late.state == snapshot(job)


@pytest.mark.django_db
def test_states_are_json_with_the_agreed_fields():
    job = submit_toy([["a"]])
    claim()

    job = get_job(job)
    step = with_open_waits(job.steps.all()).get()
    event = job.events.last()
    states = [job_state(job), step_state(step), event_state(event)]

    assert [set(state) for state in states] == [
        {
            *("id", "workflow", "title", "status", "progress", "error"),
            *("created_at", "started_at", "finished_at", "result"),
        },
        {
            *("id", "stage", "position", "name", "title", "status", "attempt", "max_attempts"),
            *("progress", "phase", "error", "due_at", "started_at", "finished_at", "waits"),
        },
        {"number", "kind", "at", "step", "message", "data"},
    ]
    json.dumps(states, cls=DjangoJSONEncoder)
