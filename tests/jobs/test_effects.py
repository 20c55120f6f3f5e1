"""Rule 7: the intent is committed before the act; after a crash the site is asked, not the act
repeated; what nobody knows is a person's to say."""

import pytest

from accounts.models import User
from jobs import effects, steps
from jobs.effects import CannotTell, DidNotHappen, Happened, NotDone
from jobs.errors import LeaseLost, NotPossible, TransientError
from jobs.models import Effect, Status, Step
from jobs.plans import Done
from jobs.runner import runner
from jobs.sweep import make_due_ready
from tests.jobs.crashing import crash
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import all_rows, event_kinds, get_job, get_step, let_waits_end
from tests.jobs.workflows import BEHAVIOURS, submit_toy

SITE: list[str] = []  # the site's own ledger


@pytest.fixture(autouse=True)
def empty_site():
    SITE.clear()


@pytest.fixture
def alice(db):
    return User.objects.create_user("alice")


class Died(BaseException):
    """The worker's end, as far as one process can play it."""


def pay():
    SITE.append("paid")
    return {"receipt": len(SITE)}


def pay_and_die():
    pay()
    raise Died


def die():
    raise Died


def look(effect):
    return Happened({"receipt": len(SITE)}) if SITE else DidNotHappen()


def see_nothing(effect):
    return CannotTell("The order page does not open.")


def paying(act=pay, reconcile=look, key="pay:order-5"):
    def behave(context):
        result = context.perform(
            key, title="Pay ₹6,000", intent={"order": 5}, act=act, reconcile=reconcile
        )
        return Done(result)

    return behave


def run_all():
    let_waits_end()
    make_due_ready()
    runner.run_ready_steps(["steps"])


def start(**how):
    job = submit_toy([["a"]])
    BEHAVIOURS["a"] = paying(**how)
    try:
        runner.run_ready_steps(["steps"])
    except Died:
        Step.objects.filter(job=job).update(status=Status.READY, lease_expires_at=None)
    return job


def go_on(**how):
    BEHAVIOURS["a"] = paying(**how)
    run_all()


def effect_of(job):
    return job.effects.get()


@pytest.mark.django_db(transaction=True)
def test_an_act_is_carried_out_with_its_intent_committed():
    def pay_and_look():
        (seen,) = elsewhere(lambda: Effect.objects.get().status)
        assert seen == "intended"
        return pay()

    job = start(act=pay_and_look)

    assert get_job(job).result == {"receipt": 1}
    effect = effect_of(job)
    assert (effect.status, effect.intent, effect.result) == (
        "confirmed",
        {"order": 5},
        {"receipt": 1},
    )
    assert event_kinds(job)[2:4] == ["effect.intended", "effect.confirmed"]


@pytest.mark.parametrize(("act", "paid_before"), [(pay_and_die, 1), (die, 0)])
@pytest.mark.django_db(transaction=True)
def test_after_a_crash_the_site_is_asked_and_it_happens_once(act, paid_before):
    job = start(act=act)
    assert (len(SITE), effect_of(job).status) == (paid_before, "intended")

    go_on()

    assert SITE == ["paid"]
    assert get_job(job).result == {"receipt": 1}


@pytest.mark.django_db(transaction=True)
def test_without_reconciling_it_would_happen_twice():
    job = start(act=pay_and_die)
    Effect.objects.all().delete()

    go_on()

    assert SITE == ["paid", "paid"]
    assert get_job(job).status == Status.COMPLETED


@pytest.mark.django_db(transaction=True)
def test_an_error_of_the_act_leaves_its_outcome_open():
    def time_out():
        pay()
        raise TransientError("site_timeout", "No answer to the payment.")

    job = start(act=time_out)
    assert effect_of(job).status == "intended"

    go_on()

    assert SITE == ["paid"]
    assert get_job(job).status == Status.COMPLETED


@pytest.mark.django_db(transaction=True)
def test_an_act_that_surely_was_not_done_is_done_again_without_asking():
    def refuse():
        raise NotDone("button_missing", "The button is not there yet.")

    job = start(act=refuse)
    assert effect_of(job).status == "absent"

    go_on(reconcile=see_nothing)

    assert SITE == ["paid"]
    assert (effect_of(job).status, effect_of(job).tries) == ("confirmed", 2)


# ---- unknown ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_what_nobody_can_tell_goes_to_a_person_and_is_not_repeated():
    job = start(act=pay_and_die)

    go_on(reconcile=see_nothing)
    job = get_job(job)

    assert SITE == ["paid"]
    assert (job.status, job.error["code"]) == (Status.MANUAL, "unknown_outcome")
    assert "The order page does not open." in job.error["message"]
    assert effect_of(job).status == "unknown"


