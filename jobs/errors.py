"""What can go wrong with a job, and what a step handler raises to say so.

A handler classifies where the fact is known. `BusinessError`: the answer is no, and asking again
would not change it. `TransientError`: the same step may work in a moment. `Stopped`: it is not the
step's fault at all. Whatever else a handler raises is unexpected and retried like a TransientError.
"""

from enum import StrEnum


class JobsError(Exception):
    code = "jobs_error"


class UnknownWorkflow(JobsError):
    code = "unknown_workflow"


class UnknownHandler(JobsError):
    code = "unknown_handler"


class HandlerChanged(JobsError):
    """The step's handler is another version than the one that the step was planned for."""

    code = "handler_changed"


class InvalidPlan(JobsError):
    code = "invalid_plan"


class InvalidParams(JobsError):
    code = "invalid_params"


class NotPossible(JobsError):
    """A person asked for what cannot be done with a job as it stands; nothing changed."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class InvalidLimit(JobsError):
    """The limit makes no sense; nothing was changed."""

    code = "invalid_limit"


class InvalidFilter(JobsError):
    """The filter would not say which jobs are meant; none was touched."""

    code = "invalid_filter"


class WaitClosed(JobsError):
    """The wait has ended already: answered by somebody else, expired or cancelled."""

    code = "wait_closed"


class InvalidAnswer(JobsError):
    code = "invalid_answer"


class LeaseLost(JobsError):
    """Another worker has this step now, or nobody: nothing that we say of it counts any more."""

    code = "lease_lost"


class Becomes(StrEnum):
    """What becomes of the work after a business error."""

    FAILED = "failed"
    MANUAL = "manual"  # a person takes over


class StepError(JobsError):
    """An outcome that a handler raises: a stable code and a sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class BusinessError(StepError):
    def __init__(self, code: str, sentence: str, becomes: Becomes = Becomes.FAILED) -> None:
        super().__init__(code, sentence)
        self.becomes = becomes


class UnknownOutcome(BusinessError):
    """An act was begun, and nobody can tell whether it happened: never retried blind, a person
    looks."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence, Becomes.MANUAL)


class TransientError(StepError):
    pass


class Stopped(StepError):
    """The handler gave up because the step was told to stop: its lease is lost, or we shut down."""

    def __init__(self) -> None:
        super().__init__("stopped", "The step was stopped before it was done.")
