"""The engine's tables. Who writes them: `submit.py`, `steps.py`, `sweep.py`, `flow.py`, `keys.py`
and `control.py`, mostly by `statements/`; `records.py` for jobs without steps. Nobody else.

A job is one run of a workflow: a chain of stages, each a group of steps. `stage`, `stage_open` and
`stage_sizes` hold the whole of the joining: the step that takes `stage_open` to zero opens the
next stage, in the statement that completes it.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.files.storage import Storage, storages
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse
from uuid_utils.compat import uuid7

from accounts.models import Workspace
from jobs.models.limits import KEY_LENGTH
from jobs.models.transitions import only_transitions


class Status(models.TextChoices):
    """States of jobs and of steps. A job is never READY; a step is never MANUAL."""

    PENDING = "pending", "Pending"
    READY = "ready", "Ready"
    RUNNING = "running", "Running"
    WAITING = "waiting", "Waiting"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    MANUAL = "manual", "With a person"
    CANCELLED = "cancelled", "Cancelled"


JOB_STATUSES = [choice for choice in Status.choices if choice[0] != Status.READY]
STEP_STATUSES = [choice for choice in Status.choices if choice[0] != Status.MANUAL]
FINISHED = frozenset({Status.COMPLETED, Status.FAILED, Status.MANUAL, Status.CANCELLED})


class Job(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workflow = models.CharField(max_length=100)
    workflow_version = models.PositiveSmallIntegerField()
    title = models.CharField(max_length=300)
    params = models.JSONField(default=dict)
    status = models.CharField(max_length=16, choices=JOB_STATUSES, default=Status.PENDING)
    priority = models.SmallIntegerField(default=0, help_text="Higher goes first.")
    idempotency_key = models.CharField(max_length=200, null=True)  # noqa: DJ001
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    stage = models.PositiveSmallIntegerField(default=0, help_text="The stage that is open now.")
    stage_sizes = ArrayField(models.PositiveSmallIntegerField())
    stage_open = models.PositiveSmallIntegerField(help_text="Its steps that are not done yet.")
    weight_total = models.PositiveIntegerField()
    weight_done = models.PositiveIntegerField(default=0)
    progress = models.PositiveSmallIntegerField(default=0, help_text="Per cent.")
    last_event = models.PositiveIntegerField(default=0, help_text="Number of its newest event.")

    result = models.JSONField(null=True)
    error = models.JSONField(null=True, help_text='{"code", "message"}')
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        # What lists count and filter by. A job's status changes twice; its events do not touch it.
        indexes = [
            models.Index(fields=["status", "id"], name="job_status_id"),
            models.Index(fields=["workflow", "id"], name="job_workflow_id"),
            # By age, for the archive; a job is in it from its end.
            models.Index(
                fields=["finished_at"],
                condition=models.Q(finished_at__isnull=False),
                name="job_finished",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "idempotency_key"],
                condition=models.Q(idempotency_key__isnull=False),
                name="job_idempotency_key",
            )
        ]
        triggers = [
            only_transitions(
                "job_status",
                [
                    ("pending", "running"),
                    ("pending", "cancelled"),
                    ("running", "waiting"),
                    ("waiting", "running"),
                    ("running", "completed"),
                    ("running", "failed"),
                    ("running", "manual"),
                    ("running", "cancelled"),
                    ("waiting", "cancelled"),
                    ("manual", "cancelled"),
                    # A person lets an ended job go on (control.py).
                    ("completed", "pending"),
                    ("failed", "pending"),
                    ("manual", "pending"),
                    ("cancelled", "pending"),
                ],
            )
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("jobs:detail", args=[self.pk])

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED


class Step(models.Model):
    """One step of a plan. All of a job's steps exist from its start."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="steps")
    stage = models.PositiveSmallIntegerField()
    position = models.PositiveSmallIntegerField(default=0, help_text="Place in its group.")
    name = models.CharField(max_length=100)
    title = models.CharField(max_length=200)
    handler = models.CharField(max_length=100)
    handler_version = models.PositiveSmallIntegerField(
        default=1, help_text="The handler's version when the plan was made."
    )
    queue = models.CharField(max_length=100, help_text="The Celery queue whose workers may run it.")
    priority = models.SmallIntegerField(
        default=0, help_text="The job's, raised by a level for each while that it was ready."
    )
    weight = models.PositiveSmallIntegerField(default=1, help_text="Share of the job's progress.")
    params = models.JSONField(default=dict)

    status = models.CharField(max_length=16, choices=STEP_STATUSES, default=Status.PENDING)
    due_at = models.DateTimeField(
        null=True, help_text="Ready: since when. Waiting: when it becomes ready again."
    )
    flow_keys = ArrayField(
        models.CharField(max_length=KEY_LENGTH), default=list, help_text="What may limit it."
    )
    limited_by = models.CharField(
        max_length=KEY_LENGTH,
        blank=True,
        help_text="The flow key that held it back, since it became ready and until it starts.",
    )
    ages_from = models.DateTimeField(
        null=True, help_text="Ready or held back: since when its priority has not risen."
    )
    attempt = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    retry = models.JSONField(null=True, help_text="The step's own RetryPolicy, if it has one.")
    fence = models.PositiveBigIntegerField(default=0, help_text="Fencing token: rises by claim.")
    lease_expires_at = models.DateTimeField(null=True)
    worker = models.CharField(max_length=100, blank=True)

    progress = models.PositiveSmallIntegerField(default=0, help_text="Per cent.")
    phase = models.CharField(max_length=200, blank=True)
    checkpoint = models.JSONField(
        null=True, help_text="What the handler must know should it run a second time."
    )
    output = models.JSONField(null=True)
    error = models.JSONField(null=True, help_text='{"code", "message"} of the last attempt.')
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    reset_at = models.DateTimeField(
        null=True, help_text="When a person last had it run again; older answers do not count."
    )

    class Meta:
        ordering = ["stage", "position"]
        constraints = [
            models.UniqueConstraint(fields=["job", "stage", "position"], name="step_place_in_plan"),
            models.CheckConstraint(
                name="step_running_has_lease",
                condition=~models.Q(status="running") | models.Q(lease_expires_at__isnull=False),
            ),
        ]
        indexes = [
            # The claim reads the first row of this one: finished steps cost it nothing.
            models.Index(
                models.F("queue"),
                models.F("priority").desc(),
                models.F("id"),
                condition=models.Q(status="ready"),
                name="step_ready",
            ),
            models.Index(fields=["due_at"], condition=models.Q(status="waiting"), name="step_due"),
            # Who is next at a limit. The common step, which nothing limits, is not in it.
            models.Index(
                models.F("limited_by"),
                models.F("priority").desc(),
                models.F("id"),
                condition=models.Q(status__in=["ready", "waiting"]) & ~models.Q(limited_by=""),
                name="step_limited",
            ),
            # Not on lease_expires_at: every heartbeat would write the index as well.
            models.Index(fields=["id"], condition=models.Q(status="running"), name="step_running"),
        ]
        triggers = [
            only_transitions(
                "step_status",
                [
                    ("pending", "ready"),
                    ("pending", "running"),
                    ("pending", "cancelled"),
                    ("ready", "running"),
                    ("ready", "waiting"),  # held back by a limit
                    ("ready", "cancelled"),
                    ("running", "completed"),
                    ("running", "failed"),
                    ("running", "waiting"),
                    ("running", "ready"),
                    ("running", "cancelled"),
                    ("waiting", "ready"),
                    ("waiting", "cancelled"),
                    # A person lets an ended job go on (control.py).
                    *[
                        (ended, again)
                        for ended in ("completed", "failed", "cancelled")
                        for again in ("ready", "pending")
                    ],
                ],
            )
        ]

    def __str__(self) -> str:
        return self.title


class Event(models.Model):
    """What happened, numbered by job without gaps: timeline, websocket and webhooks read these."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events", db_index=False)
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=40)
    # No foreign key: an event is written with every step, and its step is never deleted alone.
    step_id = models.UUIDField(null=True)
    message = models.CharField(max_length=1000)
    data = models.JSONField(default=dict, help_text='{"job": {...}, "step": {...}}: what changed.')
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["job", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="event_number")]

    def __str__(self) -> str:
        return f"{self.number} {self.kind}"


def artifact_storage() -> Storage:
    return storages["artifacts"]


def artifact_path(artifact: Artifact, filename: str) -> str:
    return f"{artifact.job_id}/{artifact.step_id}/{artifact.attempt}-{filename}"


class Artifact(models.Model):
    """A file that a step's attempt left behind, such as the screenshot of a failure."""

    class Kind(models.TextChoices):
        SCREENSHOT = "screenshot", "Screenshot"
        PAGE = "page", "Page"
        CONSOLE = "console", "Console log"
        NETWORK = "network", "Network log"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="artifacts")
    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="artifacts")
    attempt = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=16, choices=Kind)
    file = models.FileField(upload_to=artifact_path, storage=artifact_storage, max_length=300)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of attempt {self.attempt}"
