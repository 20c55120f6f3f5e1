import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from vendors.exchange import export_vendors
from vendors.models import Vendor


class Command(BaseCommand):
    help = (
        "Writes vendors and their accounts as JSON, in the shape of the API. vendors_import reads "
        "it. Saved sessions are never written, passwords only with --with-passwords."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("domain", nargs="*", help="Only vendors of these domains.")
        parser.add_argument("--output", "-o", type=Path, help="A file instead of the terminal.")
        parser.add_argument(
            "--with-passwords",
            action="store_true",
            help="Write every account's password in the clear. Each is noted in the audit trail.",
        )

    @transaction.atomic
    def handle(
        self, *args: Any, domain: list[str], output: Path | None, with_passwords: bool, **_: Any
    ) -> None:
        vendors = Vendor.objects.order_by("domain")
        if domain:
            vendors = vendors.filter(domain__in=domain)
            if missing := set(domain) - set(vendors.values_list("domain", flat=True)):
                raise CommandError(f"No vendor has the domain {', '.join(sorted(missing))}.")
        if with_passwords:
            self.stderr.write(
                "Warning: what is written holds passwords in the clear. Keep it where only you can "
                "read it, and delete it when it has been imported."
            )
        data = export_vendors(vendors, passwords=with_passwords)
        text = json.dumps(data, indent=2, ensure_ascii=False)
        if output is None:
            self.stdout.write(text)
            return
        _write_privately(output, text)
        self.stderr.write(f"{len(data['vendors'])} vendors written to {output}.")


def _write_privately(path: Path, text: str) -> None:
    """Readable by its owner alone, from its first byte on and where the file was there already."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text + "\n")
