"""What cart_retry and cart_manual share: commands for many items of the queue."""

import uuid
from collections.abc import Collection
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from jobs.bulk import Applied
from jobs.management.bulk_command import BulkCommand
from vendors import queue_bulk
from vendors.models import QueueItem, Vendor
from vendors.queue_bulk import Action, ItemFilter


class QueueCommand(BulkCommand):
    action: ClassVar[Action]
    noun = "item"
    possible, meant = queue_bulk.POSSIBLE, queue_bulk.MEANT
    where_ids_are = "What is archived can only be looked at."
    filters = "--vendor, --status, --error-code, --created-after or --created-before"

    def add_filters(self, parser: CommandParser) -> None:
        parser.add_argument("--vendor", default="", help="Items of this vendor: its domain or id.")

    def make_filter(self, options: dict[str, Any]) -> ItemFilter:
        return ItemFilter(
            status=options["status"],
            vendor_id=_find_vendor(options["vendor"]),
            error_code=options["error_code"],
            date_from=options["created_after"],
            date_to=options["created_before"],
        )

    def find(self, wanted: ItemFilter) -> QuerySet[QueueItem]:
        return wanted.items(self.action).select_related("vendor")

    def find_named(self, ids: Collection[uuid.UUID]) -> QuerySet[QueueItem]:
        return QueueItem.objects.filter(pk__in=ids).select_related("vendor")

    def describe(self, row: QueueItem) -> str:
        return f"{row.vendor}  {row}"

    def apply(self, rows: QuerySet[QueueItem], by: str, options: dict[str, Any]) -> Applied:
        return queue_bulk.apply(self.action, rows, by=by, reason=options.get("reason") or "")


def _find_vendor(named: str) -> uuid.UUID | None:
    if not named:
        return None
    vendor = Vendor.objects.filter(domain=named).first()
    if vendor is None:
        try:
            vendor = Vendor.objects.filter(pk=uuid.UUID(named)).first()
        except ValueError:
            vendor = None
    if vendor is None:
        raise CommandError(f"No vendor has the domain or the id {named!r}. Nothing was changed.")
    return vendor.pk
