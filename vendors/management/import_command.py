"""What commands that write rows from a JSON file have in common: the file, a dry run, and what is
wrong with it, all of it before anything is written."""

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from vendors.exchange import Imported, InvalidFile


class ImportCommand(BaseCommand):
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="The JSON file, or - for what is piped in.")
        parser.add_argument(
            "--dry-run", action="store_true", help="Check the file and say what would change."
        )

    def handle(self, *args: Any, file: str, dry_run: bool, **options: Any) -> None:
        try:
            imported = self.write(_load(file), dry_run=dry_run, **options)
        except InvalidFile as error:
            for problem in error.problems:
                self.stderr.write(problem)
            raise CommandError(
                f"Nothing was written: {len(error.problems)} things to correct in {file}."
            ) from error
        self.tell(imported, dry_run=dry_run)

    def write(self, data: Any, *, dry_run: bool, **options: Any) -> Imported:
        """Writes all of the file's data or, if anything is wrong, nothing. Raises InvalidFile."""
        raise NotImplementedError

    def tell(self, imported: Imported, *, dry_run: bool) -> None:
        """Says what was written, or would be."""
        raise NotImplementedError

    def list_rows(self, verb: str, names: list[str]) -> None:
        for name in names:
            self.stdout.write(f"{verb}: {name}")


def _load(file: str) -> Any:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"{file} is no JSON: {error}. Nothing was written.") from error
