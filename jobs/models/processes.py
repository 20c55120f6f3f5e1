"""What the engine's processes say of themselves: that they are alive, and what they have counted.

Rows, since the broker may be gone just when one wants to know, and since the processes may be on
many machines. `processes.py` and `tally.py` write these.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7


class Process(models.Model):
    """A worker or a scheduler. One that ends takes its row away; one that is killed cannot."""

    class Kind(models.TextChoices):
        WORKER = "worker", "Worker"
        SCHEDULER = "scheduler", "Scheduler"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=16, choices=Kind)
    name = models.CharField(max_length=100, help_text="Host and process number.")
    queues = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    running = models.PositiveIntegerField(default=0, help_text="Steps that it was running.")
    started_at = models.DateTimeField(db_default=Now(), editable=False)
    beat_at = models.DateTimeField(db_default=Now(), help_text="When it was last alive.")

    class Meta:
        ordering = ["kind", "name"]
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.name}"


class Metric(models.Model):
    """A number that all processes of all machines count up together, for `/metrics`."""

    name = models.CharField(max_length=100)
    labels = models.JSONField(default=dict)
    value = models.FloatField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "labels"], name="metric_series")]

    def __str__(self) -> str:
        return self.name
