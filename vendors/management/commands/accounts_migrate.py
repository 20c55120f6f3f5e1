import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from vendors import pool
from vendors.errors import MigrationRefused
from vendors.management.choosing import add_choosing_arguments, choose_accounts
from vendors.migration import start_migration
from vendors.migration_plan import plan_migration
from vendors.migration_undo import undo_migration
from vendors.models import AccountMigration, VendorAccount

BY = "accounts_migrate"
REFUSED = 3


class Command(BaseCommand):
    help = (
        "Moves what stands in blocked accounts' carts to another account: jobs add the items there "
        "and see them. With --undo, takes a migration back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_choosing_arguments(parser)
        parser.add_argument("--to", metavar="EMAIL", help="The replacement; else one is chosen.")
        parser.add_argument("--undo", metavar="ID", type=uuid.UUID, help="The migration's id.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["undo"]:
            self._undo(options["undo"], dry_run=options["dry_run"])
            return
        accounts = choose_accounts(options).select_related("vendor").defer(*pool.SECRETS)
        if not options["email"]:
            accounts = accounts.filter(is_blocked=True)
        refused = 0
        for account in accounts:
            try:
                self._migrate(account, options["to"], dry_run=options["dry_run"])
            except MigrationRefused as error:
                refused += 1
                self.stderr.write(f"{account}: {error}")
        if refused:
            raise CommandError(f"{refused} accounts were left as they are.", returncode=REFUSED)

    def _migrate(self, account: VendorAccount, to: str | None, *, dry_run: bool) -> None:
        new = _find_replacement(account, to)
        if dry_run:
            plan = plan_migration(account, new)
            left = f" Left where they are: {plan.describe_left()}." if plan.left else ""
            self.stdout.write(
                f"{len(plan.lines)} lines of {account} would be moved to {plan.new}.{left}"
            )
            return
        begun = start_migration(account.pk, new.pk if new else None, by=BY)
        self.stdout.write(
            f"{len(begun.migrated_items)} lines of {account} are being moved to "
            f"{begun.new_account}: migration {begun.pk}."
        )

    def _undo(self, migration_id: uuid.UUID, *, dry_run: bool) -> None:
        migrations = AccountMigration.objects.with_counts()
        found = migrations.select_related("old_account", "new_account").filter(pk=migration_id)
        migration = found.first()
        if migration is None:
            raise CommandError(f"No migration has the id {migration_id}.")
        if dry_run:
            stopped = migration.pending + migration.failed
            self.stdout.write(
                f"At most {migration.moved} lines would be {migration.old_account}'s again, and "
                f"{stopped} not be moved any more."
            )
            return
        undone = undo_migration(migration_id, by=BY)
        self.stdout.write(
            f"{undone.restored} lines are {migration.old_account}'s again, and {undone.stopped} "
            "are not moved any more."
        )
        for name, reason in undone.kept:
            self.stdout.write(f"{name} stays: {reason}.")
        self.stdout.write(undone.describe_cart())


def _find_replacement(account: VendorAccount, email: str | None) -> VendorAccount | None:
    if email is None:
        return None
    found = VendorAccount.objects.filter(vendor=account.vendor_id, email=email).first()
    if found is None:
        raise CommandError(f"{account.vendor} has no account with the e-mail {email}.")
    return found
