import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import flow


class Command(BaseCommand):
    help = "Resume a workflow, a vendor or an account that was paused."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", help="workflow:NAME, vendor:ID or account:ID")
        parser.add_argument("--by", default=None, help="Who; else the user of this system.")

    def handle(self, *args: Any, key: str, by: str | None, **options: Any) -> None:
        waiting = flow.count_held(key)
        if not flow.resume(key, by=by or getpass.getuser()):
            raise CommandError(f"{key} is not paused; the page “Limits and pauses” shows what is.")
        steps = "1 step" if waiting == 1 else f"{waiting} steps"
        self.stdout.write(f"{key} goes on; {steps} waited for it.")
