"""What the audit trail says, for the tests of every room."""

from typing import Any

from auditlog.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models


def entries(row: models.Model | type[models.Model] | None = None) -> list[LogEntry]:
    """Those of the row or of its table, or all of them; the oldest first."""
    found = LogEntry.objects.order_by("id")
    if row is not None:
        found = found.filter(content_type=ContentType.objects.get_for_model(row))
    if isinstance(row, models.Model):
        found = found.filter(object_pk=str(row.pk))
    return list(found)


def acts(row: models.Model | type[models.Model] | None = None) -> list[str]:
    return [entry.additional_data["act"] for entry in entries(row)]


def facts(entry: LogEntry) -> dict[str, Any]:
    return entry.additional_data.get("facts", {})


def trail_holds(text: str) -> bool:
    """Whether any column of any entry has it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM auditlog_logentry entry WHERE strpos(entry::text, %s) > 0", [text]
        )
        return cursor.fetchone()[0] > 0
