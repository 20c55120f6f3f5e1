"""Several steps in one statement: what one of them does, all of them do, and none harms another."""

import pytest
from django.db import connection, transaction

from jobs import flow, statements, steps
from jobs.errors import BusinessError, LeaseLost
from jobs.models import Job, Status, Step
from jobs.runner import runner
from jobs.statements.claiming import CLAIM_NEXT
from jobs.statements.completing import COMPLETE, COMPLETE_AND_CLAIM
from tests.jobs.clients import Client, differences, snapshot
from tests.jobs.crashing import crash
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import event_kinds, event_numbers, get_job, statuses
from tests.jobs.workflows import TOLD, submit_toy

MINE = {"worker": "alice", "lease": steps.LEASE}
SHOP = "vendor:shop"


def claim(most=32):
    return statements.claim_next("steps", most, **MINE)


def complete(claims, *, queues=("steps",), apart=None):
    """What `complete_steps` says of each, in their order."""
    done = [(step, {"of": step.name}) for step in claims]
    found = statements.complete_steps(done, queues=queues, apart=apart, **MINE)
    return [found.get(step.id) for step in claims]


def check_events(job):
    assert event_numbers(job) == list(range(1, get_job(job).last_event + 1))


# --- Claiming --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_several_steps_are_claimed_in_their_turn():
    low, high = submit_toy([["a", "b"], ["z"]]), submit_toy([["c"], ["z"]], priority=1)

    claims = claim(2)

    assert sorted(step.name for step in claims) == ["a", "c"]
    assert statuses(low) == {"a": "running", "b": "ready", "z": "pending"}
    assert get_job(high).status == Status.RUNNING
    check_events(low)
    check_events(high)


@pytest.mark.django_db
def test_steps_of_one_job_that_are_claimed_at_once_each_have_their_event():
    job = submit_toy([["a", "b", "c"]])

    claim()

    assert event_kinds(job) == ["job.created", *["step.started"] * 3]
    check_events(job)


@pytest.mark.django_db
def test_step_that_may_be_limited_is_left_to_its_own_claim_and_the_others_are_claimed():
    submit_toy([["limited", "free"]], options={"limited": {"keys": [SHOP]}})
    flow.set_limit(SHOP, concurrency=1, by="olga")

    found = {type(each).__name__: each for each in claim()}

    assert found["Candidate"].id == Step.objects.get(name="limited").pk
    assert found["ClaimedStep"].name == "free"
    assert Step.objects.get(name="limited").status == Status.READY


# --- Completing ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_group_that_is_completed_at_once_opens_what_follows_once():
    job = submit_toy([["a", "b", "c"], ["d"]])

    completions = complete(claim())

    assert statuses(job) == {"a": "completed", "b": "completed", "c": "completed", "d": "running"}
    assert [each.claimed.name for each in completions if each.claimed] == ["d"]
    assert event_kinds(job)[-4:] == [*["step.completed"] * 3, "step.started"]
    assert {step.name: step.output for step in job.steps.exclude(name="d")} == {
        name: {"of": name} for name in "abc"
    }
    check_events(job)


@pytest.mark.django_db
def test_part_of_a_group_leaves_the_stage_open():
    job = submit_toy([["a", "b", "c"], ["d"]])
    claims = claim()

    complete(claims[:2])

    assert get_job(job).stage_open == 1
    assert statuses(job)["d"] == "pending"
    check_events(job)


@pytest.mark.django_db
def test_jobs_at_different_places_of_their_plans_are_each_led_on():
    ends, goes_on, fans_out = (
        submit_toy([["a"]]),
        submit_toy([["a"], ["b"]]),
        submit_toy([["a"], ["b", "c"]]),
    )
    client = Client(fans_out)
    claims = sorted(claim(), key=lambda step: step.id)

    end, lead, fan = complete(claims)

    assert (end.job_status, end.claimed, end.ready_queues) == ("completed", None, [])
    assert (lead.claimed.name, lead.claimed.job_id) == ("b", goes_on.pk)
    assert (fan.claimed, fan.ready_queues) == (None, ["steps", "steps"])
    assert get_job(ends).result == {"of": "a"}
    for job in (ends, goes_on, fans_out):
        check_events(job)
    client.follow(fans_out)
    assert differences(client.state, snapshot(fans_out)) == []


