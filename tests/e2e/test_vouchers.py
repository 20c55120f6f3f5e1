"""Purchases over REST, real workers and browsers, codes by SMS, and the sites' own ledger."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Stack
from tests.voucher_sandbox import (
    PASSWORD,
    PAY,
    PHONE,
    PORTAL,
    WALLET,
    VoucherSandbox,
)
from tests.waiting import wait_until

AMOUNT = 1500
ENDED = {"completed", "failed", "manual", "cancelled"}
RULES = """
from jobs.models import OtpRule
for code in {codes!r}:
    OtpRule.objects.create(
        service=code["service"], sender=code["sender"], pattern=code["pattern"]
    )
"""


class Buyer:
    """Somebody with accounts at the sandbox and here, a card, and a phone that forwards to us."""

    def __init__(self, sandbox: VoucherSandbox, stack: Stack, admin: httpx.Client) -> None:
        self.sandbox, self._admin = sandbox, admin
        self.phone = sandbox.new_phone(
            url=f"{stack.web_url}/api/otp/inbound",
            headers={"Authorization": admin.headers["Authorization"]},
        )
        self.email = sandbox.new_account(PORTAL, self.phone)
        sandbox.new_account(WALLET, self.phone, email=self.email)
        card = sandbox.new_card(self.phone)
        self._add_site("card_page", PAY)
        portal = self._add_account(self._add_site("portal", PORTAL))
        redeemer = self._add_account(self._add_site("redeemer", WALLET))
        self._add(
            "cards",
            card_type="MRCC",
            label="Sandbox",
            holder=card["holder"],
            number=card["number"],
            expiry=card["expiry"],
            phone_number=self.phone,
            otp_service="sahyadri-bank",
            portal_account_id=portal,
            redeemer_account_id=redeemer,
        )

    def _add(self, what: str, **fields: Any) -> str:
        answer = self._admin.post(f"/api/admin/{what}", json=fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def _add_site(self, kind: str, host: str) -> str:
        data = self.sandbox.ask(f"{host}:{self.sandbox.port}", "site")
        name, domain = data.pop("name"), data.pop("domain")
        return self._add("payment-sites", kind=kind, name=name, domain=domain, data=data)

    def _add_account(self, site: str) -> str:
        return self._add(
            "payment-accounts",
            site_id=site,
            email=self.email,
            password=PASSWORD,
            phone_number=self.phone,
        )

    def start(self, qty: int) -> str:
        asked = {"cardType": "MRCC", "qty": qty, "amount": AMOUNT, "cvv": "123"}
        answer = self._admin.post("/api/start-job", json=asked)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["jobId"])

    def look(self, job_id: str) -> Any:
        return self._admin.get(f"/api/jobs/{job_id}").raise_for_status().json()

    def wait_for_end(self, job_id: str, seconds: float = 110) -> Any:
        wait_until(lambda: self.look(job_id)["job"]["status"] in ENDED, seconds, every=0.3)
        return self.look(job_id)["job"]

    def wait_for_code(self, job_id: str) -> None:
        """Until the first payment waits for the bank's code."""

        def waits() -> bool:
            steps = {each["name"]: each for each in self.look(job_id)["steps"]}
            return bool(steps["process_payment_1"]["status"] == "waiting")

        wait_until(waits, 60, every=0.2)

    def truth(self, since: int = 0) -> dict[str, list[int]]:
        orders = self.sandbox.truth(self.email)["orders"][since:]
        return {
            name: [each[name] for each in orders] for name in ("payments", "issued", "redemptions")
        }


@pytest.fixture(scope="module")
def buyer(sandbox_url: str, stack: Stack, admin: httpx.Client) -> Iterator[Buyer]:
    sandbox = VoucherSandbox(sandbox_url)
    stack.manage("shell", "-c", RULES.format(codes=sandbox.ask(PORTAL, "codes")["codes"]))
    yield Buyer(sandbox, stack, admin)
    sandbox.reset()
    sandbox.close()


def test_vouchers_are_bought_with_codes_that_come_by_sms(buyer: Buyer) -> None:
    job = buyer.wait_for_end(buyer.start(2))

    assert (job["status"], job["error"]) == ("completed", None)
    assert job["result"]["message"] == "All vouchers redeemed successfully"
    assert buyer.truth() == {"payments": [1, 1], "issued": [1, 1], "redemptions": [1, 1]}


def test_workers_killed_while_a_code_is_awaited_lose_nothing(buyer: Buyer, stack: Stack) -> None:
    since = len(buyer.truth()["payments"])
    begun = len(buyer.sandbox.entries(action="payment_begun"))
    buyer.sandbox.switch(PHONE, delay_ms=5000)
    job_id = buyer.start(1)
    buyer.wait_for_code(job_id)

    stack.kill("worker")
    stack.start_worker()
    job = buyer.wait_for_end(job_id)

    assert (job["status"], job["error"]) == ("completed", None)
    assert buyer.truth(since) == {"payments": [1], "issued": [1], "redemptions": [1]}
    # The code was typed into the page that had asked for it.
    assert len(buyer.sandbox.entries(action="payment_begun")) == begun + 1
