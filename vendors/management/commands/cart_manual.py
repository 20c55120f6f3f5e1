from django.core.management.base import CommandParser

from vendors.management.queue_command import QueueCommand
from vendors.queue_bulk import Action


class Command(QueueCommand):
    help = "Hand queue items that wait to a person, by their ids or by a filter."
    action = Action.MANUAL
    imperative = "Hand to a person"
    participle = "handed to a person"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", required=True, help="What that person reads.")
