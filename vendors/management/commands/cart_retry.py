from vendors.management.queue_command import QueueCommand
from vendors.queue_bulk import Action


class Command(QueueCommand):
    help = "Retry failed queue items, by their ids or by a filter; from where each of them stood."
    action = Action.RETRY
    imperative = "Retry"
    participle = "retried"
