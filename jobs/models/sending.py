"""What rows that are sent somewhere have in common; `jobs/sending.py` sends them."""

from django.db import models
from django.db.models.functions import Now


class SentRow(models.Model):
    """A row that is sent when it is due, again and again until it is taken."""

    attempt = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    lease_expires_at = models.DateTimeField(
        null=True, help_text="A sender has it; another may take it then."
    )
    response_status = models.PositiveSmallIntegerField(null=True)
    response_body = models.CharField(max_length=1000, blank=True, help_text="Its beginning.")
    error = models.CharField(max_length=500, blank=True)
    history = models.JSONField(
        default=list,
        help_text="What came of its newest attempts, in order: "
        '[{"attempt", "at", "seconds", "status", "body", "error"}].',
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True
