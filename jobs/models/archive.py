"""What is left of finished jobs after their time, and what has been put away each day.

`archive.py` writes these. The hot tables stay small; nothing of the engine reads the archive.
"""

from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.functions import Now

from jobs.models.engine import JOB_STATUSES


class ArchivedJob(models.Model):
    """A job as it ended, with its whole timeline. No foreign keys: what they meant may be gone."""

    id = models.UUIDField(primary_key=True, editable=False, help_text="The job's.")
    workspace_id = models.UUIDField()
    workflow = models.CharField(max_length=100)
    title = models.CharField(max_length=300)
    status = models.CharField(max_length=16, choices=JOB_STATUSES)
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    archived_at = models.DateTimeField(db_default=Now(), editable=False)
    snapshot = models.JSONField(
        encoder=DjangoJSONEncoder, help_text="The job, its parameters, its steps and its subject."
    )
    timeline = models.JSONField(encoder=DjangoJSONEncoder, help_text="All of its events.")

    class Meta:
        ordering = ["-id"]
        verbose_name = "archived job"

    def __str__(self) -> str:
        return self.title


class ArchiveRun(models.Model):
    """A day's archiving. It is a row so that a restart goes on with it and does not repeat it."""

    day = models.DateField(primary_key=True)
    jobs = models.PositiveIntegerField(default=0, help_text="Moved to the archive.")
    artifacts = models.PositiveIntegerField(default=0, help_text="Deleted, their files as well.")
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    reached_at = models.DateTimeField(
        null=True, help_text="The last job that was looked at had finished then."
    )
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-day"]

    def __str__(self) -> str:
        return str(self.day)
