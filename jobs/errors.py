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


class InvalidPlan(JobsError):
    code = "invalid_plan"


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


class TransientError(StepError):
    pass


class Stopped(StepError):
    """The handler gave up because the step was told to stop: its lease is lost, or we shut down."""

    def __init__(self) -> None:
        super().__init__("stopped", "The step was stopped before it was done.")
