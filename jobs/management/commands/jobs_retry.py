from django.core.management.base import CommandParser

from jobs.bulk import Action
from jobs.management.bulk_command import JobsCommand


class Command(JobsCommand):
    help = (
        "Run ended jobs again, by their ids or by a filter; from the first step that is not done."
    )
    action = Action.RERUN
    imperative = "Run again"
    participle = "run again"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--from-step", metavar="NAME", help="Run again from this step instead.")
