"""What cart_retry and cart_manual share: which items, how many, are you sure.

Exit codes: 0 all done (or nothing to do), 1 a mistake in what was asked, 3 some items were skipped.
"""

import getpass
import uuid
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from jobs.management.bulk_command import SHOWN, SOME_SKIPPED, moment
from vendors import queue_bulk
from vendors.errors import InvalidFilter
from vendors.models import QueueItem, Vendor
from vendors.queue_bulk import Action, ItemFilter


class QueueCommand(BaseCommand):
    """A subclass says what is done, and how that is said: "Retry 3 items?", "3 items retried"."""

    action: ClassVar[Action]
    imperative: ClassVar[str]
    participle: ClassVar[str]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "item", nargs="*", type=uuid.UUID, help="A queue item's id; any number."
        )
        parser.add_argument("--vendor", default="", help="Items of this vendor: its domain or id.")
        parser.add_argument(
            "--status",
            action="append",
            default=[],
            choices=sorted(queue_bulk.POSSIBLE[self.action]),
            help="Items of this status; may be given several times. "
            f"Without it: {', '.join(sorted(queue_bulk.MEANT[self.action]))}.",
        )
        parser.add_argument("--error-code", default="", help="Items with this error.")
        parser.add_argument(
            "--created-after", type=moment, metavar="TIME", help="2026-11-21 or 2026-11-21T09:30Z."
        )
        parser.add_argument("--created-before", type=moment, metavar="TIME")
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say how many and which come first."
        )
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        items = self._find(options)
        count = items.count()
        self._list(items, count)
        if count == 0 or options["dry_run"]:
            return
        if not (options["yes"] or options["item"]):
            self._ask(count)
        applied = queue_bulk.apply(
            self.action,
            items,
            by=f"{getpass.getuser()} on the command line",
            reason=options.get("reason") or "",
        )
        self.stdout.write(f"{counted(applied.done)} {self.participle}.")
        if not applied.skipped:
            return
        for skipped in applied.examples:
            self.stderr.write(f"{skipped.item_id}: {skipped.sentence}")
        raise CommandError(f"{counted(applied.skipped)} skipped.", returncode=SOME_SKIPPED)

    def _find(self, options: dict[str, Any]) -> QuerySet[QueueItem]:
        wanted = ItemFilter(
            status=options["status"],
            vendor_id=_find_vendor(options["vendor"]),
            error_code=options["error_code"],
            date_from=options["created_after"],
            date_to=options["created_before"],
        )
        if options["item"]:
            if not wanted.is_empty:
                raise CommandError("Name items by their ids or by a filter, not by both.")
            return _named(options["item"])
        try:
            return wanted.items(self.action)
        except InvalidFilter as error:
            raise CommandError(
                f"{error} Name items by their ids, or use --vendor, --status, --error-code, "
                "--created-after or --created-before."
            ) from error

    def _list(self, items: QuerySet[QueueItem], count: int) -> None:
        self.stdout.write(f"{self.imperative}: {counted(count)}.")
        for item in items.select_related("vendor").order_by("pk")[:SHOWN]:
            self.stdout.write(f"  {item.pk}  {item.get_status_display()}  {item.vendor}  {item}")
        if count > SHOWN:
            self.stdout.write(f"  and {count - SHOWN:,} more")

    def _ask(self, count: int) -> None:
        try:
            answer = input(f"{self.imperative} {counted(count)}? [y/N] ")
        except EOFError:
            raise CommandError("Nobody to ask; add --yes. Nothing was changed.") from None
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was changed.")


def counted(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"


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


def _named(ids: list[uuid.UUID]) -> QuerySet[QueueItem]:
    """Whatever they are: what cannot be done with them is said."""
    items = QueueItem.objects.filter(pk__in=ids)
    if unknown := set(ids) - set(items.values_list("pk", flat=True)):
        raise CommandError(
            f"No item of the queue has the id {', '.join(map(str, sorted(unknown)))}. What is "
            "archived can only be looked at."
        )
    return items
