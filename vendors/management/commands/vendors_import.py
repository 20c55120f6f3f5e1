import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from vendors.exchange import InvalidFile, import_vendors


class Command(BaseCommand):
    help = (
        "Creates and changes vendors and accounts as a file of vendors_export says. The whole file "
        "is checked first: if anything in it is wrong, nothing is written."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="The JSON file, or - for what is piped in.")
        parser.add_argument(
            "--dry-run", action="store_true", help="Check the file and say what would change."
        )

    def handle(self, *args: Any, file: str, dry_run: bool, **options: Any) -> None:
        try:
            imported = import_vendors(_load(file), dry_run=dry_run)
        except InvalidFile as error:
            for problem in error.problems:
                self.stderr.write(problem)
            raise CommandError(
                f"Nothing was written: {len(error.problems)} things to correct in {file}."
            ) from error
        for verb, names in (("new", imported.created), ("changed", imported.changed)):
            for name in names:
                self.stdout.write(f"{verb}: {name}")
        did = "would be " if dry_run else ""
        self.stdout.write(
            f"{len(imported.created)} {did}created, {len(imported.changed)} {did}changed, "
            f"{imported.unchanged} as they were."
        )


def _load(file: str) -> Any:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"{file} is no JSON: {error}. Nothing was written.") from error
