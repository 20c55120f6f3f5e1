"""The sandbox, browsers that stay, and a member of its sites, to carry purchases out for real."""

from collections.abc import Iterator
from typing import Any

import pytest

from automation.host import BrowserHost
from jobs import live
from tests.payments.workflow.world import Member, World
from tests.voucher_sandbox import PORTAL, VoucherSandbox, running_sandbox
from vendors import browsing


@pytest.fixture(autouse=True)
def toy_steps() -> None:
    """In place of the room's own: here the workflows are the real ones."""


@pytest.fixture(scope="module")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox") / "ledger.sqlite3") as url:
        yield url


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserHost]:
    with BrowserHost(parking_folder=tmp_path_factory.mktemp("parking")) as host:
        yield host


@pytest.fixture
def sandbox(sandbox_url: str) -> Iterator[VoucherSandbox]:
    """Well behaved, and in no hurry to issue vouchers late."""
    sandbox = VoucherSandbox(sandbox_url)
    sandbox.switch(PORTAL, voucher_delay_seconds=0)
    yield sandbox
    sandbox.reset()
    sandbox.close()


@pytest.fixture(scope="module")
def member(sandbox_url: str, host: BrowserHost) -> Iterator[Member]:
    sandbox = VoucherSandbox(sandbox_url)
    member = Member.of(sandbox)
    sandbox.close()
    yield member
    for key in member.keys:
        host.end_parked(key)


@pytest.fixture
def in_process(host: BrowserHost, broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the worker, and sends no hints."""
    monkeypatch.setattr(browsing, "get_browser_host", lambda: host)
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


@pytest.fixture
def world(
    sandbox: VoucherSandbox, member: Member, host: BrowserHost, in_process: None
) -> Iterator[World]:
    world = World(sandbox, member)
    yield world
    for key in world.parked_pages():
        host.end_parked(key)


@pytest.fixture
def stranger(sandbox: VoucherSandbox, host: BrowserHost, in_process: None) -> Iterator[World]:
    """Somebody whom the sites do not know yet."""
    world = World(sandbox, Member.of(sandbox))
    yield world
    for key in (*world.member.keys, *world.parked_pages()):
        host.end_parked(key)
