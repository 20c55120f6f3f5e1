"""What a step handler gets."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.core.files.base import ContentFile
from django.utils import timezone

from jobs import effects, steps, waits
from jobs.models import Artifact, Effect, Status, Step
from jobs.otp import requests as otp
from jobs.statements import ClaimedStep

KEEP_ARTIFACTS = timedelta(days=14)


@dataclass
class StepContext:
    """One attempt at a step. Its writes raise LeaseLost when the step is no longer ours."""

    claim: ClaimedStep
    stop: threading.Event  # set when the handler should give up: it then raises Stopped
    time_limit: timedelta

    @property
    def job_id(self) -> Any:
        return self.claim.job_id

    @property
    def job_params(self) -> Mapping[str, Any]:
        return self.claim.job_params

    @property
    def params(self) -> Mapping[str, Any]:
        return self.claim.params

    @property
    def attempt(self) -> int:
        return self.claim.attempt

    @property
    def checkpoint(self) -> Mapping[str, Any] | None:
        """What a former attempt committed with `save_checkpoint`."""
        return self.claim.checkpoint

    def output_of(self, name: str) -> Mapping[str, Any]:
        """The output of the job's completed step `name`; raises Step.DoesNotExist."""
        outputs = Step.objects.filter(job_id=self.job_id, name=name, status=Status.COMPLETED)
        output: Any = outputs.values_list("output", flat=True).get()
        return dict(output)

    def find_answer(self, *names: str) -> waits.Answer | None:
        """How the newest of the waits called one of `names` has ended; None: begin to wait.

        Raises BusinessError after a deadline that was to end the step.
        """
        return waits.find_answer(self.claim, names)

    def find_code(self, name: str) -> otp.Code | None:
        """The one-time password that came for the wait `name`; None: ask for it.

        Raises BusinessError when none came in time, and the deadline was to end the step.
        """
        return otp.find_code(self.claim, name)

    def accept_code(self, name: str) -> None:
        """The site took the code; it is erased."""
        otp.accept_code(self.claim, name)

    def reject_code(self, name: str) -> None:
        """The site refused the code; it is erased. Raises BusinessError after the last attempt."""
        otp.reject_code(self.claim, name)

    def perform(
        self,
        key: str,
        *,
        title: str,
        intent: Mapping[str, Any],
        act: Callable[[], Mapping[str, Any]],
        reconcile: Callable[[Effect], effects.Finding],
    ) -> Mapping[str, Any]:
        """The result of an act that is carried out at most once (`jobs.effects.perform`)."""
        return effects.perform(
            self.claim, key, title=title, intent=intent, act=act, reconcile=reconcile
        )

    def progress(self, percent: int, phase: str) -> None:
        steps.report_progress(self.claim, percent, phase)

    def save_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        steps.save_checkpoint(self.claim, checkpoint)
        self.claim = replace(self.claim, checkpoint=checkpoint)

    def keep_artifact(self, kind: Artifact.Kind, filename: str, content: bytes) -> None:
        Artifact.objects.create(
            job_id=self.claim.job_id,
            step_id=self.claim.id,
            attempt=self.claim.attempt,
            kind=kind,
            file=ContentFile(content, filename),
            expires_at=timezone.now() + KEEP_ARTIFACTS,
        )
