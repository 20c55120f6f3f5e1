"""Workflows of the engine's benchmark, whose steps do nothing but say that they ran.

Registered on import: in the benchmark itself, and by `_engine_settings` in its workers.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from jobs import waits
from jobs.context import StepContext
from jobs.plans import (
    Chain,
    Done,
    Outcome,
    StepPlan,
    WaitFor,
    Workflow,
    register_workflow,
    step_handler,
)
from tests.bench._engine_ledger import note
from tests.bench._engine_work import ANSWERED, ASKED, FAN, JOIN, PIPELINE

QUEUE = "bench"  # not the product's: its worker does not know these handlers
TOPIC = "bench.answers"

TIME_LIMIT = timedelta(seconds=60)


@step_handler("bench.step", time_limit=TIME_LIMIT)
def run_step(context: StepContext) -> Outcome:
    note(context.job_params["job"], context.claim.name)
    return Done()


@step_handler("bench.wait", time_limit=TIME_LIMIT)
def wait_for_answer(context: StepContext) -> Outcome:
    job = context.job_params["job"]
    if context.find_answer("answer"):
        note(job, ANSWERED)
        return Done()
    note(job, ASKED)
    return WaitFor([waits.signal("answer", TOPIC, {"job": job})], "Waits for an answer")


def plan_pipeline(params: Mapping[str, Any]) -> Chain:
    return [[_step(name)] for name in PIPELINE]


def plan_single(params: Mapping[str, Any]) -> Chain:
    return [[_step("1")]]


def plan_fan_out(params: Mapping[str, Any]) -> Chain:
    return [[_step(name) for name in FAN], [_step(JOIN)]]


def plan_wait(params: Mapping[str, Any]) -> Chain:
    return [[_step("wait", "bench.wait")]]


def _step(name: str, handler_name: str = "bench.step") -> StepPlan:
    return StepPlan(name, f"Step {name}", handler_name, queue=QUEUE)


register_workflow(Workflow("bench.pipeline", 1, plan_pipeline))
register_workflow(Workflow("bench.single", 1, plan_single))
register_workflow(Workflow("bench.fan_out", 1, plan_fan_out))
register_workflow(Workflow("bench.wait", 1, plan_wait))
