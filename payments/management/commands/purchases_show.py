import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q
from rest_framework.utils.encoders import JSONEncoder
from rich.console import Console
from rich.table import Table

from payments import runs
from payments.models import VoucherPurchase
from payments.models.purchases import format_money

NEWEST = 20
WIDTH = 240  # where no terminal says it: an id or a sentence that is broken cannot be found
SUMS = (
    ("paid", "paid"),
    ("awaiting_voucher", "paid, no voucher yet"),
    ("issued", "issued"),
    ("redeemed", "redeemed"),
    ("pending_redemption", "to be redeemed"),
    ("unknown", "unknown"),
    ("not_paid", "not paid"),
)


class Command(BaseCommand):
    help = (
        "Show a purchase: where it stands, its transactions and where its money is; without an id, "
        "the newest purchases. Shows no code and no card's number."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "purchase", nargs="?", type=uuid.UUID, help="Its id, or that of its job."
        )
        parser.add_argument(
            "--json", dest="as_json", action="store_true", help="As the API answers it."
        )

    def handle(self, *args: Any, purchase: uuid.UUID | None, as_json: bool, **options: Any) -> None:
        shown = runs.purchases_to_show(VoucherPurchase.objects.all())
        if purchase is None:
            self._print(list(map(runs.run_row, shown[:NEWEST])), as_json, list_of)
            return
        found = shown.filter(Q(pk=purchase) | Q(job=purchase)).first()
        if found is None:
            raise CommandError(
                f"No purchase has the id {purchase}, nor has its job. Without an id this lists "
                f"the newest {NEWEST}."
            )
        self._print(runs.read_run(found), as_json, lines_of)

    def _print(self, value: Any, as_json: bool, lines: Any) -> None:
        if as_json:
            self.stdout.write(json.dumps(value, cls=JSONEncoder, indent=2))
            return
        console = Console(
            force_terminal=self.stdout.isatty(),
            width=None if self.stdout.isatty() else WIDTH,
            highlight=False,
            markup=False,
            emoji=False,
        )
        with console.capture() as capture:
            for line in lines(value):
                console.print(line)
        self.stdout.write(capture.get())


def list_of(rows: list[Mapping[str, Any]]) -> Iterator[Any]:
    if not rows:
        yield "There is no purchase yet."
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("purchase", "status", "what", "redeemed", "created"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            str(row["purchase_id"]),
            row["status"],
            title_of(row),
            f"{row['completed_transactions']} of {row['total_transactions']}",
            f"{row['created_at']:%Y-%m-%d %H:%M}",
        )
    yield table


def lines_of(run: Mapping[str, Any]) -> Iterator[Any]:
    currency = run["metadata"]["currency"]
    yield f"{title_of(run)}, {run['metadata']['card']}"
    yield f"{run['status']} · {run['progress']} % · purchase {run['purchase_id']} · job {run['id']}"
    yield run["message"]
    if run["error_message"]:
        yield f"{run['metadata']['error_code']}: {run['error_message']}"
    if run["advice"]:
        yield run["advice"]
    yield ""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "amount", "status", "order", "voucher", ""):
        table.add_column(heading)
    for each in run["transactions"]:
        voucher = each["voucher"]
        table.add_row(
            str(each["index"]),
            format_money(each["amount"], currency),
            each["status"],
            each["order"],
            f"{voucher['id']} …{voucher['tail']} {voucher['status']}" if voucher else "",
            each["error_message"],
        )
    yield table
    yield ""
    for name, words in SUMS:
        money = run["summary"][name]
        if money["count"]:
            yield f"{money['count']} {words}: {format_money(money['amount'], currency)}"


def title_of(row: Mapping[str, Any]) -> str:
    money = format_money(row["transaction_amount"], row["metadata"]["currency"])
    return f"{row['transaction_count']} × {money} on {row['metadata']['cardType']}"
