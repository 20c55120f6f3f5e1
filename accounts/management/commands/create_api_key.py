from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts.models import ApiKey, User


class Command(BaseCommand):
    help = "Make an API key for a service (ERPNext, say). Its secret is shown once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="Who will call with it; also the service user's name.")
        parser.add_argument(
            "--admin", action="store_true", help="May manage vendors and accounts as well."
        )
        parser.add_argument(
            "--replace", action="store_true", help="Revoke the service's earlier keys."
        )
        parser.add_argument(
            "--quiet", action="store_true", help="Print KEY:SECRET alone, for scripts."
        )

    @transaction.atomic
    def handle(
        self, *args: Any, name: str, admin: bool, replace: bool, quiet: bool, **options: Any
    ) -> None:
        user, made = User.objects.get_or_create(username=name)
        if made:
            user.set_unusable_password()
        elif user.has_usable_password():
            raise CommandError(f"{name} is a person who can log in; name the service otherwise.")
        if admin and not user.is_staff:
            user.is_staff = True
        user.save()
        if replace:
            ApiKey.revoke(user.api_keys.all())
        api_key, secret = ApiKey.issue(user, name)
        if quiet:
            self.stdout.write(f"{api_key.key}:{secret}")
            return
        role = "admin" if user.is_staff else "requests only"
        self.stdout.write(f"API key for {name} ({role}). The secret is not shown again.\n")
        self.stdout.write(f"  Authorization: token {api_key.key}:{secret}")
