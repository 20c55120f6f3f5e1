from typing import Any

from vendors.exchange import Imported, import_vendors
from vendors.management.import_command import ImportCommand


class Command(ImportCommand):
    help = (
        "Creates and changes vendors and accounts as a file of vendors_export says. The whole file "
        "is checked first: if anything in it is wrong, nothing is written."
    )

    def write(self, data: Any, *, dry_run: bool, **options: Any) -> Imported:
        return import_vendors(data, dry_run=dry_run)

    def tell(self, imported: Imported, *, dry_run: bool) -> None:
        self.list_rows("new", imported.created)
        self.list_rows("changed", imported.changed)
        did = "would be " if dry_run else ""
        self.stdout.write(
            f"{len(imported.created)} {did}created, {len(imported.changed)} {did}changed, "
            f"{len(imported.unchanged)} as they were."
        )
