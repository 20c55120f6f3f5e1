from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from accounts import audit


class Command(BaseCommand):
    help = (
        "Deletes the entries of the audit trail that are older than AUDIT_DAYS. The scheduler does "
        "it every day by itself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say how many there are.")
        parser.add_argument(
            "--days",
            type=_days,
            default=settings.AUDIT_DAYS,
            help="Instead of AUDIT_DAYS (%(default)s).",
        )

    def handle(self, *args: Any, dry_run: bool, days: int, **options: Any) -> None:
        age = timedelta(days=days)
        if dry_run:
            self.stdout.write(f"{audit.old_entries(age).count()} entries to delete")
            return
        self.stdout.write(f"{audit.delete_old_entries(age)} entries deleted")


def _days(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"--days is a whole number from 1, not {text!r}.")
    return int(text)
