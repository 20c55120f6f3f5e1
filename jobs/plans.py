"""Workflows, their plans and their step handlers, by name.

A plan is a chain of groups, in Celery's words: the steps of a group run side by side, the next
group starts when the last of them is done. It is made once, from the job's parameters, and stored.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jobs.errors import InvalidPlan, UnknownHandler, UnknownWorkflow
from jobs.models import Status, Wait

if TYPE_CHECKING:
    from jobs.context import StepContext


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after how long. `spread` is the share of the delay that is left to chance,
    so that steps which failed together do not come back together."""

    max_attempts: int = 3
    first_delay: timedelta = timedelta(seconds=2)
    factor: float = 3.0
    longest_delay: timedelta = timedelta(minutes=5)
    spread: float = 0.3

    def decide_delay(self, attempt: int, chance: Callable[[], float] = random.random) -> timedelta:
        """How long to wait after attempt number `attempt` (from 1) failed."""
        # In seconds: after many attempts the uncut delay is more than a timedelta holds.
        uncut = self.first_delay.total_seconds() * self.factor ** min(attempt - 1, 64)
        delay = timedelta(seconds=min(uncut, self.longest_delay.total_seconds()))
        return delay * (1 - self.spread + 2 * self.spread * chance())


@dataclass(frozen=True)
class Done:
    """The step is completed; `output` (JSON) is there for later steps under the step's name."""

    output: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Postpone:
    """Nothing failed, it just cannot be now: come again in `delay`. Costs no attempt."""

    delay: timedelta
    reason: str


@dataclass(frozen=True)
class Awaited:
    """One thing to wait for; made by `signal`, `approval` or `timer` in `jobs/waits.py`.

    `deadline` counts from when the step begins to wait. `name` is how the handler asks for the
    answer when it runs again.
    """

    name: str
    kind: Wait.Kind
    deadline: timedelta | None
    on_deadline: Wait.OnDeadline
    topic: str = ""
    match: Mapping[str, Any] = field(default_factory=dict)
    question: str = ""
    choices: Sequence[str] = ()


@dataclass(frozen=True)
class WaitFor:
    """The step goes on when the first of these has ended, whichever it is; the others are
    cancelled. Costs no attempt, and nothing is held meanwhile."""

    waits: Sequence[Awaited]
    reason: str

    def __post_init__(self) -> None:
        names = {each.name for each in self.waits}
        if not names or len(names) < len(self.waits):
            raise ValueError("A step waits for at least one thing, each with a name of its own.")


Outcome = Done | Postpone | WaitFor
HandlerFunction = Callable[["StepContext"], Outcome]


@dataclass(frozen=True)
class Handler:
    name: str
    run: HandlerFunction
    time_limit: timedelta
    retry: RetryPolicy


@dataclass(frozen=True)
class StepPlan:
    """One step to be. `name` is unique in its job: later steps find its output by it."""

    name: str
    title: str
    handler: str
    params: Mapping[str, Any] = field(default_factory=dict)
    weight: int = 1
    queue: str = "steps"


Group = Sequence[StepPlan]
Chain = Sequence[Group]


@dataclass(frozen=True)
class Change:
    """One state change of a job, as it is told to its workflow inside the same transaction."""

    job_id: Any
    params: Mapping[str, Any]
    job_status: Status
    step_name: str
    step_status: Status
    attempt: int
    output: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Workflow:
    """A named, versioned way to do a job.

    `plan` makes the chain from the job's parameters; it may not read anything else. `on_change`
    keeps rows of the workflow's own app in step with the job: it runs in the transaction of every
    state change, so it may only write to the database, and briefly.
    """

    name: str
    version: int
    plan: Callable[[Mapping[str, Any]], Chain]
    on_change: Callable[[Change], None] | None = None


_workflows: dict[str, Workflow] = {}
_handlers: dict[str, Handler] = {}


def register_workflow(workflow: Workflow) -> Workflow:
    _workflows[workflow.name] = workflow
    return workflow


def step_handler(
    name: str, *, time_limit: timedelta, retry: RetryPolicy | None = None
) -> Callable[[HandlerFunction], HandlerFunction]:
    """Registers a step handler. A handler runs outside any transaction, and may run again after a
    crash at any of its lines: it starts by asking where it is."""

    def register(function: HandlerFunction) -> HandlerFunction:
        _handlers[name] = Handler(name, function, time_limit, retry or RetryPolicy())
        return function

    return register


def get_workflow(name: str) -> Workflow:
    try:
        return _workflows[name]
    except KeyError:
        raise UnknownWorkflow(f"No workflow is called {name!r}.") from None


def find_on_change(workflow: str) -> Callable[[Change], None] | None:
    """What the workflow wants told in the transaction of a change; a workflow that is no longer
    registered wants nothing."""
    found = _workflows.get(workflow)
    return found.on_change if found else None


def get_handler(name: str) -> Handler:
    try:
        return _handlers[name]
    except KeyError:
        raise UnknownHandler(f"No step handler is called {name!r}.") from None


def check_chain(chain: Chain) -> None:
    """Raises InvalidPlan or UnknownHandler for a plan that could never be carried out."""
    if not chain or not all(chain):
        raise InvalidPlan("A plan is a chain of groups, and each group needs at least one step.")
    names = [step.name for group in chain for step in group]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidPlan(
            f"Step names must be unique in a plan; twice: {', '.join(sorted(twice))}."
        )
    for step in (step for group in chain for step in group):
        get_handler(step.handler)
        if step.weight < 1:
            raise InvalidPlan(f"Step {step.name!r} has weight {step.weight}; it needs at least 1.")