@pytest.mark.parametrize(("happened", "paid"), [(True, 0), (False, 1)])
@pytest.mark.django_db(transaction=True)
def test_a_person_says_what_happened_and_the_job_goes_on(happened, paid, alice):
    job = start(act=die)
    go_on(reconcile=see_nothing)

    effects.decide(effect_of(job).pk, happened=happened, by=alice)
    go_on(reconcile=see_nothing)

    assert len(SITE) == paid
    assert get_job(job).status == Status.COMPLETED
    assert effect_of(job).status == "confirmed"
    said = "it happened" if happened else "it did not happen"
    assert f"Pay ₹6,000: {said}, says alice" in job.events.values_list("message", flat=True)
    if happened:
        assert effect_of(job).settled_by == alice


@pytest.mark.django_db(transaction=True)
def test_a_job_that_is_not_needed_any_more_does_not_act_again_when_its_act_is_settled(alice):
    job = start(act=die)
    go_on(reconcile=see_nothing)

    effects.decide(effect_of(job).pk, happened=False, by=alice, cancel=True)
    run_all()

    assert SITE == []
    assert (get_job(job).status, effect_of(job).status) == (Status.CANCELLED, "absent")
    assert get_job(job).error["message"] == "Cancelled by alice."


@pytest.mark.django_db(transaction=True)
def test_job_is_cancelled_only_when_all_of_its_acts_are_settled(alice):
    job = start(act=die)
    go_on(reconcile=see_nothing)
    other = Effect.objects.create(
        workspace=job.workspace, job=job, key="other", title="Redeem", status="unknown"
    )

    effects.decide(job.effects.get(key="pay:order-5").pk, happened=True, by=alice, cancel=True)
    assert get_job(job).status == Status.MANUAL
    effects.decide(other.pk, happened=True, by=alice, cancel=True)

    assert get_job(job).status == Status.CANCELLED


@pytest.mark.django_db(transaction=True)
def test_a_second_decision_changes_nothing(alice):
    job = start(act=die)
    go_on(reconcile=see_nothing)
    effects.decide(effect_of(job).pk, happened=True, by=alice)
    rows = all_rows()

    with pytest.raises(NotPossible, match="settled already"):
        effects.decide(effect_of(job).pk, happened=False, by=alice)

    assert all_rows() == rows
    assert effect_of(job).status == "confirmed"


# ---- one key, one act ---------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_another_job_with_the_same_key_does_not_act():
    first, second = start(), start()

    second = get_job(second)
    assert SITE == ["paid"]
    assert (second.status, second.error["code"]) == (Status.MANUAL, "effect_taken")
    assert effect_of(first).status == "confirmed"


@pytest.mark.django_db(transaction=True)
def test_two_jobs_at_once_with_one_key_act_once():
    jobs = [submit_toy([["a"]]) for _ in range(2)]
    BEHAVIOURS["a"] = paying()

    elsewhere(*[lambda: runner.run_ready_steps(["steps"])] * 2)
    for _ in range(3):
        run_all()

    assert SITE == ["paid"]
    assert {get_job(job).status for job in jobs} == {Status.COMPLETED, Status.MANUAL}


@pytest.mark.django_db(transaction=True)
def test_a_late_worker_cannot_intend():
    job = submit_toy([["a"]])
    late = steps.claim_next(["steps"], worker="late")
    Step.objects.update(fence=late.fence + 1)

    with pytest.raises(LeaseLost):
        effects.perform(late, "pay:order-5", title="Pay", intent={}, act=pay, reconcile=look)

    assert SITE == []
    assert not Effect.objects.exists()
    assert get_step(job, "a").status == Status.RUNNING


@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_at_each_commit_pays_once():
    job = submit_toy([["a"]])
    claimed = steps.claim_next(["steps"], worker="victim")
    intent = {"title": "Pay ₹6,000", "intent": {"order": 5}}

    crash("before", "begin effect", claimed, "pay:order-5", **intent)
    assert not Effect.objects.exists()

    crash("after", "begin effect", claimed, "pay:order-5", **intent)
    effect = effect_of(job)
    assert effect.status == "intended"
    pay()

    crash("before", "settle effect", claimed, effect, Happened({"receipt": 1}))
    assert effect_of(job).status == "intended"
    crash("after", "settle effect", claimed, effect, Happened({"receipt": 1}))

    Step.objects.update(status=Status.READY, lease_expires_at=None)
    go_on()
    assert SITE == ["paid"]
    assert get_job(job).result == {"receipt": 1}
