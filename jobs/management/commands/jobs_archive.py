from argparse import ArgumentTypeError
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from jobs.archive import Plan, archive_all, plan_archive


class Command(BaseCommand):
    help = (
        "Moves jobs that finished RETENTION_DAYS ago to the archive, deletes their evidence and "
        "whatever evidence has expired. The scheduler does it every day by itself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say how much there is.")
        parser.add_argument(
            "--days",
            type=_days,
            default=settings.RETENTION_DAYS,
            help="Instead of RETENTION_DAYS (%(default)s).",
        )

    def handle(self, *args: Any, dry_run: bool, days: int, **options: Any) -> None:
        age = timedelta(days=days)
        if dry_run:
            self.stdout.write(_described(plan_archive(age)))
            return
        jobs = artifacts = 0
        for batch in archive_all(age):
            jobs += batch.jobs
            artifacts += batch.artifacts
            if options["verbosity"] > 1:
                self.stdout.write(f"{jobs} jobs so far")
        self.stdout.write(f"{jobs} jobs archived, {artifacts} pieces of evidence deleted")


def _days(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"--days is a whole number from 0, not {text!r}.")
    return int(text)


def _described(plan: Plan) -> str:
    return (
        f"{sum(plan.jobs.values())} jobs to archive{_by_status(plan.jobs)} with {plan.steps} steps "
        f"and {plan.events} events; {plan.artifacts} pieces of evidence to delete"
    )


def _by_status(jobs: Mapping[str, int]) -> str:
    parts = ", ".join(f"{count} {status}" for status, count in sorted(jobs.items()))
    return f" ({parts})" if parts else ""
