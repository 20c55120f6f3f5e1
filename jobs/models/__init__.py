"""The tables of `jobs`, by what they serve. Import them from here."""

from jobs.models.engine import (
    FINISHED,
    JOB_STATUSES,
    STEP_STATUSES,
    Artifact,
    Event,
    Job,
    Status,
    Step,
    artifact_path,
    artifact_storage,
)
from jobs.models.otp import InboundMessage, InboundSource, OtpRequest, OtpRule
from jobs.models.waits import Signal, Wait

__all__ = [
    "FINISHED",
    "JOB_STATUSES",
    "STEP_STATUSES",
    "Artifact",
    "Event",
    "InboundMessage",
    "InboundSource",
    "Job",
    "OtpRequest",
    "OtpRule",
    "Signal",
    "Status",
    "Step",
    "Wait",
    "artifact_path",
    "artifact_storage",
]
