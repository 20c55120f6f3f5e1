"""Rule 9: nothing of a paused flow key starts; what runs goes on, and later all of it does."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs import flow, steps
from jobs.errors import InvalidLimit
from jobs.models import Event, FlowLimit, Status, Step
from jobs.plans import Done
from jobs.runner import runner
from jobs.statements.claiming import CLAIM_NEXT
from jobs.sweep import make_due_ready, seconds_until_due
from tests.jobs.rivals import elsewhere, just_before
from tests.jobs.rows import all_rows, get_job, get_step, statuses
from tests.jobs.workflows import BEHAVIOURS, submit_toy

pytestmark = pytest.mark.django_db(transaction=True)

SHOP = "vendor:shop"


def claim(worker="alice"):
    return steps.claim_next(["steps"], worker=worker)


def complete(step):
    return steps.complete(step, {}, queues=["steps"], worker="alice")


def submit_at_shop(count=1, chain=(("a",),), **submission):
    options = {name: {"keys": [SHOP]} for group in chain for name in group}
    return [submit_toy(chain, options=options, **submission) for _ in range(count)]


def test_nothing_of_a_paused_key_starts_and_everything_else_does():
    submit_at_shop(3)
    other = submit_toy([["b"]])

    flow.pause(SHOP, by="olga", reason="Their site is down.")

    assert claim().job_id == other.pk
    assert claim() is None
    assert Step.objects.filter(limited_by=SHOP, status="waiting").count() == 3


def test_step_held_back_by_a_pause_says_by_whom_and_why():
    (job,) = submit_at_shop()
    flow.pause(SHOP, by="olga", reason="Their site is down.")

    claim()

    event = job.events.last()
    assert (event.kind, event.message) == (
        "step.limited",
        "The vendor shop is paused by olga: Their site is down.",
    )
    assert get_step(job, "a").due_at is None


def test_running_step_is_not_interrupted_and_what_follows_it_does_not_start():
    (job,) = submit_at_shop(chain=[["a"], ["b"]])
    a = claim()

    flow.pause(SHOP, by="olga")

    assert complete(a) is None
    assert claim() is None
    assert statuses(job) == {"a": "completed", "b": "waiting"}


def test_pause_of_a_workflow_holds_back_each_of_its_steps():
    submit_toy([["a"]])
    other = submit_toy([["b"]], workflow="toy.with_rows")

    flow.pause("workflow:toy", by="olga")

    assert claim().job_id == other.pk
    assert claim() is None


def test_pause_of_what_no_job_has_yet_holds_for_those_that_come():
    flow.pause("account:alice", by="olga")
    job = submit_toy([["a"]], options={"a": {"keys": ["account:alice"]}})

    assert claim() is None
    assert statuses(job) == {"a": "waiting"}


def test_resume_wakes_all_at_once_in_their_order(hints):
    jobs = submit_at_shop(3)
    flow.pause(SHOP, by="olga")
    claim()
    hints.clear()

    assert flow.resume(SHOP, by="olga") is True

    assert not FlowLimit.objects.exists()
    assert hints.wakes == {"steps": 3}
    assert [claim().job_id for _ in range(3)] == [job.pk for job in jobs]


def test_resume_of_a_limited_key_wakes_as_many_as_have_a_place():
    flow.set_limit(SHOP, concurrency=2, by="olga")
    submit_at_shop(5)
    flow.pause(SHOP, by="olga")
    claim()

    flow.resume(SHOP, by="olga")

    assert Step.objects.filter(status="ready").count() == 2
    limit = FlowLimit.objects.get()
    assert (limit.concurrency, limit.paused_at, limit.paused_by) == (2, None, "")


def test_resume_of_what_is_not_paused_changes_nothing():
    flow.set_limit(SHOP, concurrency=2, by="olga")
    rows = FlowLimit.objects.values().get()

    assert flow.resume(SHOP, by="olga") is False
    assert FlowLimit.objects.values().get() == rows


def test_pausing_twice_keeps_the_latest_reason():
    flow.pause(SHOP, by="olga", reason="Their site is down.")
    flow.pause(SHOP, by="boris", reason="Their site is still down.")

    limit = FlowLimit.objects.get()
    assert (limit.paused_by, limit.pause_reason) == ("boris", "Their site is still down.")
    assert flow.resume(SHOP, by="olga") is True
    assert flow.resume(SHOP, by="olga") is False


def test_new_numbers_do_not_end_a_pause():
    flow.pause(SHOP, by="olga")
    submit_at_shop(1)

    flow.set_limit(SHOP, concurrency=2, by="olga")
    assert claim() is None
    flow.set_limit(SHOP, by="olga")
    assert claim() is None


def test_pause_of_no_workflow_is_refused():
    with pytest.raises(InvalidLimit, match="No workflow is called 'cart_ad'"):
        flow.pause("workflow:cart_ad", by="olga")

    assert not FlowLimit.objects.exists()


def test_steps_that_wait_for_a_rate_have_no_time_while_it_is_paused():
    flow.set_limit(SHOP, rate=1, period_seconds=3600, by="olga")
    submit_at_shop(3)
    claim()
    claim()
    assert seconds_until_due() > 3500

    flow.pause(SHOP, by="olga")
    assert seconds_until_due() is None
    flow.resume(SHOP, by="olga")
    assert seconds_until_due() > 3500


def test_pause_between_the_claims_look_and_its_write_is_obeyed(monkeypatch):
    """The limit's row is read under its lock: a pause that came first holds."""
    flow.set_limit(SHOP, concurrency=5, by="olga")
    submit_at_shop(1)
    just_before(monkeypatch, flow.statements, "lock_limits", lambda: flow.pause(SHOP, by="olga"))

    assert claim() is None


