"""Who buys in a chaos run, and what the sandbox's ledger says of it afterwards.

Purchases are begun in this process and carried out by the product's own workers; codes come from
the sandbox's phones to the product's web server, as forwarders post them.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from django.db import Error as DatabaseTrouble
from django.db import connection, transaction

from config.bootstrap import say
from jobs import effects
from jobs.models import FINISHED, Effect, Event, Job, Status, Wait
from payments import cvv
from payments.errors import CvvUnreachable
from payments.models import Transaction, VoucherCode, VoucherPurchase
from payments.purchases import give_cvv
from tests.chaos._moments import Doom
from tests.payments.workflow.world import Member, World
from tests.voucher_sandbox import PORTAL, WALLET, VoucherSandbox

T = TypeVar("T")

PATIENCE_SECONDS = 240  # for a purchase, faults included; then it counts as stuck
LOOK_SECONDS = 0.25


@dataclass
class Bought:
    """A purchase, and how it went."""

    purchase: VoucherPurchase
    doom: Doom
    status: str = ""
    error: str = ""
    asked: list[str] = field(default_factory=list)  # acts that a person had to settle
    open_acts: int = 0  # whose outcome nobody knew when the worker was killed

    @property
    def is_stuck(self) -> bool:
        return self.status not in FINISHED


class Lane:
    """A buyer with accounts, a card and a phone of its own, who buys one after the other."""

    def __init__(self, sandbox: VoucherSandbox, member: Member) -> None:
        self.world = World(sandbox, member)

    def forget_sessions(self) -> None:
        """Both sites ask for passwords and codes again."""
        for host in (PORTAL, WALLET):
            self.world.sandbox.send(host, "expire", account=self.world.email)

    def start(self, qty: int, folder: Path, nth: int = 0) -> Bought:
        """`nth`: the moment of the job at which its worker is to be killed; 0: at none."""

        def begin() -> Bought:
            with transaction.atomic():  # no worker sees the job before its doom is set
                purchase = self.world.start(qty)
                doom = Doom(folder, str(purchase.job_id))
                doom.set(nth)
            return Bought(purchase, doom)

        return patiently(begin)

    def finish(self, bought: Bought) -> Bought:
        """Waits for its end, and settles for the person what nobody can tell."""
        until = time.monotonic() + PATIENCE_SECONDS
        was_dead = False
        while time.monotonic() < until:
            if not was_dead and bought.doom.find_death():
                was_dead = True
                bought.open_acts = patiently(lambda: count_open(bought))
            job = patiently(lambda: Job.objects.get(pk=bought.purchase.job_id))
            bought.status, bought.error = job.status, (job.error or {}).get("message", "")
            if job.status == Status.MANUAL and self._settle(bought):
                continue
            if job.status in FINISHED:
                return bought
            if patiently(lambda: waits_for_cvv(bought)):  # Valkey has lost it
                with suppress(CvvUnreachable):
                    patiently(partial(give_cvv, bought.purchase, self.world.card_data["cvv"]))
            time.sleep(LOOK_SECONDS)
        return bought

    def _settle(self, bought: Bought) -> bool:
        """As a person who looks at the sites; False when none is needed for that."""
        unknown = patiently(lambda: find_unknown(bought))
        for effect in unknown:
            bought.asked.append(effect.title)
            happened = self._has_happened(effect)
            patiently(lambda: effects.decide(effect.pk, happened=happened, by=self.world.user))  # noqa: B023
        return bool(unknown)

    def _has_happened(self, effect: Effect) -> bool:
        orders = self.world.sandbox.truth(self.world.email)["orders"]
        kind, _, pk = effect.key.partition(":")
        if kind == "voucher_pay":
            what, order = "payments", effect.intent["order"]
        else:
            what, order = "redemptions", VoucherCode.objects.get(pk=pk).transaction.order
        return any(each[what] for each in orders if each["order"] == order)


def find_unknown(bought: Bought) -> list[Effect]:
    return list(Effect.objects.filter(job=bought.purchase.job_id, status="unknown"))


def waits_for_cvv(bought: Bought) -> bool:
    waits = Wait.objects.filter(job=bought.purchase.job_id, status=Wait.Status.OPEN)
    return waits.filter(topic=cvv.topic(bought.purchase.pk)).exists()


def count_open(bought: Bought) -> int:
    return Effect.objects.filter(job=bought.purchase.job_id, status="intended").count()


def patiently(act: Callable[[], T]) -> T:
    """The result, once the database is there again."""
    until = time.monotonic() + 60
    while True:
        try:
            return act()
        except DatabaseTrouble:
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def find_recoveries(bought: list[Bought]) -> list[float]:
    """Seconds from each death until a worker went on with that purchase."""
    found = []
    for each in bought:
        died_at = each.doom.died_at
        events = Event.objects.filter(job=each.purchase.job_id, kind="step.started")
        if died_at and (after := events.filter(at__gt=died_at).order_by("at").first()):
            found.append((after.at - died_at).total_seconds())
    return found


def count_lost(sandbox: VoucherSandbox) -> int:
    """Vouchers that the portal has issued and that we do not know of."""
    issued = {entry["voucher"] for entry in sandbox.entries(action="voucher_issued")}
    known = {voucher.code for voucher in VoucherCode.objects.all()}
    return len(issued - known)


def count_wrong_records(orders: list[dict[str, Any]]) -> int:
    """Transactions of which our database says something else than the ledger: paid or not, redeemed
    or not. What a person is asked about says nothing yet."""
    ledger = {order["order"]: order for order in orders}
    wrong = 0
    for row in Transaction.objects.exclude(status=Transaction.Status.UNKNOWN).exclude(order=""):
        order = ledger[row.order]
        is_paid, is_redeemed = row.paid_at is not None, row.redeemed_at is not None
        if (is_paid, is_redeemed) != (bool(order["payments"]), bool(order["redemptions"])):
            say(f"{row.order}: {row.status}, but the ledger has {order}")
            wrong += 1
    return wrong
