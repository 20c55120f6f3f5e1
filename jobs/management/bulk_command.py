"""What commands share that do something to many rows: which ones, how many, are you sure.

Exit codes: 0 all done (or nothing to do), 1 a mistake in what was asked, 3 some were skipped.
"""

import getpass
import json
import uuid
from abc import ABC, abstractmethod
from argparse import ArgumentTypeError
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from jobs import bulk
from jobs.bulk import Action, Applied, JobFilter
from jobs.errors import InvalidFilter
from jobs.models import Job, Status

SOME_SKIPPED = 3
SHOWN = 5


class BulkCommand(BaseCommand, ABC):
    """Whose rows and which action, a subclass says; and how that is said: "Cancel 3 jobs?",
    "3 jobs cancelled"."""

    action: ClassVar[Any]
    imperative: ClassVar[str]
    participle: ClassVar[str]
    noun: ClassVar[str]  # and the name of the argument that takes ids
    possible: ClassVar[Mapping[Any, Collection[str]]]  # statuses, by action
    meant: ClassVar[Mapping[Any, Collection[str]]]
    where_ids_are: ClassVar[str]  # for who has given an unknown one
    filters: ClassVar[str]  # the options, in words

    @abstractmethod
    def add_filters(self, parser: CommandParser) -> None:
        """Options that no other rows have."""

    @abstractmethod
    def make_filter(self, options: dict[str, Any]) -> Any:
        """Something with `is_empty`."""

    @abstractmethod
    def find(self, wanted: Any) -> QuerySet[Any]:
        """The rows that the filter means. Raises InvalidFilter."""

    @abstractmethod
    def find_named(self, ids: Collection[uuid.UUID]) -> QuerySet[Any]: ...

    @abstractmethod
    def describe(self, row: Any) -> str: ...

    @abstractmethod
    def apply(self, rows: QuerySet[Any], by: str, options: dict[str, Any]) -> Applied: ...

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            self.noun, nargs="*", type=uuid.UUID, help=f"The id of a {self.noun}; any number."
        )
        parser.add_argument(
            "--status",
            action="append",
            default=[],
            choices=sorted(self.possible[self.action]),
            help=f"Of this status; may be given several times. "
            f"Without it: {', '.join(sorted(self.meant[self.action]))}.",
        )
        parser.add_argument("--error-code", default="", help="Those that ended with this error.")
        parser.add_argument(
            "--created-after", type=moment, metavar="TIME", help="2026-11-21 or 2026-11-21T09:30Z."
        )
        parser.add_argument("--created-before", type=moment, metavar="TIME")
        self.add_filters(parser)
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say how many and which come first."
        )
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = self._find(options)
        count = rows.count()
        self._list(rows, count)
        if count == 0 or options["dry_run"]:
            return
        if not (options["yes"] or options[self.noun]):
            self._ask(count)
        applied = self.apply(rows, f"{getpass.getuser()} on the command line", options)
        self.stdout.write(f"{self._counted(applied.done)} {self.participle}.")
        if not applied.skipped:
            return
        for skipped in applied.examples:
            self.stderr.write(f"{skipped.id}: {skipped.sentence}")
        raise CommandError(f"{self._counted(applied.skipped)} skipped.", returncode=SOME_SKIPPED)

    def _find(self, options: dict[str, Any]) -> QuerySet[Any]:
        wanted = self.make_filter(options)
        if ids := options[self.noun]:
            if not wanted.is_empty:
                raise CommandError(f"Name {self.noun}s by their ids or by a filter, not by both.")
            return self._named(ids)
        try:
            return self.find(wanted)
        except InvalidFilter as error:
            raise CommandError(
                f"{error} Name {self.noun}s by their ids, or use {self.filters}."
            ) from error

    def _named(self, ids: Collection[uuid.UUID]) -> QuerySet[Any]:
        """Whatever they are: what cannot be done with them is said."""
        rows = self.find_named(ids)
        if unknown := set(ids) - set(rows.values_list("pk", flat=True)):
            raise CommandError(
                f"No {self.noun} has the id {', '.join(map(str, sorted(unknown)))}. "
                f"{self.where_ids_are}"
            )
        return rows

    def _list(self, rows: QuerySet[Any], count: int) -> None:
        self.stdout.write(f"{self.imperative}: {self._counted(count)}.")
        for row in rows.order_by("pk")[:SHOWN]:
            self.stdout.write(f"  {row.pk}  {row.get_status_display()}  {self.describe(row)}")
        if count > SHOWN:
            self.stdout.write(f"  and {count - SHOWN:,} more")

    def _ask(self, count: int) -> None:
        try:
            answer = input(f"{self.imperative} {self._counted(count)}? [y/N] ")
        except EOFError:
            raise CommandError("Nobody to ask; add --yes. Nothing was changed.") from None
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was changed.")

    def _counted(self, count: int) -> str:
        return f"1 {self.noun}" if count == 1 else f"{count:,} {self.noun}s"


class JobsCommand(BulkCommand):
    action: ClassVar[Action]
    noun = "job"
    possible, meant = bulk.POSSIBLE, bulk.MEANT
    where_ids_are = "A job's page has it in its address; what is archived can only be looked at."
    filters = "--workflow, --status, --error-code, --created-after, --created-before or --param"

    def add_filters(self, parser: CommandParser) -> None:
        parser.add_argument("--workflow", default="", help="Jobs of this workflow.")
        parser.add_argument(
            "--param",
            action="append",
            default=[],
            type=parameter,
            metavar="NAME=VALUE",
            help="Jobs whose parameters have this, such as vendor=ID; may be given several times.",
        )

    def make_filter(self, options: dict[str, Any]) -> JobFilter:
        return JobFilter(
            workflow=options["workflow"],
            status=[Status(status) for status in options["status"]],
            error_code=options["error_code"],
            created_after=options["created_after"],
            created_before=options["created_before"],
            params=dict(options["param"]),
        )

    def find(self, wanted: JobFilter) -> QuerySet[Job]:
        return wanted.jobs(self.action, Job.objects.all())

    def find_named(self, ids: Collection[uuid.UUID]) -> QuerySet[Job]:
        return Job.objects.filter(pk__in=ids)

    def describe(self, row: Job) -> str:
        return f"{row.workflow}  {row}"

    def apply(self, rows: QuerySet[Job], by: str, options: dict[str, Any]) -> Applied:
        reason = options.get("reason") or ""
        return bulk.apply(
            self.action, rows, by=by, reason=reason, from_step=options.get("from_step")
        )


def moment(text: str) -> datetime:
    try:
        time = parse_datetime(text)
        if time is None and (day := parse_date(text)):
            time = datetime(day.year, day.month, day.day)  # noqa: DTZ001  made aware below
    except ValueError:
        time = None
    if time is None:
        raise ArgumentTypeError(f"{text!r} is no time; write 2026-11-21 or 2026-11-21T09:30Z")
    return timezone.make_aware(time) if timezone.is_naive(time) else time


def parameter(text: str) -> tuple[str, Any]:
    """`n=3` is a number and `vendor=abc` a text, as in the parameters' JSON; `n="3"` is a text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        parsed = json.loads(value)
    except ValueError:
        return name, value
    if isinstance(parsed, dict | list):
        raise ArgumentTypeError(f"{name} must be a text, a number, true, false or null")
    return name, parsed
