"""Many purchases at once: codes that come in any order to few phones, and all waiting for one."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from statistics import quantiles
from typing import Any

from config.bootstrap import say
from jobs.models import Wait
from tests.chaos._ground import Bought, Lane, patiently
from tests.voucher_sandbox import PHONE, VoucherSandbox

# Doubled, and in any order; some of them late.
ROUGH_PHONES = {"copies": 2, "new_ids": True, "shuffle_ms": 4000}
NOT_BEFORE_THE_END = 3_600_000  # ms
WAITING_SECONDS = 270  # a code is waited for no longer than five minutes


def buy_in_peace(
    sandbox: VoucherSandbox, lanes: Sequence[Lane], purchases: int, folder: Path
) -> dict[str, float]:
    """One after the other by each lane, with nothing else to do."""
    say(f"{purchases} purchases, {len(lanes)} at a time ...")
    before = len(sandbox.entries())

    def buy(lane: Lane) -> None:
        for _ in range(purchases // len(lanes)):
            lane.finish(lane.start(1, folder))

    with ThreadPoolExecutor(len(lanes)) as threads:
        list(threads.map(buy, lanes))
    delays = find_delays(sandbox.entries()[before:])
    return {"code_to_typed_p95_s": quantiles(delays, n=20)[-1]}


def buy_at_once(
    sandbox: VoucherSandbox, lanes: Sequence[Lane], purchases: int, folder: Path
) -> dict[str, float]:
    """So many purchases at the same time, with as many phones as there are lanes."""
    say(f"{purchases} purchases at once, {len(lanes)} phones ...")
    before = len(sandbox.entries())
    sandbox.switch(PHONE, **ROUGH_PHONES)
    bought = _start(lanes, purchases, folder)
    ended = _finish(bought)
    sandbox.switch(PHONE, copies=1, new_ids=False, shuffle_ms=0)
    entries = sandbox.entries()[before:]
    return {
        "crowd": purchases,
        "crowd_completed": sum(each.status == "completed" for each in ended),
        "codes_to_the_wrong_request": sum(_is_anothers(entry) for entry in entries),
        "crowd_code_to_typed_p95_s": quantiles(find_delays(entries), n=20)[-1],
    }


def wait_at_once(
    sandbox: VoucherSandbox, lanes: Sequence[Lane], purchases: int, folder: Path
) -> dict[str, float]:
    """So many purchases that wait for their bank's code at the same time."""
    say(f"{purchases} purchases that wait for a code at the same time ...")
    sandbox.switch(PHONE, delay_ms=NOT_BEFORE_THE_END)
    bought = _start(lanes, purchases, folder)
    until = time.monotonic() + WAITING_SECONDS
    most = 0
    while most < purchases and time.monotonic() < until:
        most = max(most, patiently(_count_waiting))
        time.sleep(1)
    say(f"{most} wait.")
    for lane in lanes:
        patiently(lane.world.deliver_all)
    sandbox.switch(PHONE, delay_ms=0)
    ended = _finish(bought)
    return {
        "waiting_at_once": most,
        "waiting_completed": sum(each.status == "completed" for each in ended),
    }


def find_delays(entries: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds from the arrival of each code with us to its being accepted by the site."""
    arrived: dict[str, datetime] = {}
    found = []
    for entry in entries:
        at = datetime.fromisoformat(entry["at"])
        if entry["action"] == "sms_posted" and (entry["note"] or "").startswith("2"):
            arrived.setdefault(entry["code"], at)
        elif entry["action"] == "code_accepted" and entry["code"] in arrived:
            found.append((at - arrived[entry["code"]]).total_seconds())
    return found


def _start(lanes: Sequence[Lane], purchases: int, folder: Path) -> list[tuple[Lane, Bought]]:
    return [(lane, lane.start(1, folder)) for lane in islice(cycle(lanes), purchases)]


def _finish(bought: Sequence[tuple[Lane, Bought]]) -> list[Bought]:
    with ThreadPoolExecutor(8) as threads:
        ended = list(threads.map(lambda each: each[0].finish(each[1]), bought))
    for each in ended:
        if each.status != "completed":
            say(f"{each.status}: {each.error}")
    return ended


def _count_waiting() -> int:
    return Wait.objects.filter(status=Wait.Status.OPEN, kind=Wait.Kind.OTP).count()


def _is_anothers(entry: dict[str, Any]) -> bool:
    note = entry["note"] or ""
    return entry["action"] == "code_refused" and "the code of another request" in note
