from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from vendors import pool
from vendors.cart_lines import warn_of_moved
from vendors.management.choosing import add_choosing_arguments, choose_accounts


class Command(BaseCommand):
    help = (
        "Lets accounts that were set aside be used again; what waits for one goes on. Try their "
        "log-in first with accounts_check."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_choosing_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="Only say which they are.")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        blocked = choose_accounts(options).filter(is_blocked=True).select_related("vendor")
        for account in blocked:
            self.stdout.write(f"{account} at {account.vendor}: {account.blocked_reason}")
            if warning := warn_of_moved(account):
                self.stdout.write(warning)
        if dry_run:
            self.stdout.write(f"{blocked.count()} accounts to unblock.")
            return
        self.stdout.write(f"{pool.unblock(blocked)} accounts unblocked.")
