from datetime import timedelta

import pytest
from rest_framework import serializers

from jobs.errors import InvalidParams, InvalidPlan, JobsError, UnknownHandler, UnknownWorkflow
from jobs.plans import (
    RetryPolicy,
    StepPlan,
    Workflow,
    check_chain,
    check_params,
    get_handler,
    get_workflow,
)

POLICY = RetryPolicy(first_delay=timedelta(seconds=2), factor=3, longest_delay=timedelta(minutes=5))


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 2), (2, 6), (3, 18), (4, 54), (5, 162), (6, 300), (20, 300)]
)
def test_delay_grows_by_the_factor_up_to_the_longest(attempt, seconds):
    assert POLICY.decide_delay(attempt, chance=lambda: 0.5) == timedelta(seconds=seconds)


def test_delay_of_a_step_with_many_attempts_is_the_longest():
    assert POLICY.decide_delay(1000, chance=lambda: 0.5) == timedelta(minutes=5)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 4.2), (0.25, 5.1), (0.5, 6), (1.0, 7.8)])
def test_chance_moves_the_delay_within_its_spread(chance, seconds):
    assert POLICY.decide_delay(2, chance=lambda: chance) == timedelta(seconds=seconds)


def test_delays_of_steps_that_failed_together_differ():
    assert len({POLICY.decide_delay(1) for _ in range(100)}) > 90


def toy(name: str, **options: object) -> StepPlan:
    return StepPlan(name, name, "toy.step", **options)


def test_a_chain_of_groups_is_a_good_plan():
    check_chain([[toy("a")], [toy("b"), toy("c")], [toy("d")]])


@pytest.mark.parametrize(
    ("chain", "error", "sentence"),
    [
        ([], InvalidPlan, "each group needs at least one step"),
        ([[toy("a")], []], InvalidPlan, "each group needs at least one step"),
        ([[toy("a"), toy("b")], [toy("b"), toy("a")]], InvalidPlan, "twice: a, b."),
        ([[StepPlan("a", "A", "nobody")]], UnknownHandler, "'nobody'"),
    ],
    ids=["no groups", "empty group", "same name twice", "unknown handler"],
)
def test_plan_that_could_never_be_carried_out_is_refused(chain, error, sentence):
    with pytest.raises(error, match=sentence):
        check_chain(chain)


@pytest.mark.parametrize("weight", [0, -1])
def test_plan_without_weight_is_refused(weight):
    with pytest.raises(InvalidPlan):
        check_chain([[toy("a", weight=weight)]])


@pytest.mark.parametrize(
    ("look_up", "code"), [(get_workflow, "unknown_workflow"), (get_handler, "unknown_handler")]
)
def test_unknown_name_is_an_error_with_a_code(look_up, code):
    with pytest.raises(JobsError, match="'nobody'") as refusal:
        look_up("nobody")

    assert refusal.value.code == code


def test_unknown_workflow_is_not_mistaken_for_an_unknown_handler():
    with pytest.raises(UnknownWorkflow):
        get_workflow("toy.step")


def test_acts_that_need_one_another_in_order_are_a_good_plan():
    check_chain([[toy("pay", effects=["pay:1"])], [toy("redeem", needs=["pay:1"])]])


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ([[toy("a", effects=["pay:1"], needs=["pay:1"])]], "'a' needs 'pay:1', which no earlier"),
        (
            [[toy("a", needs=["redeem:1"], effects=["pay:1"])], [toy("b", effects=["redeem:1"])]],
            "'a' needs 'redeem:1', which no earlier",
        ),
        ([[toy("a", effects=["pay:1"]), toy("b", needs=["pay:1"])]], "'b' needs 'pay:1'"),
        ([[toy("a", effects=["pay:1"])], [toy("b", effects=["pay:1"])]], "'b' does 'pay:1', as"),
    ],
    ids=["of itself", "of a later one", "side by side", "twice"],
)
def test_acts_in_a_cycle_are_refused(chain, sentence):
    with pytest.raises(InvalidPlan, match=sentence):
        check_chain(chain)


class Numbers(serializers.Serializer):
    order = serializers.IntegerField(min_value=1)


COUNTED = Workflow("counted", 1, lambda params: [[toy("a")]], params=Numbers)


@pytest.mark.parametrize("params", [{}, {"order": 0}, {"order": "five"}, {"order": None}])
def test_parameters_that_do_not_fit_the_schema_are_refused(params):
    with pytest.raises(InvalidParams, match="do not fit 'counted': order: "):
        check_params(COUNTED, params)


def test_parameters_that_fit_are_taken():
    check_params(COUNTED, {"order": 5})
