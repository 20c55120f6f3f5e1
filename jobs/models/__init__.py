"""The tables of `jobs`, by what they serve. Import them from here."""

from jobs.models.archive import ArchivedJob, ArchiveRun
from jobs.models.effects import Effect
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
from jobs.models.limits import FlowLimit
from jobs.models.otp import InboundMessage, InboundSource, OtpRequest, OtpRule
from jobs.models.processes import Metric, Process
from jobs.models.waits import Signal, Wait
from jobs.models.webhooks import WebhookCursor, WebhookDelivery, WebhookEndpoint

__all__ = [
    "FINISHED",
    "JOB_STATUSES",
    "STEP_STATUSES",
    "ArchiveRun",
    "ArchivedJob",
    "Artifact",
    "Effect",
    "Event",
    "FlowLimit",
    "InboundMessage",
    "InboundSource",
    "Job",
    "Metric",
    "OtpRequest",
    "OtpRule",
    "Process",
    "Signal",
    "Status",
    "Step",
    "Wait",
    "WebhookCursor",
    "WebhookDelivery",
    "WebhookEndpoint",
    "artifact_path",
    "artifact_storage",
]
