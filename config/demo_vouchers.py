"""The demo's vouchers: 4 x ₹1,500 bought in the sandbox with codes that come by SMS, while a worker
is killed on purpose.

The portal, the bank's page, the redeeming shop and the phones are the sandbox's; the purchase goes
through the REST API, and the codes through the door for SMS forwarders. At the end stands what the
sandbox's own ledger says, beside what the database says.
"""

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from config.sandbox_site import SandboxSite
from config.supervisor import RUN_MARK

HOSTS = tuple(f"{name}.localhost" for name in ("vouchers", "pay", "bank", "wallet", "phone"))
PORTAL, CARD_PAGE, BANK, WALLET, PHONE = HOSTS
SITES = {"portal": PORTAL, "card_page": CARD_PAGE, "redeemer": WALLET}
CARD_TYPE, QTY, AMOUNT = "Sandbox MRCC", 4, 1500  # a type that no card of yours has
ENDED = {"completed", "failed", "manual", "cancelled"}
PATIENCE_SECONDS = 300
LOOK_SECONDS = 0.3


class VoucherDemo:
    def __init__(
        self,
        sandbox_url: str,
        admin: httpx.Client,
        forwarder: Mapping[str, str],
        console: Console,
    ) -> None:
        """`forwarder`: the headers with which the phones post."""
        self.console = console
        self.admin = admin
        self.sandbox = {host: SandboxSite(sandbox_url, host) for host in HOSTS}
        self.forwarder = dict(forwarder)
        self.email = f"vouchers-{secrets.token_hex(3)}@cartwright.example"
        self.cvv = f"{secrets.randbelow(10**4):04}"
        self.worker: psutil.Process | None = None

    def run(self) -> bool:
        """Whether the purchase ended as the sandbox's ledger says it did."""
        self._set_up()
        asked = {"cardType": CARD_TYPE, "qty": QTY, "amount": AMOUNT, "cvv": self.cvv}
        job_id = self._ask("POST", "/api/start-job", asked)["jobId"]
        run = self._follow(job_id)
        return self._show_result(run)

    # ---- setting up ------------------------------------------------------------------------------

    def _set_up(self) -> None:
        phones = [self._new_phone() for _ in range(3)]
        sites = {kind: self._save_site(kind, host) for kind, host in SITES.items()}
        accounts = {
            kind: self._new_account(sites[kind], SITES[kind], phone)
            for kind, phone in zip(("portal", "redeemer"), phones[:2], strict=True)
        }
        self._save_card(accounts, phones[2])
        self.console.print(
            f"\nNow {QTY} vouchers: a portal, a bank's page, a redeeming shop and a card are set "
            "up over the REST API. Codes come by SMS from three phones."
        )

    def _new_phone(self) -> str:
        number = f"+9190{secrets.randbelow(10**8):08}"
        url = f"{self.admin.base_url}".rstrip("/") + "/api/otp/inbound"
        self.sandbox[PHONE].post("phones", number=number, url=url, headers=self.forwarder)
        return number

    def _save_site(self, kind: str, host: str) -> str:
        """The sandbox may have another port than the last time."""
        data = self.sandbox[host].get("site")
        site = {"kind": kind, "name": data.pop("name"), "domain": data.pop("domain"), "data": data}
        known = {
            (each["kind"], each["domain"]): each["id"]
            for each in self._ask("GET", "/api/admin/payment-sites")["sites"]
        }
        pk = known.get((kind, site["domain"]))
        if pk is None:
            return str(self._ask("POST", "/api/admin/payment-sites", site)["id"])
        return str(self._ask("PUT", f"/api/admin/payment-sites/{pk}", site)["id"])

    def _new_account(self, site_id: str, host: str, phone: str) -> str:
        password = secrets.token_urlsafe(12)
        self.sandbox[host].post("accounts", email=self.email, password=password, phone=phone)
        account = {"email": self.email, "password": password, "phone_number": phone}
        answer = self._ask("POST", "/api/admin/payment-accounts", {"site_id": site_id, **account})
        return str(answer["id"])

    def _save_card(self, accounts: Mapping[str, str], phone: str) -> None:
        number = _with_check_digit(f"37424{secrets.randbelow(10**9):09}")
        card = {"number": number, "expiry": "09/31"}
        self.sandbox[BANK].post("cards", **card, cvv=self.cvv, phone=phone)
        for known in self._ask("GET", "/api/admin/cards")["cards"]:
            if known["card_type"] == CARD_TYPE and known["is_active"]:  # of an earlier demo
                self._ask("PUT", f"/api/admin/cards/{known['id']}", {"is_active": False})
        row = {
            **card,
            "card_type": CARD_TYPE,
            "label": "Sandbox card",
            "holder": "CARTWRIGHT DEMO",
            "phone_number": phone,
            "otp_service": "",
            "portal_account_id": accounts["portal"],
            "redeemer_account_id": accounts["redeemer"],
        }
        self._ask("POST", "/api/admin/cards", row)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        return self.admin.request(method, path, json=body).raise_for_status().json()

    # ---- while it runs ---------------------------------------------------------------------------

    def _follow(self, job_id: str) -> dict[str, Any]:
        """The run, once it has ended. A worker is killed as soon as the second payment begins."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[message]}", style="dim"),
        )
        run: dict[str, Any] = {}
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(f"{QTY} × ₹{AMOUNT:,} on {CARD_TYPE}", message="", total=100)
            for run in self._runs(job_id):
                percentage = run["progress_percentage"]
                progress.update(task, completed=percentage, message=run["message"])
                if self.worker is None and _is_paying(run, 2):
                    self.worker = kill_worker()
                    if self.worker:
                        progress.console.print(
                            f"Killed worker {self.worker.pid} on purpose, amid the second payment; "
                            "another goes on."
                        )
        return run

    def _runs(self, job_id: str) -> Iterator[dict[str, Any]]:
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            run = self._ask("GET", f"/api/jobs/{job_id}/run")
            yield run
            if run["status"] in ENDED:
                return
            time.sleep(LOOK_SECONDS)

    # ---- what became of it -----------------------------------------------------------------------

    def _show_result(self, run: Mapping[str, Any]) -> bool:
        ledger = {
            order["reference"]: order
            for order in self.sandbox[PORTAL].get("truth", account=self.email)["orders"]
        }
        table = Table(title="The purchase, and what the sandbox's ledger says", padding=(0, 1))
        for name in ("Transaction", "In the database", "Paid", "Issued", "Redeemed", ""):
            table.add_column(name)
        agreed = run["status"] == "completed" and self.worker is not None
        for each in run["transactions"]:
            order = ledger.pop(each["reference"], {})
            counts = [int(order.get(name, 0)) for name in ("payments", "issued", "redemptions")]
            once = each["status"] == "redeemed" and counts == [1, 1, 1]
            agreed &= once
            table.add_row(
                f"{each['index']}: ₹{each['amount']:,}",
                each["status_label"],
                *(f"{count} ×" for count in counts),
                "[green]✓[/green]" if once else "[red]✗[/red]",
            )
        self.console.print(table)
        agreed &= not any(order["payments"] for order in ledger.values())
        balance = self.sandbox[WALLET].get("balance", account=self.email)["balance"]
        agreed &= balance == QTY * AMOUNT
        colour = "green" if agreed else "red"
        said = run["message"].rstrip(".")
        self.console.print(f"[{colour}]{said}. The shop's balance is ₹{balance:,}.")
        if run["error_message"]:
            self.console.print(f"[red]{run['error_message']}")
        return bool(agreed)


def _is_paying(run: Mapping[str, Any], index: int) -> bool:
    return any(
        step["step_name"] == "process_payment"
        and step["transaction_index"] == index
        and step["status"] == "in_progress"
        for step in run["job_steps"]
    )


def kill_worker() -> psutil.Process | None:
    """SIGKILL to a worker of this run, as the kernel gives when memory is short."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if {"celery", "worker"} <= set(process.cmdline()) and _is_ours(process):
                process.kill()
                return process
    return None


def _is_ours(process: psutil.Process) -> bool:
    return process.environ().get(RUN_MARK) == os.environ.get(RUN_MARK)


def _with_check_digit(digits: str) -> str:
    """Luhn's, as card numbers have it."""
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits))]
    return digits + str(-sum(each // 10 + each % 10 for each in doubled) % 10)