def test_pause_waits_for_a_claim_that_came_first():
    """When `pause` returns, whatever was claimed before it is seen to run."""
    flow.set_limit(SHOP, concurrency=5, by="olga")
    submit_at_shop(2)

    def pause_and_look():
        flow.pause(SHOP, by="olga")
        return Step.objects.filter(status="running").count()

    claimed, running = elsewhere(claim, pause_and_look)

    assert running == (1 if claimed else 0)
    assert claim() is None


def test_backlog_of_a_paused_key_costs_the_others_nothing():
    """Ten thousand steps of a paused vendor: held back once, in a few statements."""
    (job,) = submit_at_shop()
    template = get_step(job, "a")
    Step.objects.bulk_create(
        [
            Step(
                job=job, stage=1, position=n, name=f"n{n}", title="n", handler="toy.step",
                queue="steps", status=Status.READY, due_at=template.due_at, flow_keys=[SHOP],
            )
            for n in range(10_000)
        ],
        batch_size=1000,
    )  # fmt: skip
    other = submit_toy([["b"]], priority=-1)
    flow.pause(SHOP, by="olga")

    with CaptureQueriesContext(connection) as statements:
        assert claim().job_id == other.pk

    assert len(statements) <= 10 * (10_000 // flow.BATCH + 2)
    assert Step.objects.filter(limited_by=SHOP, status="waiting").count() == 10_001
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_step")
        cursor.execute(
            "EXPLAIN (ANALYZE, FORMAT JSON) " + CLAIM_NEXT,
            {"queue": "steps", "most": 1, "apart": [], "worker": "alice", "lease": steps.LEASE},
        )
        plan = cursor.fetchone()[0]
    assert most_rows(plan[0]["Plan"]) <= 2


def most_rows(node):
    below = [most_rows(part) for part in node.get("Plans", [])]
    return max([node["Actual Rows"] * node["Actual Loops"], *below])


def test_ten_thousand_resumed_steps_are_all_ready_in_a_few_sweeps():
    (job,) = submit_at_shop()
    due_at = get_step(job, "a").due_at
    Step.objects.bulk_create(
        [
            Step(
                job=job, stage=1, position=n, name=f"n{n}", title="n", handler="toy.step",
                queue="steps", status=Status.WAITING, flow_keys=[SHOP], limited_by=SHOP,
                ages_from=due_at,
            )
            for n in range(3000)
        ],
        batch_size=1000,
    )  # fmt: skip
    flow.pause(SHOP, by="olga")

    flow.resume(SHOP, by="olga")

    assert Step.objects.filter(status="ready").count() == flow.BATCH + 1
    assert seconds_until_due() == 0  # so the scheduler does not pause in between
    assert [make_due_ready() for _ in range(6)] == [500, 500, 500, 500, 500, 0]


def test_all_of_a_paused_and_resumed_workflow_is_done_in_the_end():
    jobs = submit_at_shop(5, chain=[["a", "b"], ["c"]])

    def pause_amid_it(context):
        if not Event.objects.filter(kind="step.limited").exists():
            flow.pause(SHOP, by="olga")
        return Done()

    BEHAVIOURS["b"] = pause_amid_it
    runner.run_ready_steps(["steps"])
    assert {get_job(job).status for job in jobs} == {Status.RUNNING, Status.PENDING}

    flow.resume(SHOP, by="olga")
    runner.run_ready_steps(["steps"])

    assert {get_job(job).status for job in jobs} == {Status.COMPLETED}


# --- Commands --------------------------------------------------------------------------------


def run(*arguments, **options):
    output = StringIO()
    call_command(*arguments, **options, stdout=output)
    return output.getvalue()


def test_commands_pause_and_resume_a_key():
    submit_at_shop(2)

    assert run("flow_pause", SHOP, "--by", "olga", "--reason", "Their site is down.") == (
        "vendor:shop is paused. Go on with: flow_resume vendor:shop\n"
    )
    limit = FlowLimit.objects.get()
    assert (limit.paused_by, limit.pause_reason) == ("olga", "Their site is down.")
    assert claim() is None
    assert run("flow_resume", SHOP) == "vendor:shop goes on; 2 steps waited for it.\n"
    assert claim() is not None


def test_commands_say_what_cannot_be_done():
    rows = all_rows()

    with pytest.raises(CommandError, match="kind and a name"):
        run("flow_pause", "shop")
    with pytest.raises(CommandError, match="vendor:shop is not paused"):
        run("flow_resume", SHOP)

    assert all_rows() == rows
