import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from accounts.models import User


class Command(BaseCommand):
    help = "Make an admin, or give an existing user a new password. It is shown once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="The user name to log in with.")
        parser.add_argument("--quiet", action="store_true", help="Print the password alone.")

    @transaction.atomic
    def handle(self, *args: Any, name: str, quiet: bool, **options: Any) -> None:
        password = secrets.token_urlsafe(12)
        user, _ = User.objects.get_or_create(username=name)
        user.is_staff = user.is_superuser = user.is_active = True
        user.set_password(password)
        user.save()
        self.stdout.write(password if quiet else f"Log in as {name} with the password {password}")
