"""Purchases for real: the sandbox's voucher sites, real browsers, and this process as the worker.

Codes go from the sandbox's phone to us as a forwarder would bring them; time that nobody has to
wait for is skipped in the rows.
"""

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from django.db.models.functions import Now

from accounts.models import FIRST_WORKSPACE, User
from jobs import flow
from jobs.models import Effect, Event, Job, OtpRule, Status, Step, Wait
from jobs.otp import messages
from jobs.otp.messages import Inbound
from jobs.processes import host_queue
from jobs.runner import runner
from jobs.sweep import make_due_ready, recover_expired
from payments.models import Card, PaymentSite, SiteAccount, Transaction, VoucherPurchase
from payments.purchases import start_purchase
from tests.jobs.rows import LONG_AGO, let_leases_expire
from tests.voucher_sandbox import (
    PASSWORD,
    PAY,
    PHONE,
    PORTAL,
    WALLET,
    VoucherSandbox,
)

AMOUNT = 1500
FINISHED = {Status.COMPLETED, Status.FAILED, Status.MANUAL, Status.CANCELLED}


@dataclass(frozen=True)
class Member:
    """Somebody with accounts at the sandbox. The browsers are kept by the accounts' keys here, so
    who buys again is signed in already."""

    phone: str
    email: str
    portal_account: uuid.UUID = field(default_factory=uuid.uuid4)
    redeemer_account: uuid.UUID = field(default_factory=uuid.uuid4)

    @classmethod
    def of(cls, sandbox: VoucherSandbox, *, phone: str | None = None) -> Self:
        phone = phone or sandbox.new_phone()
        email = sandbox.new_account(PORTAL, phone, monthly_limit=10_000_000)
        sandbox.new_account(WALLET, phone, email=email)
        return cls(phone, email)

    @property
    def keys(self) -> tuple[str, str]:
        """Of the browsers that stay open for the accounts."""
        return f"gyftr-{self.portal_account}", f"amazon-{self.redeemer_account}"


