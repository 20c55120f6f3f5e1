"""A worker dies before and after each commit and each press of a payment and a redemption, and
another goes on.

What must hold: the sandbox's own ledger says that the order was paid once, issued once and redeemed
once, and the purchase is completed. The worker is this process; what it would have done after its
death, it is kept from doing.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from django.db import connection

from automation.vouchers import card_page, redeemer
from jobs import effects
from jobs.models import Effect
from payments import recording
from payments.steps.payment import Payment
from payments.steps.redemption import RedemptionAct
from tests.payments.workflow.world import (
    World,
    job_of,
    let_postponed_be_due,
    let_presses_age,
    run_ready,
    statuses,
)
from tests.vendors.test_add_kills import Died
from tests.voucher_sandbox import BANK, PORTAL

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ONCE = {"payments": [1], "issued": [1], "redemptions": [1]}
BEFORE, AFTER = "before", "after"

MOMENTS = {
    "before the payment is intended": (Payment, "_commit", BEFORE),
    "before the card is pressed": (Payment, "_commit", AFTER),
    "after the card was pressed": (card_page, "pay", AFTER),
    "before the code is typed": (card_page, "give_code", BEFORE),
    "after the code was typed": (card_page, "give_code", AFTER),
    "before the payment is settled": (effects, "settle", BEFORE),
    "before the payment is recorded": (recording, "record_paid", BEFORE),
    "after the payment was recorded": (recording, "record_paid", AFTER),
    "before the voucher is recorded": (recording, "record_voucher", BEFORE),
    "after the voucher was recorded": (recording, "record_voucher", AFTER),
    "before the redemption is intended": (RedemptionAct, "_commit", BEFORE),
    "before the voucher is pressed": (RedemptionAct, "_commit", AFTER),
    "after the voucher was pressed": (redeemer, "redeem", AFTER),
    "before the redemption is recorded": (recording, "record_redeemed", BEFORE),
}


class Doom:
    """Has the worker die at its moment, once. The dead commit nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, moment: tuple[Any, str, str]) -> None:
        self.is_dead = False
        place, name, when = moment
        monkeypatch.setattr(place, name, self._dying(getattr(place, name), when))
        commit = connection._commit
        monkeypatch.setattr(connection, "_commit", lambda: self._commit(commit))

    def _dying(self, real: Callable[..., Any], when: str) -> Callable[..., Any]:
        if place_is_async(real):

            @wraps(real)
            async def play(*args: Any, **kwargs: Any) -> Any:
                self._reach(when == BEFORE)
                answer = await real(*args, **kwargs)
                self._reach(when == AFTER)
                return answer

            return play

        @wraps(real)
        def act(*args: Any, **kwargs: Any) -> Any:
            self._reach(when == BEFORE)
            answer = real(*args, **kwargs)
            self._reach(when == AFTER)
            return answer

        return act

    def _reach(self, is_time: bool) -> None:
        if is_time and not self.is_dead:
            self.is_dead = True
            raise Died

    def _commit(self, commit: Callable[[], None]) -> None:
        if self.is_dead:
            connection._rollback()
            raise Died
        commit()


def place_is_async(function: Callable[..., Any]) -> bool:
    return bool(function.__code__.co_flags & 0x80)  # CO_COROUTINE


def live_until(world: World, monkeypatch: pytest.MonkeyPatch, moment: tuple[Any, str, str]) -> bool:
    """Whether the worker has died before all was done."""
    for _ in range(12):
        with monkeypatch.context() as patch:
            doom = Doom(patch, moment)
            try:
                run_ready()
            except Died:
                return True
            assert not doom.is_dead
        world.deliver_all()
        let_postponed_be_due()
    return False


def finish_elsewhere(world: World) -> None:
    for _ in range(2):
        world.recover()
        let_presses_age()
        world.work()


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_worker_that_dies_pays_and_redeems_once(moment, world, monkeypatch):
    purchase = world.start_paying()

    assert live_until(world, monkeypatch, moment)
    finish_elsewhere(world)

    assert (job_of(purchase).status, statuses(purchase)) == ("completed", ["redeemed"])
    assert world.truth(purchase) == ONCE
    assert set(Effect.objects.values_list("status", flat=True)) == {"confirmed"}


def test_without_its_effect_a_payment_whose_worker_died_is_made_twice(world, host, monkeypatch):
    world.sandbox.switch(BANK, frictionless=True)
    world.sandbox.switch(PORTAL, unpaid_lag_seconds=300)
    purchase = world.start_paying()

    assert live_until(world, monkeypatch, MOMENTS["after the card was pressed"])
    Effect.objects.all().delete()
    for key in world.parked_pages():
        host.end_parked(key)
    world.recover()
    run_ready()

    assert world.truth(purchase)["payments"] == [2]


def test_an_order_that_still_says_unpaid_after_the_payment_is_not_paid_again(
    world, host, monkeypatch
):
    world.sandbox.switch(BANK, frictionless=True)
    world.sandbox.switch(PORTAL, unpaid_lag_seconds=300)
    purchase = world.start_paying()

    assert live_until(world, monkeypatch, MOMENTS["after the card was pressed"])
    for key in world.parked_pages():
        host.end_parked(key)
    world.recover()
    for _ in range(2):
        run_ready()
        let_postponed_be_due()

    assert world.truth(purchase)["payments"] == [1]
    assert "is under way" in job_of(purchase).events.filter(kind="step.postponed").last().message
