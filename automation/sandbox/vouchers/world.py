"""The voucher sites put together: one book, one set of phones, five hosts."""

from pathlib import Path
from typing import Any

from starlette.routing import Host, Router

from automation.sandbox.switches import Switchboard
from automation.sandbox.vouchers.bank import Bank
from automation.sandbox.vouchers.book import Book
from automation.sandbox.vouchers.card_page import CardPage
from automation.sandbox.vouchers.control import Control
from automation.sandbox.vouchers.descriptions import (
    BANK_HOST,
    CARD_PAGE_HOST,
    PHONE_HOST,
    PORTAL_HOST,
    WALLET_HOST,
)
from automation.sandbox.vouchers.people import People
from automation.sandbox.vouchers.phone import Phones
from automation.sandbox.vouchers.portal import Portal
from automation.sandbox.vouchers.sales import Sales
from automation.sandbox.vouchers.screen import Screen
from automation.sandbox.vouchers.site import Site
from automation.sandbox.vouchers.switches import (
    BankSwitches,
    CardPageSwitches,
    PhoneSwitches,
    PortalSwitches,
    WalletSwitches,
)
from automation.sandbox.vouchers.wallet import Wallet

HOSTS = (PORTAL_HOST, CARD_PAGE_HOST, BANK_HOST, WALLET_HOST, PHONE_HOST)


def host_routes(ledger_path: Path) -> list[Host]:
    book = Book(ledger_path)
    portal_switches = Switchboard(PortalSwitches())
    card_page_switches = Switchboard(CardPageSwitches())
    phone_switches = Switchboard(PhoneSwitches())
    phones = Phones(book, phone_switches)
    people = People(book, phones.send)
    sales = Sales(book, portal_switches, card_page_switches)
    bank = Bank(Switchboard(BankSwitches()), people, sales)
    sites: list[Site[Any]] = [
        Portal(portal_switches, people, sales),
        CardPage(card_page_switches, people, sales, bank),
        bank,
        Wallet(Switchboard(WalletSwitches()), people, sales),
        Screen(phone_switches, people, sales, phones),
    ]

    def control(site: Site[Any]) -> Control:
        return Control(
            site.host, site.switchboard, book=book, people=people, sales=sales, phones=phones
        )

    return [Host(site.host, Router([*control(site).routes(), *site.routes()])) for site in sites]
