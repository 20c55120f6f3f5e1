"""Limits of flow keys. Who writes them: the verbs in `flow.py`, and the claim, which keeps
`starts`.

A flow key names what steps have in common: "workflow:cart_add", "vendor:<id>", "account:<id>".
There is a row only while the key is limited or paused, so that what nobody limits costs the claim
nothing.
"""

from __future__ import annotations

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

KEY_LENGTH = 200
MOST_RATE = 1000  # each start rewrites the list of so many times: 8 kB
LONGEST_PERIOD = 31 * 24 * 3600  # seconds

FLOW_KEY = r"^[a-z_]+:[^\s/]+\Z"
is_flow_key = RegexValidator(
    FLOW_KEY, 'A flow key is a kind and a name, such as "workflow:cart_add".'
)


class FlowLimit(models.Model):
    """What holds for the steps of one flow key together. A blank number is no limit."""

    key = models.CharField(
        primary_key=True,
        max_length=KEY_LENGTH,
        validators=[is_flow_key],
        help_text="workflow:NAME, vendor:ID or account:ID.",
    )
    concurrency = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="At most so many of its steps run at once.",
    )
    rate = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_RATE)],
        help_text="At most so many of its steps start in each period.",
    )
    period_seconds = models.PositiveIntegerField(
        default=60,
        validators=[MinValueValidator(1), MaxValueValidator(LONGEST_PERIOD)],
        help_text="The period of the rate, in seconds. It slides: any so many seconds count.",
    )
    starts = ArrayField(
        models.DateTimeField(),
        default=list,
        editable=False,
        help_text="The newest starts, as many as the rate allows; oldest first.",
    )

    paused_at = models.DateTimeField(null=True, editable=False)
    paused_by = models.CharField(max_length=150, blank=True, editable=False)
    pause_reason = models.CharField(max_length=300, blank=True, editable=False)
    changed_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["key"]
        constraints = [
            models.CheckConstraint(
                name="flow_limit_numbers",
                condition=(
                    (models.Q(concurrency__isnull=True) | models.Q(concurrency__gte=1))
                    & (models.Q(rate__isnull=True) | models.Q(rate__range=(1, MOST_RATE)))
                    & models.Q(period_seconds__range=(1, LONGEST_PERIOD))
                ),
            )
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def period(self) -> timedelta:
        return timedelta(seconds=self.period_seconds)
