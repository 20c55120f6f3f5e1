"""Where the money of a purchase is: paid, issued, redeemed, waiting, or nobody knows."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from payments.models import Transaction, VoucherPurchase
from payments.models.purchases import format_money

Status = Transaction.Status

ALL_REDEEMED = "All vouchers redeemed successfully"  # voucher-bulk-purchase, word for word


@dataclass(frozen=True)
class Money:
    count: int = 0
    amount: Decimal = Decimal(0)

    def __add__(self, amount: Decimal) -> "Money":
        return Money(self.count + 1, self.amount + amount)


@dataclass(frozen=True)
class Summary:
    """Each includes what went further: `paid` what was issued, `issued` what was redeemed. Total is
    paid, not paid and unknown payments; issued is redeemed, pending redemption and unknown
    redemptions."""

    total: Money
    paid: Money
    awaiting_voucher: Money
    issued: Money
    redeemed: Money
    pending_redemption: Money
    unknown: Money
    not_paid: Money

    def to_data(self) -> dict[str, Any]:
        """As JSON: amounts are numbers, whole ones without a point."""
        return {
            name: {"count": money.count, "amount": plain_number(money.amount)}
            for name, money in vars(self).items()
        }


def describe_summary(found: Summary, currency: str) -> str:
    """For people. What is left to do stands last."""
    if found.redeemed.count == found.total.count:
        return ALL_REDEEMED

    def say(money: Money, words: str) -> str:
        return f"{money.count} {words} ({format_money(money.amount, currency)})"

    parts = [say(found.redeemed, f"of {found.total.count} vouchers redeemed")]
    for money, words in (
        (found.pending_redemption, "pending manual redemption"),
        (found.awaiting_voucher, "paid without a voucher yet"),
        (found.unknown, "unknown: see the inbox"),
        (found.not_paid, "not paid"),
    ):
        if money.count:
            parts.append(say(money, words))
    return "; ".join(parts)


def plain_number(amount: Decimal) -> int | float:
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def read_summary(purchase: VoucherPurchase) -> Summary:
    return summarise(purchase.transactions.select_related("voucher").defer(*SECRETS))


SECRETS = ("voucher__code", "voucher__pin")


def summarise(transactions: Iterable[Transaction]) -> Summary:
    sums: dict[str, Money] = dict.fromkeys(Summary.__dataclass_fields__, Money())
    for each in transactions:
        for name in _where(each):
            sums[name] += each.amount
    return Summary(**sums)


def _where(each: Transaction) -> list[str]:
    """The sums that a transaction belongs to."""
    found = ["total"]
    if each.status == Status.UNKNOWN:
        found.append("unknown")
    if each.status == Status.FAILED or not each.paid_at:
        return found if each.status == Status.UNKNOWN else [*found, "not_paid"]
    found.append("paid")
    if not each.issued_at:
        return found if each.status == Status.UNKNOWN else [*found, "awaiting_voucher"]
    found.append("issued")
    if each.redeemed_at:
        return [*found, "redeemed"]
    return found if each.status == Status.UNKNOWN else [*found, "pending_redemption"]
