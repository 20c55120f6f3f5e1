import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import flow
from jobs.errors import InvalidLimit


class Command(BaseCommand):
    help = "Pause a workflow, a vendor or an account: none of its steps starts until flow_resume."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", help="workflow:NAME, vendor:ID or account:ID")
        parser.add_argument("--reason", default="", help="Why; shown with each job that waits.")
        parser.add_argument("--by", default=None, help="Who; else the user of this system.")

    def handle(self, *args: Any, key: str, reason: str, by: str | None, **options: Any) -> None:
        try:
            flow.pause(key, by=by or getpass.getuser(), reason=reason)
        except InvalidLimit as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{key} is paused. Go on with: flow_resume {key}")