class World:
    """The rows of a member, with a card of its own."""

    def __init__(self, sandbox: VoucherSandbox, member: Member) -> None:
        self.sandbox = sandbox
        self.member = member
        self.phone, self.email = member.phone, member.email
        self._seen: set[str] = set()
        self.new_messages()  # of earlier tests
        sites = {
            kind: self._save_site(kind, host)
            for kind, host in (("portal", PORTAL), ("card_page", PAY), ("redeemer", WALLET))
        }
        self._save_rules()
        self.portal_account = self._save_account(member.portal_account, sites["portal"])
        self.redeemer_account = self._save_account(member.redeemer_account, sites["redeemer"])
        self.card_data = sandbox.new_card(self.phone)
        self.card = self._save_card()
        self.user = User.objects.get_or_create(username="bob")[0]

    def _save_site(self, kind: str, host: str) -> PaymentSite:
        data = self.sandbox.ask(f"{host}:{self.sandbox.port}", "site")
        name, domain = data.pop("name"), data.pop("domain")
        site = PaymentSite(kind=kind, name=name, domain=domain, data=data)
        site.clean()
        known = PaymentSite.objects.filter(kind=kind, domain=domain).first()
        if known:
            site.pk = known.pk
            site._state.adding = False
        site.save()
        return site

    def _save_rules(self) -> None:
        for code in self.sandbox.ask(PORTAL, "codes")["codes"]:
            OtpRule.objects.get_or_create(
                workspace_id=FIRST_WORKSPACE,
                service=code["service"],
                defaults={"sender": code["sender"], "pattern": code["pattern"]},
            )

    def _save_account(self, pk: uuid.UUID, site: PaymentSite) -> SiteAccount:
        return SiteAccount.objects.create(
            pk=pk, site=site, email=self.email, password=PASSWORD, phone_number=self.phone
        )

    def _save_card(self) -> Card:
        card = Card(
            card_type=self.card_data["number"][-12:],
            label="Sandbox",
            holder=self.card_data["holder"],
            phone_number=self.phone,
            otp_service="sahyadri-bank",
            portal_account=self.portal_account,
            redeemer_account=self.redeemer_account,
        )
        card.write_number(self.card_data["number"])
        card.write_expiry(self.card_data["expiry"])
        card.save()
        return card

    # ---- what people and phones do ---------------------------------------------------------------

    def start(self, qty: int = 1, *, cvv: str | None = "123") -> VoucherPurchase:
        return start_purchase(self.user, self.card.card_type, qty, AMOUNT, cvv=cvv)

    def new_messages(self) -> list[dict[str, Any]]:
        """What came to the phone since the last time, oldest first."""
        found = self.sandbox.ask(PHONE, "messages", number=self.phone)["messages"]
        new = [each for each in found if each["id"] not in self._seen]
        self._seen |= {each["id"] for each in new}
        return [each for each in new if each["action"] == "sms_sent"]

    def deliver(
        self, message: dict[str, Any], *, key: str | None = None
    ) -> messages.InboundMessage:
        sender, _, text = message["text"].partition(": ")
        inbound = Inbound(sender, text, recipient=self.phone, external_id=key or message["id"])
        return messages.receive(inbound, workspace_id=FIRST_WORKSPACE)

    def deliver_logins(self) -> int:
        """All but the bank's codes, which stay on the phone."""
        new = self.new_messages()
        bank = [each for each in new if "OTP for your payment" in each["text"]]
        self._seen -= {each["id"] for each in bank}
        logins = [each for each in new if each not in bank]
        for each in logins:
            self.deliver(each)
        return len(logins)

    def deliver_all(self) -> int:
        new = self.new_messages()
        for each in new:
            self.deliver(each)
        return len(new)

    def parked_pages(self) -> list[str]:
        """The keys of the browsers of its payments."""
        rows = Transaction.objects.filter(purchase__card=self.card).values_list("pk", flat=True)
        return [f"payment-{pk}" for pk in rows]

    def start_paying(self, qty: int = 1) -> VoucherPurchase:
        """A purchase whose links are made, and that is about to pay."""
        flow.pause(self.card.flow_key, by="bob")
        purchase = self.start(qty)
        self.work()
        assert statuses(purchase) == ["link_created"] * qty
        flow.resume(self.card.flow_key, by="bob")
        return purchase

    # ---- the work --------------------------------------------------------------------------------

    def work(self, *, rounds: int = 60, deliver: Callable[[], int] | None = None) -> None:
        """Carries all jobs out until nothing goes on any more."""
        deliver = deliver or self.deliver_all
        for _ in range(rounds):
            ran = run_ready()
            brought = deliver()
            let_postponed_be_due()
            if not (ran or brought or is_ready()):
                return
        told = Event.objects.order_by("-id").values_list("kind", "message")[:8]
        raise AssertionError(f"still at work: {list(told)}")

    def recover(self) -> None:
        """The lease of a worker that died has ended."""
        let_leases_expire()
        recover_expired()

    # ---- what became of it -----------------------------------------------------------------------

    def truth(self, purchase: VoucherPurchase) -> dict[str, list[int]]:
        """Of the ledger's orders of the purchase: how many payments, vouchers and redemptions."""
        prefix = reference_of(purchase)
        orders = self.sandbox.truth(self.email)["orders"]
        ours = [each for each in orders if each["reference"].startswith(prefix)]
        return {
            name: [each[name] for each in ours] for name in ("payments", "issued", "redemptions")
        }

    def balance(self) -> int:
        return int(self.sandbox.ask(WALLET, "balance", account=self.email)["balance"])


def run_ready() -> int:
    return runner.run_ready_steps(["steps", host_queue()])


def is_ready() -> bool:
    return Step.objects.filter(status__in=[Status.READY, Status.RUNNING]).exists()


def let_postponed_be_due() -> None:
    """As if their time had passed; what waits for an answer goes on waiting."""
    waiting = Step.objects.filter(status=Status.WAITING, limited_by="")
    waiting.exclude(waits__status="open").update(due_at=Now() - LONG_AGO)
    make_due_ready()


def let_codes_expire() -> None:
    """As if no code had come in time."""
    Wait.objects.filter(kind=Wait.Kind.OTP, status="open").update(deadline_at=Now() - LONG_AGO)
    Step.objects.filter(status=Status.WAITING).update(due_at=Now() - LONG_AGO)
    make_due_ready()


def let_presses_age() -> None:
    """As if the payments and redemptions that are under way had been pressed long ago."""
    for effect in Effect.objects.filter(status__in=["intended", "unknown", "absent"]):
        effect.intent["pressed_at"] = "2026-01-01T00:00:00+00:00"
        effect.save(update_fields=["intent"])


def reference_of(purchase: VoucherPurchase) -> str:
    """What the references of all its orders begin with."""
    return purchase.transactions.get(index=1).reference.rpartition("-")[0]


def statuses(purchase: VoucherPurchase) -> list[str]:
    return list(
        Transaction.objects.filter(purchase=purchase)
        .order_by("index")
        .values_list("status", flat=True)
    )


def job_of(purchase: VoucherPurchase) -> Job:
    return Job.objects.get(pk=purchase.job_id)


def effects_by_status() -> Counter[str]:
    return Counter(Effect.objects.values_list("status", flat=True))
