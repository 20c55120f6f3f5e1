"""Workflows, their plans and their step handlers, by name.

A plan is a chain of groups, in Celery's words: the steps of a group run side by side, the next
group starts when the last of them is done. It is made once, from the job's parameters, and stored.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from rest_framework.exceptions import ValidationError
from rest_framework.serializers import Serializer

from jobs.errors import (
    HandlerChanged,
    InvalidParams,
    InvalidPlan,
    UnknownHandler,
    UnknownWorkflow,
)
from jobs.models import Status, Wait
from jobs.models.limits import FLOW_KEY

if TYPE_CHECKING:
    from jobs.context import StepContext


STEPS = "steps"
"""The queue that every worker serves unless it was told otherwise."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after how long: a handler's, or a step's own. `spread` is the share of the
    delay that is left to chance, so that steps which failed together do not come back together."""

    max_attempts: int = 3
    first_delay: timedelta = timedelta(seconds=2)
    factor: float = 3.0
    longest_delay: timedelta = timedelta(minutes=5)
    spread: float = 0.3

    @classmethod
    def never(cls) -> "RetryPolicy":
        """One attempt and no more, whatever goes wrong with it."""
        return cls(max_attempts=1)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "RetryPolicy":
        return cls(
            max_attempts=data["max_attempts"],
            first_delay=timedelta(seconds=data["first_delay_seconds"]),
            factor=data["factor"],
            longest_delay=timedelta(seconds=data["longest_delay_seconds"]),
            spread=data["spread"],
        )

    def to_data(self) -> dict[str, float]:
        """As a step's row keeps it: the plan stays though the handler's policy changes."""
        return {
            "max_attempts": self.max_attempts,
            "first_delay_seconds": self.first_delay.total_seconds(),
            "factor": self.factor,
            "longest_delay_seconds": self.longest_delay.total_seconds(),
            "spread": self.spread,
        }

    def find_problem(self) -> str | None:
        """Why no step could be retried by it."""
        if self.max_attempts < 1:
            return f"at most {self.max_attempts} attempts; it needs at least 1"
        if self.first_delay < timedelta(0) or self.longest_delay < timedelta(0) or self.factor < 0:
            return "a delay below zero"
        if not 0 <= self.spread <= 1:
            return f"a spread of {self.spread}; it is a share, from 0 to 1"
        return None

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
    """Nothing failed, it just cannot be now: come again in `delay`. Costs no attempt.

    `queue` moves the step there, such as to the machine that has its browser
    (`processes.host_queue`, seen to be served); without it the step stays in its queue.
    """

    delay: timedelta
    reason: str
    queue: str = ""


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
    cancelled. Costs no attempt, and nothing is held meanwhile. `queue` is where it goes on, as with
    Postpone."""

    waits: Sequence[Awaited]
    reason: str
    queue: str = ""

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
    version: int = 1
    accepts: frozenset[int] = frozenset()  # older versions whose steps it can carry out as well

    def fits(self, version: int) -> bool:
        """Whether it carries out a step that was planned for this version of it."""
        return version == self.version or version in self.accepts


@dataclass(frozen=True)
class StepPlan:
    """One step to be. `name` is unique in its job: later steps find its output by it. Without
    `retry` its handler's policy holds. `keys` are the flow keys that may limit it, such as
    "vendor:<id>"; "workflow:<name>" is one of every step's. `effects` are the keys of the acts that
    it may carry out, `needs` those that must be done before."""

    name: str
    title: str
    handler: str
    params: Mapping[str, Any] = field(default_factory=dict)
    weight: int = 1
    queue: str = STEPS
    retry: RetryPolicy | None = None
    keys: Sequence[str] = ()
    effects: Sequence[str] = ()
    needs: Sequence[str] = ()


Group = Sequence[StepPlan]
Chain = Sequence[Group]


