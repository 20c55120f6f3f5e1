"""Which accounts a command is about: by e-mail, by vendor, or all of them, said explicitly."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from vendors.models import VendorAccount


def add_choosing_arguments(parser: CommandParser) -> None:
    parser.add_argument("email", nargs="*", help="Accounts of these e-mails.")
    parser.add_argument("--vendor", metavar="DOMAIN", help="Only accounts of this vendor.")
    parser.add_argument("--all", action="store_true", help="All accounts there are.")


def choose_accounts(options: dict[str, Any]) -> QuerySet[VendorAccount]:
    """Raises CommandError when nothing is named, or something that is not there."""
    emails, domain = options["email"], options["vendor"]
    if not (emails or domain or options["all"]):
        raise CommandError("Name accounts by their e-mails, or use --vendor or --all.")
    accounts = VendorAccount.objects.order_by("vendor__domain", "email")
    if domain:
        accounts = accounts.filter(vendor__domain=domain)
        if not accounts.exists():
            raise CommandError(f"No vendor {domain} with an account is known.")
    if emails:
        accounts = accounts.filter(email__in=emails)
        if unknown := set(emails) - set(accounts.values_list("email", flat=True)):
            raise CommandError(f"No account has the e-mail {', '.join(sorted(unknown))}.")
    return accounts
