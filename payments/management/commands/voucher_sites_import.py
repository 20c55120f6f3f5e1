from typing import Any

from django.core.management.base import CommandParser

from payments.models import PaymentSite
from payments.site_files import import_sites
from vendors.exchange import Imported
from vendors.management.import_command import ImportCommand


class Command(ImportCommand):
    help = (
        "Sets up portals, card pages and redeeming shops as a file describes them: one site, or "
        '{"sites": [...]}. The whole file is checked first: if anything in it is wrong, nothing is '
        "written."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--kind", choices=PaymentSite.Kind.values, help="Of a site that does not say it."
        )

    def write(self, data: Any, *, dry_run: bool, **options: Any) -> Imported:
        return import_sites(data, kind=options["kind"], dry_run=dry_run)

    def tell(self, imported: Imported, *, dry_run: bool) -> None:
        self.list_rows("new", imported.created)
        self.list_rows("changed", imported.changed)
        self.list_rows("as it was", imported.unchanged)
        if dry_run:
            self.stdout.write("Nothing was written: this was a dry run.")