@pytest.mark.django_db
def test_lost_lease_among_several_is_told_and_changes_nothing():
    lost, kept = submit_toy([["a"], ["b"]]), submit_toy([["a"], ["b"]])
    claims = sorted(claim(), key=lambda step: step.id)
    Step.objects.filter(job=lost, name="a").update(fence=2)

    first, second = complete(claims)

    assert first is None
    assert second.claimed.name == "b"
    assert statuses(lost) == {"a": "running", "b": "pending"}
    assert statuses(kept) == {"a": "completed", "b": "running"}


@pytest.mark.django_db(transaction=True)
def test_two_batches_with_the_same_jobs_in_opposite_order_do_not_wait_for_each_other():
    for _ in range(10):
        jobs = [submit_toy([["a", "b"], ["c"]]) for _ in range(4)]
        claims = claim()
        first = [step for step in claims if step.name == "a"]
        second = [step for step in claims if step.name == "b"][::-1]

        elsewhere(lambda of=first: complete(of), lambda of=second: complete(of))

        for job in jobs:
            assert statuses(job) == {"a": "completed", "b": "completed", "c": "running"}
            check_events(job)
        complete(list(map(_running, jobs)))


def _running(job):
    row = Step.objects.select_related("job").get(job=job, status=Status.RUNNING)
    return statements.ClaimedStep.of(row)


@pytest.mark.django_db(transaction=True)
def test_output_that_the_database_refuses_harms_no_other_step():
    """Both are completed by one statement, and then, as it fails, each by its own."""
    good, bad = submit_toy([["a"]]), submit_toy([["a"]])
    ours, theirs = sorted(claim(), key=lambda step: step.id)
    outputs = [(ours, {"text": "fine"}), (theirs, {"text": "\0"})]
    combiner = steps._completions(("steps",), "alice")
    assert combiner._run(outputs[:1])[0].job_status == "completed"

    with pytest.raises(Exception, match="unsupported Unicode"), transaction.atomic():
        steps.complete(*outputs[1], queues=["steps"], worker="alice")

    assert get_job(good).status == Status.COMPLETED
    assert get_job(bad).status == Status.RUNNING


# --- Going on with another step --------------------------------------------------------------


@pytest.mark.django_db
def test_who_is_done_with_a_job_goes_on_with_the_next_in_turn(django_assert_num_queries):
    ended, low, high = (
        submit_toy([["a"]]),
        submit_toy([["a"]]),
        submit_toy([["a"]], priority=1),
    )
    (urgent,) = claim(1)
    assert urgent.job_id == high.pk

    with django_assert_num_queries(1):
        following = steps.complete(urgent, {}, queues=["steps"], worker="alice")

    assert (following.job_id, following.fence, following.attempt) == (ended.pk, 1, 1)
    assert get_job(ended).status == Status.RUNNING
    assert statuses(low) == {"a": "ready"}
    for job in (ended, high):
        check_events(job)


@pytest.mark.django_db
def test_member_of_a_group_goes_on_with_the_next_of_it():
    job = submit_toy([["a", "b", "c"], ["d"]])
    (step,) = claim(1)
    ran = []

    while step:
        ran.append(step.name)
        step = steps.complete(step, {}, queues=["steps"], worker="alice")

    assert ran == ["a", "b", "c", "d"]
    assert get_job(job).status == Status.COMPLETED
    check_events(job)


@pytest.mark.django_db
def test_who_ends_a_group_goes_on_with_what_follows_only_if_nothing_else_was_claimed(hints):
    job, other = submit_toy([["a", "b"], ["c"]]), submit_toy([["x"]])
    a, b = claim(2)
    complete([a])

    (completion,) = complete([b], apart=[])

    assert completion.claimed.job_id == other.pk
    assert statuses(job)["c"] == "ready"
    check_events(job)


@pytest.mark.django_db
def test_who_has_lost_its_lease_is_given_nothing_to_go_on_with():
    submit_toy([["a"]])
    waiting = submit_toy([["b"]])
    (step,) = claim(1)
    Step.objects.filter(pk=step.id).update(fence=2)

    with pytest.raises(LeaseLost):
        steps.complete(step, {}, queues=["steps"], worker="alice")

    assert statuses(waiting) == {"b": "ready"}


