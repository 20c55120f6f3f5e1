"""Rule 3: a worker that was paused past its lease can change nothing any more."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction

from jobs import leases, steps
from jobs.context import StepContext
from jobs.errors import BusinessError, LeaseLost, TransientError
from jobs.leases import LeaseKeeper
from jobs.models import Status, Step
from jobs.sweep import recover_expired
from tests.jobs import workflows
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import all_rows, get_job, get_step, let_leases_expire
from tests.jobs.workflows import submit_toy

TIMED_OUT = TransientError("site_timeout", "The shop did not answer.")
OUT_OF_STOCK = BusinessError("out_of_stock", "It is sold out.")
SOON = timedelta(seconds=10)
MINUTE = timedelta(minutes=1)

WRITES = {
    "complete": lambda step: steps.complete(step, {"n": 1}, queues=["steps"], worker="alice"),
    "retry": lambda step: steps.retry(step, TIMED_OUT, delay=SOON),
    "postpone": lambda step: steps.postpone(step, delay=SOON, reason="Not now."),
    "release": steps.release,
    "recover": steps.recover,
    "fail": lambda step: steps.fail(step, OUT_OF_STOCK),
    "fail to manual": lambda step: steps.fail(step, OUT_OF_STOCK, becomes=Status.MANUAL),
    "report progress": lambda step: steps.report_progress(step, 50, "Half way"),
    "save checkpoint": lambda step: steps.save_checkpoint(step, {"n": 1}),
}


def claim(worker: str):
    return steps.claim_next(["steps"], worker=worker)


def reclaimed():
    """A step that Alice claimed and lost, and the claim that Bob has on it now."""
    late = claim("alice")
    let_leases_expire()
    recover_expired()
    return late, claim("bob")


# --- Fencing ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_late_worker_can_change_nothing_of_a_reclaimed_step(write, hints):
    submit_toy([["a"], ["b"]], workflow="toy.with_rows")
    late, current = reclaimed()
    assert (late.id, late.fence, current.fence) == (current.id, 1, 2)
    rows, told = all_rows(), list(workflows.TOLD)
    hints.clear()

    with pytest.raises(LeaseLost):
        write(late)

    assert all_rows() == rows
    assert told == workflows.TOLD
    assert not hints.wakes
    assert not hints.changed


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_late_worker_can_change_nothing_of_a_step_that_is_ready_again(write):
    submit_toy([["a"], ["b"]])
    late = claim("alice")
    let_leases_expire()
    recover_expired()
    rows = all_rows()

    with pytest.raises(LeaseLost):
        write(late)

    assert all_rows() == rows


@pytest.mark.django_db
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_without_its_own_token_a_late_worker_would_write_over_the_current_one(write):
    """The harm: but for the token, the late worker's claim is as good as the other's."""
    submit_toy([["a"], ["b"]])
    late, current = reclaimed()
    rows = all_rows()

    write(replace(late, fence=current.fence))

    assert all_rows() != rows


@pytest.mark.django_db
def test_late_worker_whose_step_nobody_took_may_still_finish_it():
    """An expired lease takes nothing away by itself: the next claim, or the sweep, does."""
    job = submit_toy([["a"]])
    late = claim("alice")
    let_leases_expire()

    WRITES["complete"](late)

    assert get_job(job).status == Status.COMPLETED


# --- Renewal ---------------------------------------------------------------------------------


@pytest.mark.django_db
def test_renewal_prolongs_the_leases_of_held_steps():
    job = submit_toy([["a", "b"]])
    keeper = LeaseKeeper()
    with keeper.hold(claim("alice"), MINUTE) as a, keeper.hold(claim("alice"), MINUTE) as b:
        let_leases_expire()

        keeper.renew()

        assert recover_expired() == 0
        assert not a.stop.is_set()
        assert not b.stop.is_set()
    assert get_step(job, "a").status == get_step(job, "b").status == Status.RUNNING


@pytest.mark.django_db
def test_step_that_another_worker_has_taken_is_told_to_stop():
    job = submit_toy([["a", "b"]])
    keeper = LeaseKeeper()
    with keeper.hold(claim("alice"), MINUTE) as lost, keeper.hold(claim("alice"), MINUTE) as kept:
        let_leases_expire("a")
        recover_expired()
        claim("bob")
        expires_at = get_step(job, "a").lease_expires_at

        keeper.renew()

        assert (lost.stop.is_set(), lost.why) == (True, "lease_lost")
        assert (kept.stop.is_set(), kept.why) == (False, None)
    assert get_step(job, "a").lease_expires_at == expires_at


@pytest.mark.django_db
@pytest.mark.parametrize("look", [LeaseKeeper.renew, LeaseKeeper.stop_ended])
def test_step_of_an_ended_job_is_told_to_stop(look):
    submit_toy([["a", "b"]])
    submit_toy([["other"]])
    a, b, other = claim("alice"), claim("alice"), claim("alice")
    keeper = LeaseKeeper()
    with keeper.hold(b, MINUTE) as held, keeper.hold(other, MINUTE) as kept:
        steps.fail(a, OUT_OF_STOCK)

        look(keeper)

        assert (held.stop.is_set(), held.why) == (True, "job_ended")
        assert not kept.stop.is_set()


@pytest.mark.django_db
def test_look_for_ended_jobs_is_one_statement_and_none_while_nothing_is_held(
    django_assert_num_queries,
):
    submit_toy([["a", "b"]])
    keeper = LeaseKeeper()
    with (
        keeper.hold(claim("alice"), MINUTE),
        keeper.hold(claim("alice"), MINUTE),
        django_assert_num_queries(1),
    ):
        keeper.stop_ended()

    with django_assert_num_queries(0):
        keeper.stop_ended()


@pytest.mark.django_db
def test_step_is_told_to_stop_when_its_time_is_over(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(leases, "monotonic", lambda: now)
    submit_toy([["a"]])
    keeper = LeaseKeeper()
    with keeper.hold(claim("alice"), MINUTE) as held:
        now += 60
        keeper.renew()
        assert not held.stop.is_set()

        now += 0.1
        keeper.renew()

        assert (held.stop.is_set(), held.why) == (True, "time_limit")


@pytest.mark.django_db
def test_step_that_does_not_heed_its_time_limit_loses_its_lease(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(leases, "monotonic", lambda: now)
    job = submit_toy([["a"]])
    keeper = LeaseKeeper()
    with keeper.hold(claim("alice"), MINUTE):
        now += 60 + steps.LEASE.total_seconds()
        let_leases_expire()

        keeper.renew()

        assert recover_expired() == 1
    assert get_step(job, "a").status == Status.READY


@pytest.mark.django_db
def test_finished_step_is_not_renewed(django_assert_num_queries):
    submit_toy([["a"]])
    keeper = LeaseKeeper()
    with keeper.hold(claim("alice"), MINUTE):
        assert keeper.running == 1

    assert keeper.running == 0
    with django_assert_num_queries(0):
        keeper.renew()


@pytest.mark.django_db
def test_all_leases_of_a_process_are_renewed_in_one_statement(django_assert_num_queries):
    submit_toy([["a", "b"]])
    keeper = LeaseKeeper()
    with (
        keeper.hold(claim("alice"), MINUTE),
        keeper.hold(claim("alice"), MINUTE),
        django_assert_num_queries(1),
    ):
        keeper.renew()


@pytest.mark.django_db
def test_late_thread_leaves_a_newer_claim_of_the_same_process_held():
    submit_toy([["a"]])
    keeper = LeaseKeeper()
    late_hold = keeper.hold(claim("alice"), MINUTE)
    late_hold.__enter__()
    let_leases_expire()
    recover_expired()
    with keeper.hold(claim("alice"), MINUTE) as current:
        late_hold.__exit__(None, None, None)

        let_leases_expire()
        keeper.renew()

        assert keeper.running == 1
        assert not current.stop.is_set()
        assert recover_expired() == 0


@pytest.mark.django_db
def test_everything_held_is_told_of_a_shutdown():
    submit_toy([["a", "b"]])
    keeper = LeaseKeeper()
    with keeper.hold(claim("alice"), MINUTE) as a, keeper.hold(claim("alice"), MINUTE) as b:
        keeper.stop_all("shutdown")

        assert (a.why, b.why) == ("shutdown", "shutdown")
        assert a.stop.is_set()
        assert b.stop.is_set()


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("the server is restarting"),
        InterfaceError("the connection is closed"),
    ],
    ids=["operational", "interface"],
)
def test_keeper_goes_on_after_an_error_of_the_database(error, monkeypatch):
    keeper = LeaseKeeper()
    attempts = []

    class EndOfTest(BaseException):
        pass

    def renew():
        attempts.append("renewal")
        raise error if len(attempts) == 1 else EndOfTest

    monkeypatch.setattr(leases, "RENEWAL", timedelta(0))
    monkeypatch.setattr(keeper, "renew", renew)

    with pytest.raises(EndOfTest):
        keeper._run()

    assert attempts == ["renewal", "renewal"]


# --- What a handler may write ------------------------------------------------------------------


@pytest.mark.django_db
def test_checkpoint_is_there_for_the_next_attempt():
    submit_toy([["a"]])
    keeper = LeaseKeeper()
    first = claim("alice")
    with keeper.hold(first, MINUTE) as held:
        context = StepContext(first, held.stop, MINUTE)
        assert context.checkpoint is None
        context.save_checkpoint({"clicked": True})
        assert context.checkpoint == {"clicked": True}
    let_leases_expire()
    recover_expired()

    assert claim("bob").checkpoint == {"clicked": True}
    assert Step.objects.get().attempt == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("write", ["retry", "fail", "report progress"])
def test_row_that_refers_to_a_step_can_be_written_beside_its_outcome(write):
    """A foreign key's check locks what it refers to: an artifact its step and its job."""
    submit_toy([["a"], ["b"]])
    a = claim("alice")

    def check_foreign_keys():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT FROM jobs_step, jobs_job FOR KEY SHARE NOWAIT")

    with transaction.atomic():
        WRITES[write](a)
        elsewhere(check_foreign_keys)
