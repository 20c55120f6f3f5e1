from django.core.management.base import CommandParser

from jobs.bulk import Action
from jobs.management.bulk_command import JobsCommand


class Command(JobsCommand):
    help = "Cancel jobs, by their ids or by a filter."
    action = Action.CANCEL
    imperative = "Cancel"
    participle = "cancelled"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", help="Why; shown with each job.")