@dataclass(frozen=True)
class Change:
    """One state change of a job, as it is told to its workflow inside the same transaction.

    Where a person changed the job, the step is the one at which it stood (cancelled: it may still
    be running, and is told again when it has stopped) or from which it goes on (READY, attempt 0).
    """

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
    state change, so it may only write to the database, and briefly. `params` is what a job's
    parameters must fit.
    """

    name: str
    version: int
    plan: Callable[[Mapping[str, Any]], Chain]
    on_change: Callable[[Change], None] | None = None
    params: "type[Serializer[Any]] | None" = None


_workflows: dict[str, Workflow] = {}
_handlers: dict[str, Handler] = {}


def register_workflow(workflow: Workflow) -> Workflow:
    _workflows[workflow.name] = workflow
    return workflow


def step_handler(
    name: str,
    *,
    time_limit: timedelta,
    retry: RetryPolicy | None = None,
    version: int = 1,
    accepts: Collection[int] = (),
) -> Callable[[HandlerFunction], HandlerFunction]:
    """Registers a step handler. A handler runs outside any transaction, and may run again after a
    crash at any of its lines: it starts by asking where it is.

    Raise `version` when steps that were planned before can no longer be carried out as planned;
    they go to a person then, but for those whose version is in `accepts`.
    """

    def register(function: HandlerFunction) -> HandlerFunction:
        _handlers[name] = Handler(
            name, function, time_limit, retry or RetryPolicy(), version, frozenset(accepts)
        )
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


def find_told_keys() -> list[str]:
    """The flow keys of the workflows that want to be told."""
    return [f"workflow:{each.name}" for each in _workflows.values() if each.on_change]


def get_handler(name: str) -> Handler:
    try:
        return _handlers[name]
    except KeyError:
        raise UnknownHandler(f"No step handler is called {name!r}.") from None


def find_handler(name: str) -> Handler | None:
    return _handlers.get(name)


def get_handler_for(name: str, version: int) -> Handler:
    """The handler of a step that was planned for `version` of it. Raises HandlerChanged where the
    registered one is another and does not accept it, or UnknownHandler."""
    handler = get_handler(name)
    if handler.fits(version):
        return handler
    raise HandlerChanged(
        f"The step was planned for version {version} of its handler {name!r}, which is version "
        f"{handler.version} now. See that the change suits this job, then run it again from this "
        f"step: it uses version {handler.version} then."
    )


def check_chain(chain: Chain) -> None:
    """Raises InvalidPlan or UnknownHandler for a plan that could never be carried out."""
    if not chain or not all(chain):
        raise InvalidPlan("A plan is a chain of groups, and each group needs at least one step.")
    names = Counter(step.name for group in chain for step in group)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InvalidPlan(
            f"Step names must be unique in a plan; twice: {', '.join(sorted(twice))}."
        )
    for step in (step for group in chain for step in group):
        get_handler(step.handler)
        if wrong := [key for key in step.keys if not re.match(FLOW_KEY, key)]:
            raise InvalidPlan(f"Step {step.name!r}: {wrong[0]!r} is no flow key.")
        if step.weight < 1:
            raise InvalidPlan(f"Step {step.name!r} has weight {step.weight}; it needs at least 1.")
        if problem := step.retry and step.retry.find_problem():
            raise InvalidPlan(f"Step {step.name!r} cannot be retried: {problem}.")
    _check_effects(chain)


def _check_effects(chain: Chain) -> None:
    """An act is one step's, and comes before what needs it: anything else is a cycle."""
    done: set[str] = set()
    for group in chain:
        for step in group:
            if missing := sorted(set(step.needs) - done):
                raise InvalidPlan(
                    f"Step {step.name!r} needs {missing[0]!r}, which no earlier group does."
                )
        for step in group:
            if twice := sorted(done & set(step.effects)):
                raise InvalidPlan(f"Step {step.name!r} does {twice[0]!r}, as another step does.")
            done |= set(step.effects)


def check_params(workflow: Workflow, params: Mapping[str, Any]) -> None:
    """Raises InvalidParams for parameters that do not fit the workflow's schema."""
    if workflow.params is None:
        return
    try:
        _checker(workflow.params).run_validation(dict(params))
    except ValidationError as error:
        found: Any = error.detail  # by name
        problems = "; ".join(
            f"{name}: {' '.join(map(str, sentences))}" for name, sentences in found.items()
        )
        sentence = f"The parameters do not fit {workflow.name!r}: {problems}"
        raise InvalidParams(sentence) from error


@cache
def _checker(kind: "type[Serializer[Any]]") -> "Serializer[Any]":
    """One for all jobs: checking leaves nothing in it, and DRF copies the fields for a new one."""
    return kind()
