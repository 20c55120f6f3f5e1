import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from payments.models import PaymentSite
from payments.site_files import InvalidFile, import_sites


class Command(BaseCommand):
    help = (
        "Sets up portals, card pages and redeeming shops as a file describes them: one site, or "
        '{"sites": [...]}. The whole file is checked first: if anything in it is wrong, nothing is '
        "written."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="The JSON file, or - for what is piped in.")
        parser.add_argument(
            "--kind", choices=PaymentSite.Kind.values, help="Of a site that does not say it."
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Check the file and say what would change."
        )

    def handle(
        self, *args: Any, file: str, kind: str | None, dry_run: bool, **options: Any
    ) -> None:
        try:
            imported = import_sites(_load(file), kind=kind, dry_run=dry_run)
        except InvalidFile as error:
            for problem in error.problems:
                self.stderr.write(problem)
            raise CommandError(
                f"Nothing was written: {len(error.problems)} things to correct in {file}."
            ) from error
        for verb, names in (
            ("new", imported.created),
            ("changed", imported.changed),
            ("as it was", imported.unchanged),
        ):
            for name in names:
                self.stdout.write(f"{verb}: {name}")
        if dry_run:
            self.stdout.write("Nothing was written: this was a dry run.")


def _load(file: str) -> Any:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"{file} is no JSON: {error}. Nothing was written.") from error
