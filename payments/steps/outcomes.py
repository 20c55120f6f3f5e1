"""What becomes of a voucher step: registering its handler, and what a site's no or trouble means.

A handler that has to come again later raises `Later` from wherever it finds that out, so that what
stands between is written for the case that all goes well.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps

from automation import errors
from jobs.context import StepContext
from jobs.errors import Becomes, BusinessError
from jobs.plans import HandlerFunction, Outcome, Postpone, RetryPolicy, WaitFor, step_handler
from payments.errors import CvvUnreachable
from vendors import browsing

RETRY = RetryPolicy(max_attempts=4)  # voucher-bulk-purchase: max 3 retries
STORE_PAUSE = timedelta(seconds=5)

LIMIT_EXCEEDED = "User monthly limit exceeded"  # voucher-bulk-purchase, word for word


class Later(Exception):
    """Not now: the outcome of the step in place of a result."""

    def __init__(self, outcome: Postpone | WaitFor) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


def voucher_step(
    name: str, *, time_limit: timedelta
) -> Callable[[HandlerFunction], HandlerFunction]:
    """Registers the handler `payments.<name>`: what a site says becomes what the runner acts on,
    and a failure leaves its evidence."""

    def register(function: HandlerFunction) -> HandlerFunction:
        @step_handler(f"payments.{name}", time_limit=time_limit, retry=RETRY)
        @wraps(function)
        def run(context: StepContext) -> Outcome:
            try:
                return function(context)
            except Later as later:
                return later.outcome
            except CvvUnreachable as error:
                return Postpone(STORE_PAUSE, str(error))
            except errors.AutomationError as error:
                browsing.keep_evidence(context, error)
                return decide_outcome(error)

        return run

    return register


def decide_outcome(error: errors.AutomationError) -> Outcome:
    """What becomes of a step that has changed nothing yet. Returns a Postpone, or raises what the
    runner acts on."""
    match error:
        case errors.LimitExceeded():
            raise BusinessError(error.code, LIMIT_EXCEEDED) from error
        case errors.AccountBlocked() | errors.WrongCredentials() | errors.CodeNotAccepted():
            raise BusinessError(error.code, str(error), Becomes.MANUAL) from error
    return browsing.decide_outcome(error)