@pytest.mark.django_db
def test_worker_that_stops_claims_nothing_more():
    submit_toy([["a"]])
    waiting = submit_toy([["b"]])
    (step,) = claim(1)

    assert steps.complete(step, {}, queues=(), worker="alice") is None

    assert statuses(waiting) == {"b": "ready"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("reason", ["limited", "told", "elsewhere", "locked"])
def test_step_that_cannot_be_claimed_just_so_is_left_alone(reason):
    submit_toy([["a"]])
    waiting = submit_toy(
        [["b"]],
        workflow="toy.with_rows" if reason == "told" else "toy",
        options={
            "b": {"keys": [SHOP]}
            if reason == "limited"
            else {"queue": "host-7"}
            if reason == "elsewhere"
            else {}
        },
    )
    (step,) = claim(1)
    TOLD.clear()
    if reason == "limited":
        flow.set_limit(SHOP, concurrency=1, by="olga")

    def finish():
        return steps.complete(step, {}, queues=["steps"], worker="alice")

    if reason == "locked":
        with transaction.atomic():
            Job.objects.select_for_update(no_key=True).get(pk=waiting.pk)
            (following,) = elsewhere(finish)
    else:
        following = finish()

    assert following is None
    assert statuses(waiting) == {"b": "ready"}
    assert TOLD == []
    check_events(waiting)


@pytest.mark.django_db(transaction=True)
def test_step_of_a_job_that_has_ended_is_not_gone_on_with():
    done = submit_toy([["x"]])
    ending = submit_toy([["a", "b"]], priority=-1)
    x, a = claim(2)
    with transaction.atomic():
        # The end of the job passes over b, which another has locked this moment.
        Step.objects.select_for_update().get(job=ending, name="b")
        elsewhere(lambda: steps.fail(a, BusinessError("no", "No.")))

    assert steps.complete(x, {}, queues=["steps"], worker="alice") is None
    assert get_job(done).status == Status.COMPLETED
    assert statuses(ending) == {"a": "failed", "b": "ready"}

    assert steps.claim_next(["steps"], worker="alice") is None
    assert statuses(ending) == {"a": "failed", "b": "cancelled"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("moment", "next_status"), [("before", "ready"), ("after", "running")])
def test_process_killed_as_it_goes_on_has_done_both_or_nothing(moment, next_status):
    job, following = submit_toy([["a"]]), submit_toy([["b"]])
    (step,) = claim(1)

    crash(moment, "complete", step, {}, queues=["steps"], worker="alice")

    assert statuses(job) == {"a": "running" if moment == "before" else "completed"}
    assert statuses(following) == {"b": next_status}
    check_events(job)
    check_events(following)


@pytest.mark.django_db(transaction=True)
def test_eight_threads_of_a_worker_run_each_of_many_steps_once(tmp_path):
    ledger = tmp_path / "ledger"
    jobs = [
        submit_toy([["a", "b"], ["c"], ["d", "e", "f"], ["g"]], ledger=ledger) for _ in range(12)
    ]

    elsewhere(*[lambda: runner.run_ready_steps(["steps"])] * 8)

    assert {get_job(job).status for job in jobs} == {Status.COMPLETED}
    ran = sorted(line.rsplit(" ", 1)[0] for line in ledger.read_text().splitlines())
    assert ran == sorted(f"{job.pk} {name}" for job in jobs for name in "abcdefg")
    for job in jobs:
        check_events(job)


# --- Plans -----------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("is_analysed", [False, True])
@pytest.mark.parametrize("name", ["claim", "complete", "complete and claim"])
def test_kept_plan_finds_rows_by_their_index(name, is_analysed):
    """A plan is kept while the tables grow; it must not read them through."""
    job = submit_toy([["a"]])
    Step.objects.bulk_create(
        Step(job=job, stage=n, position=0, name=f"n{n}", title="n", handler="toy.step")
        for n in range(1, 2000)
    )
    given = {"steps": [], "fences": [], "outputs": [], "wants": [], "count": 0, "queues": []}
    common = {"queue": "steps", "most": 1, "apart": [], **MINE}
    statement = {
        "claim": CLAIM_NEXT,
        "complete": COMPLETE,
        "complete and claim": COMPLETE_AND_CLAIM,
    }[name]
    with connection.cursor() as cursor:
        if is_analysed:
            cursor.execute("ANALYZE jobs_step, jobs_job")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute("EXPLAIN (GENERIC_PLAN) " + _numbered(statement, {**given, **common}))
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Index Scan" in plan
    assert "Seq Scan on jobs_step" not in plan


def _numbered(statement, values):
    """With $1, $2 ... in place of the names of its parameters."""
    for number, name in enumerate(values, start=1):
        kind = {"lease": "::interval", "count": "::bigint", "most": "::bigint"}.get(name, "")
        statement = statement.replace(f"%({name})s", f"${number}{kind}")
    return statement
