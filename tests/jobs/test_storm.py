"""Everything at once, by chance: workers, late workers, sweeps, failures. What must hold holds."""

import random
from dataclasses import replace
from datetime import timedelta
from functools import partial
from time import monotonic

import pytest

from jobs import plans
from jobs.errors import BusinessError, TransientError
from jobs.models import Job, Status, Step
from jobs.plans import Done, Postpone, RetryPolicy
from jobs.runner import runner
from jobs.sweep import make_due_ready, recover_expired
from tests.jobs.clients import Client, differences, snapshot
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import event_kinds, event_numbers, let_leases_expire
from tests.jobs.workflows import BEHAVIOURS, submit_toy

CHAIN = [["a", "b", "c"], ["d"], ["e", "f"], ["g"]]
NAMES = [name for group in CHAIN for name in group]
OVER = {Status.COMPLETED, Status.FAILED, Status.CANCELLED}


def behave(context):
    context.progress(random.randrange(100), "Doing it")
    match random.random():
        case chance if chance < 0.15:
            raise TransientError("site_timeout", "No answer.")
        case chance if chance < 0.2:
            return Postpone(timedelta(milliseconds=5), "Not now.")
        case chance if chance < 0.22:
            raise BusinessError("out_of_stock", "It is sold out.")
        case chance if chance < 0.35:
            let_leases_expire(context.claim.name)  # of all jobs: some of us are late from now on
            recover_expired()
    return Done({"ran": context.claim.name})


def until_all_is_over(act):
    end = monotonic() + 30
    while Step.objects.exclude(status__in=OVER).exists():
        assert monotonic() < end, "It does not come to an end."
        act()


def work():
    runner.run_ready_steps(["steps"])


def sweep():
    make_due_ready()
    recover_expired()


def lose_workers():
    let_leases_expire(random.choice(NAMES))


@pytest.mark.django_db(transaction=True)
def test_every_job_ends_rightly_whatever_happens_at_once(monkeypatch):
    soon = RetryPolicy(max_attempts=3, first_delay=timedelta(milliseconds=5))
    handler = replace(plans.get_handler("toy.step"), retry=soon)
    monkeypatch.setitem(plans._handlers, "toy.step", handler)
    BEHAVIOURS.update(dict.fromkeys(NAMES, behave))
    jobs = [submit_toy(CHAIN, workflow="toy.with_rows") for _ in range(15)]
    clients = [Client(job) for job in jobs]

    acts = [work] * 4 + [sweep] * 2 + [lose_workers]
    elsewhere(*[partial(until_all_is_over, act) for act in acts])

    for client in clients:
        job = Job.objects.get(pk=client.state["job"]["id"])
        assert job.is_finished
        assert event_numbers(job) == list(range(1, job.last_event + 1))
        client.follow(job)
        assert differences(client.state, snapshot(job)) == []
        ends = [kind for kind in event_kinds(job) if kind in ("job.completed", "job.failed")]
        assert ends == [f"job.{job.status}"]
        if job.status == Status.COMPLETED:
            assert event_kinds(job).count("step.completed") == len(NAMES)
    assert {job.status for job in Job.objects.all()} <= {Status.COMPLETED, Status.FAILED}
