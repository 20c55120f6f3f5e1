from jobs.bulk import Action
from jobs.management.bulk_command import JobsCommand


class Command(JobsCommand):
    help = "Let jobs that are with a person go on where they stood, by ids or by a filter."
    action = Action.RESUME
    imperative = "Let go on"
    participle = "going on"
