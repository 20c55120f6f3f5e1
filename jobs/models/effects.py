"""Acts that must not happen twice, each under a key of its own. `effects.py` writes these."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.models import Workspace
from jobs.models.engine import FINISHED, Job, Step
from jobs.models.engine import Status as JobStatus
from jobs.models.transitions import only_transitions


class EffectQuerySet(models.QuerySet["Effect"]):
    def for_people(self) -> EffectQuerySet:
        """Those of which a person has to say whether they took effect: what a look at the site
        could not tell, and what was begun by a job that has ended since, so that nobody looks."""
        at_work = Step.objects.filter(job=models.OuterRef("job"), status=JobStatus.RUNNING)
        left = Q(status=Effect.Status.INTENDED, job__status__in=FINISHED) & ~models.Exists(at_work)
        return self.filter(
            Q(status=Effect.Status.UNKNOWN) | left,
            status__in=[Effect.Status.INTENDED, Effect.Status.UNKNOWN],  # as the index has it
        )


class Effect(models.Model):
    """An intent that was committed before its act, and what is known of the act since. It outlives
    its job: a key is good for ever."""

    class Status(models.TextChoices):
        INTENDED = "intended", "Intended"
        CONFIRMED = "confirmed", "It happened"
        ABSENT = "absent", "It did not happen"
        UNKNOWN = "unknown", "Unknown: a person decides"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    job = models.ForeignKey(Job, null=True, on_delete=models.SET_NULL, related_name="effects")
    step = models.ForeignKey(Step, null=True, on_delete=models.SET_NULL, related_name="effects")
    key = models.CharField(max_length=200, help_text="What makes it the same act.")
    title = models.CharField(max_length=300, help_text="What is done, for people.")
    intent = models.JSONField(default=dict, help_text="What to look for afterwards. No secrets.")
    status = models.CharField(max_length=16, choices=Status, default=Status.INTENDED)
    result = models.JSONField(null=True)
    reason = models.CharField(max_length=500, blank=True, help_text="Why it is not known.")
    tries = models.PositiveSmallIntegerField(default=1, help_text="How often it was intended.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    settled_at = models.DateTimeField(null=True)
    settled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    objects = EffectQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "key"], name="effect_once"),
        ]
        indexes = [
            models.Index(
                fields=["workspace", "id"],
                condition=Q(status__in=["intended", "unknown"]),
                name="effect_open",
            )
        ]
        triggers = [
            only_transitions(
                "effect_status",
                [
                    ("intended", "confirmed"),
                    ("intended", "absent"),
                    ("intended", "unknown"),
                    ("unknown", "confirmed"),
                    ("unknown", "absent"),
                    ("absent", "intended"),
                ],
            )
        ]

    def __str__(self) -> str:
        return self.title
