"""The sandbox and the buyers of a chaos run, as they are before anything goes wrong."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from config.demo import service_key
from tests.chaos._ground import Lane
from tests.payments.workflow.world import Member
from tests.voucher_sandbox import VoucherSandbox


@contextmanager
def open_lanes(count: int) -> Iterator[tuple[VoucherSandbox, list[Lane]]]:
    """Buyers whose phones forward to the web server that is up."""
    sandbox = VoucherSandbox(os.environ["SANDBOX_URL"])
    inbound = f"{os.environ['PUBLIC_URL']}/api/otp/inbound"
    headers = service_key("chaos-phones")
    try:
        phones = [sandbox.new_phone(url=inbound, headers=headers) for _ in range(count)]
        yield sandbox, [Lane(sandbox, Member.of(sandbox, phone=phone)) for phone in phones]
    finally:
        sandbox.close()
