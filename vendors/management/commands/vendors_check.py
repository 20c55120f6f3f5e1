import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.models import Job, Status
from vendors import check
from vendors.errors import RequestRefused
from vendors.management.checking import (
    FAILED,
    add_waiting_arguments,
    as_json,
    finished_in_order,
)
from vendors.models import Vendor, VendorAccount

MARKS = {"passed": "ok  ", "failed": "FAIL", "doubtful": "?   ", "skipped": "-   "}


class Command(BaseCommand):
    help = (
        "Tries a vendor's data on its live site, adding nothing, and names every selector that "
        "does not fit. A worker carries it out. Exit code 3: something does not fit."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("domain", help="The vendor's domain.")
        parser.add_argument("--product", metavar="URL", help="A product's page to look at.")
        parser.add_argument(
            "--variant",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="A choice to make on that page; may be given several times.",
        )
        parser.add_argument("--account", metavar="EMAIL", help="Whose log-in is tried.")
        add_waiting_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        vendor = _find_vendor(options["domain"])
        account = _find_account(vendor, options["account"]) if options["account"] else None
        try:
            job = check.submit_vendor_check(
                vendor,
                account=account,
                product_url=options["product"],
                variant=dict(map(_choice, options["variant"])) or None,
            )
        except RequestRefused as error:
            raise CommandError(str(error)) from error
        if options["no_wait"]:
            self.stdout.write(f"{job.pk}  {job.get_absolute_url()}")
            return
        (job,) = finished_in_order([job], options["timeout"])
        if options["json"]:
            self.stdout.write(json.dumps(as_json(job), indent=2))
        else:
            self._tell(job)
        result = check.result_of(job)
        if not (result and result["passed"]):
            raise CommandError(_why(job, result), returncode=FAILED)

    def _tell(self, job: Job) -> None:
        for finding in (check.result_of(job) or {}).get("findings", ()):
            data = f"  [{finding['key']} = {finding['selector']}]" if finding["selector"] else ""
            mark = MARKS[finding["outcome"]]
            self.stdout.write(f"{mark} {finding['step']}: {finding['message']}{data}")


def _find_vendor(domain: str) -> Vendor:
    vendor = Vendor.objects.filter(domain=domain).first()
    if vendor is None:
        known = ", ".join(Vendor.objects.values_list("domain", flat=True)) or "none yet"
        raise CommandError(f"No vendor has the domain {domain}. There is: {known}.")
    return vendor


def _find_account(vendor: Vendor, email: str) -> VendorAccount:
    account = vendor.accounts.filter(email=email).first()
    if account is None:
        raise CommandError(f"{vendor} has no account {email}.")
    return account


def _choice(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise CommandError(f"--variant {text!r} is not NAME=VALUE.")
    return name, value


def _why(job: Job, result: dict[str, Any] | None) -> str:
    if result is None:
        return (
            f"The check was not made: {(job.error or {}).get('message', Status(job.status).label)}"
        )
    keys = ", ".join(result["failed_keys"])
    return f"Correct {keys or 'what failed'}; screenshots are on {job.get_absolute_url()}"
