"""Putting away queue items that ended long ago (PRD, section 10.4), so that the queue stays small.

As `jobs/archive.py`: a batch is one short transaction that passes over what others have locked.
What a person still has to do is never put away. The lines in the carts stay.
"""

from collections.abc import Iterator
from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError
from django.db.models.functions import Now

from jobs.archive import register_archive
from vendors.models import ArchivedQueueItem, QueueItem

log = structlog.get_logger(__name__)

BATCH = 500  # rows of a few hundred bytes: a transaction of some 50 ms
ENDED = (QueueItem.Status.COMPLETED, QueueItem.Status.FAILED)
KEPT = (
    "id",
    "user_id",
    "vendor_id",
    "product_url",
    "product_name",
    "product_data",
    "status",
    "attempts",
    "error_message",
    "error_code",
    "created_by_id",
    "created_at",
    "updated_at",
    "completed_at",
)


def old_items(age: timedelta) -> QuerySet[QueueItem]:
    """Those that ended longer ago than `age`: an ended item's last change is its end. The archive's
    record of a job tells of its item, so the item goes after its job, which keeps its id."""
    return QueueItem.objects.filter(status__in=ENDED, updated_at__lt=Now() - age, job=None)


def archive_all(age: timedelta) -> Iterator[int]:
    """Batch after batch; how many each has put away. One that would put away none is the last."""
    while archived := archive_batch(age):
        yield archived


def archive_batch(age: timedelta) -> int:
    """Moves up to BATCH items to the archive, those first that ended first; how many."""
    with transaction.atomic():
        rows = (
            old_items(age).order_by("updated_at").select_for_update(skip_locked=True, of=("self",))
        )
        found = list(
            rows.select_related("vendor", "assigned_account").defer(
                "vendor__selectors", "assigned_account__password", "assigned_account__session_data"
            )[:BATCH]
        )
        return _move(found) if found else 0


def _move(items: list[QueueItem]) -> int:
    """What refuses to let go of its item keeps it, and only it."""
    try:
        with transaction.atomic():
            ArchivedQueueItem.objects.bulk_create(map(_record, items), ignore_conflicts=True)
            QueueItem.objects.filter(pk__in=[item.pk for item in items]).delete()
    except (ProtectedError, RestrictedError) as error:
        if len(items) == 1:
            log.warning("item_not_archived", item=str(items[0].pk), error=str(error.args[0]))
            return 0
        return sum(_move([item]) for item in items)
    return len(items)


def _record(item: QueueItem) -> ArchivedQueueItem:
    account = item.assigned_account
    return ArchivedQueueItem(
        **{name: getattr(item, name) for name in KEPT},
        vendor_name=item.vendor.name,
        account_email=account.email if account else "",
    )


register_archive(archive_batch)
