"""Toy workflows: their plans and what their steps do are written in the job's parameters.

Registered on import, in the tests' own process and, by `tests.jobs.settings`, in real workers.
"""

import os
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from jobs.context import StepContext
from jobs.errors import Stopped
from jobs.models import Job
from jobs.plans import (
    Chain,
    Change,
    Done,
    HandlerFunction,
    Outcome,
    RetryPolicy,
    StepPlan,
    Workflow,
    register_workflow,
    step_handler,
)
from jobs.submit import submit_job

# Without chance, so that a test can say when a retry is due: after 10 s, then after 30 s.
RETRY = RetryPolicy(max_attempts=3, first_delay=timedelta(seconds=10), factor=3, spread=0)

# What a step does instead of succeeding at once, by the step's name; for tests in this process.
BEHAVIOURS: dict[str, HandlerFunction] = {}

# What a workflow with rows of its own was told, in order.
TOLD: list[Change] = []


def plan_toy(params: Mapping[str, Any]) -> Chain:
    options = params.get("options", {})
    return [
        [StepPlan(name, f"Step {name}", "toy.step", **options.get(name, {})) for name in group]
        for group in params["chain"]
    ]


@step_handler("toy.step", time_limit=timedelta(seconds=60), retry=RETRY)
def run_step(context: StepContext) -> Outcome:
    _write_to_ledger(context)
    if behaviour := BEHAVIOURS.get(context.claim.name):
        return behaviour(context)
    if seconds := context.params.get("seconds"):
        time.sleep(seconds)
    if path := context.params.get("until"):
        _wait_for_file(Path(path), context)
    return Done({"ran": context.claim.name})


register_workflow(Workflow("toy", 1, plan_toy))
register_workflow(Workflow("toy.with_rows", 1, plan_toy, on_change=TOLD.append))


def submit_toy(
    chain: Sequence[Sequence[str]],
    *,
    workflow: str = "toy",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    ledger: Path | None = None,
    **submission: Any,
) -> Job:
    """A job of toy steps. `options`: what else its StepPlan has, by the step's name."""
    params: dict[str, Any] = {"chain": chain, "options": options or {}}
    if ledger:
        params["ledger"] = str(ledger)
    return submit_job(workflow, params, title="Toy", **submission)


def _write_to_ledger(context: StepContext) -> None:
    """One line a run, outside the database: what really happened, whatever the rows say."""
    if path := context.job_params.get("ledger"):
        with Path(path).open("a") as ledger:
            ledger.write(f"{context.job_id} {context.claim.name} {os.getpid()}\n")


def _wait_for_file(path: Path, context: StepContext) -> None:
    while not path.exists():
        if context.stop.wait(0.01):
            raise Stopped
