import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.models import Status
from vendors import check
from vendors.management.checking import (
    FAILED,
    add_waiting_arguments,
    as_json,
    finished_in_order,
)
from vendors.management.choosing import add_choosing_arguments, choose_accounts


class Command(BaseCommand):
    help = (
        "Logs in for real as accounts, saves their new sessions, and says which could not. Those "
        "that the shop refuses are set aside. Workers carry it out. Exit code 3: some could not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_choosing_arguments(parser)
        parser.add_argument("--blocked", action="store_true", help="Only those set aside.")
        add_waiting_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        accounts = choose_accounts(options)
        if options["blocked"]:
            accounts = accounts.filter(is_blocked=True)
        chosen = list(accounts.select_related("vendor"))
        jobs = [check.submit_account_test(account) for account in chosen]
        if options["no_wait"]:
            for job in jobs:
                self.stdout.write(f"{job.pk}  {job}")
            return
        results, failed = [], 0
        for job in finished_in_order(jobs, options["timeout"]):
            results.append(as_json(job))
            works = job.status == Status.COMPLETED
            failed += not works
            if not options["json"]:
                why = "" if works else f": {(job.error or {}).get('message', job.status)}"
                self.stdout.write(f"{'ok  ' if works else 'FAIL'} {job}{why}")
        if options["json"]:
            self.stdout.write(json.dumps(results, indent=2))
        if failed:
            raise CommandError(f"{failed} of {len(jobs)} could not log in.", returncode=FAILED)
