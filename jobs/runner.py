"""Running steps: claim, call the handler, write the outcome, go on with what follows.

Runs in the threads of a Celery worker, several at a time. Nothing here decides *whether* a step may
run, that is the claim's; and nothing here is remembered between steps.
"""

import os
import socket
import threading
from collections.abc import Sequence

import structlog

from jobs import flow, steps, telemetry
from jobs.context import StepContext
from jobs.errors import (
    BusinessError,
    HandlerChanged,
    LeaseLost,
    StepError,
    Stopped,
    TransientError,
    UnknownHandler,
)
from jobs.leases import LeaseKeeper, keeper
from jobs.models import Status
from jobs.plans import Handler, Outcome, Postpone, RetryPolicy, WaitFor, get_handler_for
from jobs.statements import ClaimedStep
from jobs.tally import tally, timed_step

log = structlog.get_logger(__name__)


class Runner:
    def __init__(self, keeper: LeaseKeeper) -> None:
        self.keeper = keeper
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        self._stopping = threading.Event()

    def run_ready_steps(self, queues: Sequence[str]) -> int:
        """Runs ready steps until there are none, or we shut down; how many it ran."""
        count = 0
        while not self._stopping.is_set():
            step = steps.claim_next(queues, worker=self.worker)
            if step is None:
                break
            while step is not None:
                step = self._run(step, queues)
                count += 1
        return count

    def stop(self) -> None:
        """No step is claimed from now on; those that run may finish."""
        self._stopping.set()

    def _run(self, step: ClaimedStep, queues: Sequence[str]) -> ClaimedStep | None:
        """Runs one claimed step; returns the one that follows if it is ours at once."""
        with structlog.contextvars.bound_contextvars(
            job=str(step.job_id), step=step.name, attempt=step.attempt
        ):
            try:
                with telemetry.step_span(step), timed_step(step.handler):
                    return self._attempt(step, queues)
            except LeaseLost:
                tally.count("leases_lost", handler=step.handler)
                log.warning("lease_lost")
                return None
            finally:
                flow.wake(step.limits)  # whatever became of it, its places are free

    def _attempt(self, step: ClaimedStep, queues: Sequence[str]) -> ClaimedStep | None:
        try:
            handler = get_handler_for(step.handler, step.handler_version)
        except (UnknownHandler, HandlerChanged) as error:
            log.error("step_without_handler", handler=step.handler, code=error.code)
            steps.fail(step, BusinessError(error.code, str(error)), becomes=Status.MANUAL)
            return None
        with self.keeper.hold(step, handler.time_limit) as held:
            context = StepContext(step, held.stop, handler.time_limit)
            try:
                return self._settle(step, handler.run(context), queues)
            except LeaseLost:
                raise
            except BusinessError as error:
                steps.fail(step, error, becomes=Status(error.becomes))
                log.info("step_failed", code=error.code)
            except Stopped as error:
                self._stopped(step, handler, held.why, error)
            except StepError as error:
                self._retry(step, handler, error)
            except Exception as error:
                log.exception("step_raised_unexpectedly", handler=handler.name)
                kind = type(error).__name__
                sentence = f"{step.title} failed unexpectedly ({kind}); see the worker's log."
                self._retry(step, handler, TransientError("unexpected", sentence))
            return None

    def _settle(
        self, step: ClaimedStep, outcome: Outcome, queues: Sequence[str]
    ) -> ClaimedStep | None:
        if isinstance(outcome, Postpone):
            steps.postpone(step, delay=outcome.delay, reason=outcome.reason, queue=outcome.queue)
            return None
        if isinstance(outcome, WaitFor):
            steps.suspend(step, outcome)
            return None
        ours = () if self._stopping.is_set() else queues
        return steps.complete(step, outcome.output, queues=ours, worker=self.worker)

    def _stopped(
        self, step: ClaimedStep, handler: Handler, why: str | None, error: Stopped
    ) -> None:
        match why:
            case "shutdown":
                steps.release(step)
            case "time_limit":
                limit = handler.time_limit.total_seconds()
                sentence = f"{step.title} took longer than {limit:.0f} s."
                self._retry(step, handler, TransientError("time_limit", sentence))
            case "job_ended":
                steps.stop(step)
                log.info("step_stopped")
            case _:
                raise LeaseLost(step.title) from error

    def _retry(self, step: ClaimedStep, handler: Handler, error: StepError) -> None:
        if step.attempt >= step.max_attempts:
            log.error("step_gave_up", code=error.code, attempts=step.attempt)
            steps.fail(step, error)
            return
        policy = RetryPolicy.from_data(step.retry) if step.retry else handler.retry
        delay = policy.decide_delay(step.attempt)
        tally.count("step_retries", handler=step.handler)
        log.warning("step_retrying", code=error.code, delay_seconds=delay.total_seconds())
        steps.retry(step, error, delay=delay)


runner = Runner(keeper)
