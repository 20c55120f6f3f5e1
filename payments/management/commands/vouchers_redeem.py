import getpass
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q, QuerySet

from jobs.errors import NotPossible
from payments import redemption
from payments.models import VoucherCode
from payments.models.purchases import ENDED, format_money

SOME_SKIPPED = 3


class Command(BaseCommand):
    help = (
        "Redeem vouchers that were issued and not redeemed, each by a job of its own; or, with "
        "--by-hand, say that a person has redeemed them. Exit codes: 0 all done (or nothing to "
        "do), 1 a mistake in what was asked, 3 some were skipped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "voucher",
            nargs="*",
            type=uuid.UUID,
            help="The id of a voucher (purchases_show has it); any number.",
        )
        parser.add_argument(
            "--purchase", type=uuid.UUID, help="All that are left of this purchase."
        )
        parser.add_argument("--all", action="store_true", help="All that are left.")
        parser.add_argument(
            "--by-hand", action="store_true", help="They are redeemed: only note that."
        )
        parser.add_argument("--reason", default="", help="Of --by-hand, for the audit trail.")
        parser.add_argument("--dry-run", action="store_true", help="Only say which.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        vouchers = list(_choose(options))
        does = "Mark as redeemed" if options["by_hand"] else "Redeem"
        total = f"{does}: {len(vouchers)} voucher{'' if len(vouchers) == 1 else 's'}"
        self.stdout.write(f"{total}.")
        for voucher in vouchers:
            money = format_money(voucher.amount, voucher.transaction.purchase.currency)
            self.stdout.write(f"  {voucher.pk}  {money}  {voucher}  {voucher.get_status_display()}")
        if options["dry_run"] or not vouchers:
            return
        if not (options["yes"] or options["voucher"]):
            _ask(total)
        skipped = [sentence for voucher in vouchers if (sentence := self._act(voucher, options))]
        if skipped:
            for sentence in skipped:
                self.stderr.write(sentence)
            raise CommandError(f"{len(skipped)} skipped.", returncode=SOME_SKIPPED)

    def _act(self, voucher: VoucherCode, options: dict[str, Any]) -> str:
        """Why it was skipped; empty when it was not."""
        try:
            if options["by_hand"]:
                by = f"{getpass.getuser()} on the command line"
                redemption.mark_redeemed(voucher.pk, by=by, reason=options["reason"])
                self.stdout.write(f"{voucher}: marked as redeemed")
            else:
                job = redemption.redeem_later(voucher.pk, by=None)
                self.stdout.write(f"{voucher}: job {job.pk}")
        except NotPossible as error:
            return str(error)
        return ""


def _choose(options: dict[str, Any]) -> QuerySet[VoucherCode]:
    """Raises CommandError when nothing is named, or something that is not there."""
    ids, purchase = options["voucher"], options["purchase"]
    if [bool(ids), bool(purchase), options["all"]].count(True) != 1:
        raise CommandError("Name vouchers by their ids, or use --purchase or --all.")
    rows = VoucherCode.objects.select_related("transaction__purchase", "job")
    vouchers = rows.defer("code", "pin").order_by("pk")
    if ids:
        found = vouchers.filter(pk__in=ids)
        if unknown := set(ids) - set(found.values_list("pk", flat=True)):
            raise CommandError(
                f"No voucher has the id {', '.join(map(str, sorted(unknown)))}. purchases_show has "
                "the ids."
            )
        return found
    left = vouchers.filter(
        status__in=[VoucherCode.Status.ISSUED, VoucherCode.Status.REFUSED],
        transaction__purchase__status__in=ENDED,
    )
    if purchase:
        mine = Q(transaction__purchase=purchase) | Q(transaction__purchase__job=purchase)
        return left.filter(mine)
    return left


def _ask(total: str) -> None:
    try:
        answer = input(f"{total}? [y/N] ")
    except EOFError:
        raise CommandError("Nobody to ask; add --yes. Nothing was changed.") from None
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was changed.")
