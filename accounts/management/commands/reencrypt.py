from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.keyring import get_keyring
from accounts.reencrypt import BATCH, find_columns, reencrypt_column

SHOWN = 10


class Command(BaseCommand):
    help = (
        "Seals every secret in the database under the newest key: the first of CREDENTIAL_KEYS. "
        "Put the new key in front, restart all processes, run this, and take the old key away when "
        "it says that none is left. It may be stopped and run again at any time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say how many values have an older key."
        )
        parser.add_argument(
            "--batch",
            type=_size,
            default=BATCH,
            help="Values of one transaction (%(default)s).",
        )

    def handle(self, *args: Any, dry_run: bool, batch: int, **options: Any) -> None:
        self.stdout.write(f"The newest key is {get_keyring().sealing_key_id}.")
        problems: list[str] = []
        left = 0
        for model, column in find_columns():
            tally = reencrypt_column(model, column, batch=batch, dry_run=dry_run)
            left += tally.left
            problems += tally.problems
            done = "" if dry_run else f"{tally.done} sealed anew, "
            self.stdout.write(f"{tally.column}: {done}{tally.left} under older keys")
        for problem in problems[:SHOWN]:
            self.stderr.write(problem)
        if problems:
            raise CommandError(
                f"{left} values do not open, so they are as they were. Keep the old keys."
            )
        if not dry_run:
            self.stdout.write("No value is under an older key now: those keys can be taken away.")


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"--batch is a whole number from 1, not {text!r}.")
    return int(text)
