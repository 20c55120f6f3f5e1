"""The sandbox's voucher sites, and people with accounts, a card and a phone, for tests of flows."""

import itertools
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import httpx

from automation.guard import NetworkPolicy
from automation.session import SessionSpec
from automation.vouchers.sites import KINDS
from automation.vouchers.states import Card, Login, PaymentLink
from tests.automation.test_sandbox import Control

PASSWORD = "sandbox-pw"

phones = itertools.count(9_100_000_000)
cards = itertools.count(1)


class World:
    """The control paths of all voucher sites."""

    def __init__(self, url):
        hosts = {name: f"{name}.localhost" for name in ("vouchers", "pay", "bank", "wallet")}
        self.controls = {name: Control(url, host) for name, host in hosts.items()}
        self.portal = self._site("vouchers", "portal")
        self.card_page = self._site("pay", "card_page")
        self.redeemer = self._site("wallet", "redeemer")

    def _site(self, name, kind):
        data = self.controls[name].ask("site")
        assert KINDS[kind].problems(data) == {}
        return KINDS[kind].from_data(data)

    def switch(self, name, **values):
        self.controls[name].post("/_sandbox/switches", json=values).raise_for_status()

    def reset(self):
        for control in self.controls.values():
            control.delete("/_sandbox/switches")

    def close(self):
        for control in self.controls.values():
            control.close()

    def last_code(self, name, **where):
        entries = self.controls[name].ask("ledger")["entries"]
        sent = [each for each in entries if each["action"] == "code_sent"]
        fitting = [each for each in sent if all(each[key] == where[key] for key in where)]
        return fitting[-1]["code"]

    def actions(self, name, **where):
        entries = self.controls[name].ask("ledger")["entries"]
        return [each["action"] for each in entries if all(each[key] == where[key] for key in where)]

    def log_in(self, name, person):
        """The storage state of a browser that is signed in."""
        control = self.controls[name]
        self.switch(name, account=person.email, login_code=False)
        with self._visitor(control) as visitor:
            visitor.get("/login")
            form = {"csrf": visitor.cookies["csrf"], "email": person.email, "password": PASSWORD}
            visitor.post("/login", data=form)
            cookies = [
                {"name": key, "value": value, "domain": control.host, "path": "/"}
                for key, value in visitor.cookies.items()
            ]
        return {"cookies": cookies, "origins": []}

    def make_link(self, person, reference):
        """A payment link that somebody has made by hand."""
        control = self.controls["vouchers"]
        cookies = {
            each["name"]: each["value"] for each in self.log_in("vouchers", person)["cookies"]
        }
        with self._visitor(control, cookies) as visitor:
            form = {"csrf": cookies["csrf"], "amount": "1500", "reference": reference}
            visitor.post("/buy", data=form)
        (order,) = control.ask("orders", account=person.email, reference=reference)["orders"]
        return PaymentLink(order["link"], order["order"], None)

    def _visitor(self, control, cookies=None):
        headers = {"Host": control.host}
        return httpx.Client(base_url=control.base_url, headers=headers, cookies=cookies)

    def give_voucher(self, amount):
        answer = self.controls["wallet"].post("/_sandbox/vouchers", json={"amount": amount})
        return answer.raise_for_status().json()

    def open_person(self):
        email = f"{uuid4().hex[:12]}@office.example"
        phone = f"+{91}{next(phones)}"
        for name in ("vouchers", "wallet"):
            account = {"email": email, "password": PASSWORD, "phone": phone}
            self.controls[name].post("/_sandbox/accounts", json=account).raise_for_status()
        card = Card(_card_number(next(cards)), 9, 2031, "123", "A Holder")
        self.controls["bank"].post(
            "/_sandbox/cards",
            json={"number": card.number, "expiry": "09/31", "cvv": card.cvv, "phone": phone},
        ).raise_for_status()
        return Person(Login(email, PASSWORD), phone, card)


@dataclass
class Person:
    login: Login
    phone: str
    card: Card

    @property
    def email(self):
        return self.login.email


def browse(host, site, flow, *, timeout=60, key=None, storage_state=None):
    """Runs a coroutine function of the session at the site, in a browser of its own."""
    spec = SessionSpec(
        key=key or f"{site.domain} {uuid4().hex}",
        network=NetworkPolicy(
            (site.domain, *site.allowed_domains), allow_private=site.allow_private_network
        ),
        storage_state=storage_state,
    )
    return host.run(flow, spec, timeout=timedelta(seconds=timeout))


def _card_number(number):
    digits = f"45320000{number:07}"
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 if place % 2 else 2)
        total += value - 9 if value > 9 else value
    return f"{digits}{-total % 10}"
