"""What jobs_cancel, jobs_retry and jobs_resume share: which jobs, how many, are you sure.

Exit codes: 0 all done (or nothing to do), 1 a mistake in what was asked, 3 some jobs were skipped.
"""

import getpass
import json
import uuid
from argparse import ArgumentTypeError
from datetime import datetime
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from jobs import bulk
from jobs.bulk import Action, JobFilter
from jobs.errors import InvalidFilter
from jobs.models import Job, Status

SOME_SKIPPED = 3
SHOWN = 5


class BulkCommand(BaseCommand):
    """A subclass says what is done, and how that is said: "Cancel 3 jobs?", "3 jobs cancelled"."""

    action: ClassVar[Action]
    imperative: ClassVar[str]
    participle: ClassVar[str]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", nargs="*", type=uuid.UUID, help="The id of a job; any number.")
        parser.add_argument("--workflow", default="", help="Jobs of this workflow.")
        parser.add_argument(
            "--status",
            action="append",
            default=[],
            choices=sorted(bulk.POSSIBLE[self.action]),
            help="Jobs of this status; may be given several times. "
            f"Without it: {', '.join(sorted(bulk.MEANT[self.action]))}.",
        )
        parser.add_argument("--error-code", default="", help="Jobs that ended with this error.")
        parser.add_argument(
            "--created-after", type=moment, metavar="TIME", help="2026-11-21 or 2026-11-21T09:30Z."
        )
        parser.add_argument("--created-before", type=moment, metavar="TIME")
        parser.add_argument(
            "--param",
            action="append",
            default=[],
            type=parameter,
            metavar="NAME=VALUE",
            help="Jobs whose parameters have this, such as vendor=ID; may be given several times.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say how many and which come first."
        )
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        jobs = self._find(options)
        count = jobs.count()
        self._list(jobs, count)
        if count == 0 or options["dry_run"]:
            return
        if not (options["yes"] or options["job"]):
            self._ask(count)
        applied = bulk.apply(
            self.action,
            jobs,
            by=f"{getpass.getuser()} on the command line",
            reason=options.get("reason") or "",
            from_step=options.get("from_step"),
        )
        self.stdout.write(f"{counted(applied.done)} {self.participle}.")
        if not applied.skipped:
            return
        for skipped in applied.examples:
            self.stderr.write(f"{skipped.job_id}: {skipped.sentence}")
        raise CommandError(f"{counted(applied.skipped)} skipped.", returncode=SOME_SKIPPED)

    def _find(self, options: dict[str, Any]) -> QuerySet[Job]:
        job_filter = JobFilter(
            workflow=options["workflow"],
            status=[Status(status) for status in options["status"]],
            error_code=options["error_code"],
            created_after=options["created_after"],
            created_before=options["created_before"],
            params=dict(options["param"]),
        )
        if options["job"]:
            if not job_filter.is_empty:
                raise CommandError("Name jobs by their ids or by a filter, not by both.")
            return self._named(options["job"])
        try:
            return job_filter.jobs(self.action, Job.objects.all())
        except InvalidFilter as error:
            raise CommandError(
                f"{error} Name jobs by their ids, or use --workflow, --status, --error-code, "
                "--created-after, --created-before or --param."
            ) from error

    def _named(self, ids: list[uuid.UUID]) -> QuerySet[Job]:
        """Whatever they are: what cannot be done with them is said."""
        jobs = Job.objects.filter(pk__in=ids)
        if unknown := set(ids) - set(jobs.values_list("pk", flat=True)):
            raise CommandError(
                f"No job has the id {', '.join(map(str, sorted(unknown)))}. A job's page has it in "
                "its address; what is archived can only be looked at."
            )
        return jobs

    def _list(self, jobs: QuerySet[Job], count: int) -> None:
        self.stdout.write(f"{self.imperative}: {counted(count)}.")
        for job in jobs.order_by("pk")[:SHOWN]:
            self.stdout.write(f"  {job.pk}  {job.get_status_display()}  {job.workflow}  {job}")
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
    return "1 job" if count == 1 else f"{count:,} jobs"


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
