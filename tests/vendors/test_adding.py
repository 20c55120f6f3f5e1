"""The add of an item is an effect: confirmed, absent or a person's to say, and never made twice."""

# ruff: noqa: F401, F811  fixtures come by import

import pytest

from accounts.models import User
from automation.errors import AccountBlocked, CaptchaSeen, CartUnclear, OutOfStock
from jobs import effects, live, steps
from jobs.control import rerun_job
from jobs.inbox import read_inbox
from jobs.models import Effect, Step
from jobs.runner import runner
from tests.vendors.shop import fail_once, shop
from tests.vendors.test_account_limits import ONE, TWO, enqueue, state
from tests.vendors.test_bound_account import failed_after_the_press, two
from vendors import queue_control
from vendors.adding import Add
from vendors.models import CartItem, VendorAccount

pytestmark = pytest.mark.django_db(transaction=True)

CLICKED = ["effect.intended", "effect.confirmed"]


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


@pytest.fixture
def olga(db) -> User:
    return User.objects.create_user("olga", is_staff=True)


@pytest.fixture
def unknown(vendor, account, shop):
    """An item of which a second attempt could not tell what came of the first."""
    item = failed_after_the_press(vendor, shop)
    shop.before_press = fail_once(CartUnclear("The pens may be ours or not."))
    rerun_job(item.job_id, by="alice")
    run_all()
    assert (state(item), item.error_code) == ("manual_required", "unknown_outcome")
    return item


def run_all() -> None:
    runner.run_ready_steps(["steps"])


def effect_of(item) -> Effect:
    return Effect.objects.get(job=item.job_id)


def kinds(item) -> list[str]:
    events = item.job.events.filter(kind__startswith="effect.").order_by("number")
    return list(events.values_list("kind", flat=True))


def test_add_is_intended_before_the_press_and_confirmed_after_it(vendor, account, shop):
    item = enqueue(vendor)

    run_all()

    effect = effect_of(item)
    assert (effect.key, effect.status) == (f"cart_add:{item.pk}", "confirmed")
    assert effect.intent["account"] == ONE
    assert effect.intent["cart_before"] == "The cart is empty."
    assert kinds(item) == CLICKED
    assert state(item) == "completed"


def test_confirmed_add_that_is_run_again_does_nothing_at_the_shop(vendor, account, shop):
    item = enqueue(vendor)
    run_all()
    shop.carts.clear()  # somebody has checked out

    for step in ("reserve_account", "add_to_cart"):
        rerun_job(item.job_id, step, by="alice")
        run_all()

    assert (state(item), shop.visits) == ("completed", [ONE])
    assert kinds(item) == CLICKED
    assert VendorAccount.objects.get().total_items_added == 1
    assert CartItem.objects.get().quantity == 1


def test_add_that_was_confirmed_by_a_worker_that_died_is_completed_without_the_shop(
    vendor, account, shop, monkeypatch
):
    class Died(BaseException):
        pass

    confirm = Add.confirm

    def confirm_and_die(add, output):
        confirm(add, output)
        raise Died

    item = enqueue(vendor)
    with monkeypatch.context() as patch:
        patch.setattr(Add, "confirm", confirm_and_die)
        with pytest.raises(Died):
            run_all()
    Step.objects.filter(status="running").update(status="ready", lease_expires_at=None)

    run_all()

    assert (state(item), shop.visits) == ("completed", [ONE])
    assert VendorAccount.objects.get().total_items_added == 1


def test_add_that_is_not_in_the_cart_is_absent_and_is_made_when_it_is_run_again(
    vendor, account, shop
):
    shop.clears, shop.after_press = True, fail_once(OutOfStock("Sold out."))
    item = enqueue(vendor)
    run_all()
    assert (state(item), effect_of(item).status) == ("failed", "absent")

    rerun_job(item.job_id, by="alice")
    run_all()

    assert (state(item), +shop.carts) == ("completed", {ONE: 1})
    assert (effect_of(item).status, effect_of(item).tries) == ("confirmed", 2)


def test_what_nobody_can_tell_is_in_the_inbox(unknown, olga):
    (asked,) = read_inbox(olga)["effects"]

    assert asked["title"] == f"Add 1 × {unknown} to the cart of {ONE}"
    assert asked["reason"] == "The pens may be ours or not."
    assert {each["label"]: each["text"] for each in asked["intent"]} == {
        "Vendor": "Vendor Co",
        "Account": ONE,
        "Product": unknown.product_url,
        "Quantity": "1",
        "Cart before": "The cart is empty.",
    }


def test_person_who_has_seen_it_in_the_cart_completes_the_item(unknown, olga, shop):
    visits = list(shop.visits)

    effects.decide(effect_of(unknown).pk, happened=True, by=olga)
    run_all()

    assert (state(unknown), shop.visits) == ("completed", visits)
    line = CartItem.objects.get()
    assert (line.queue_item, line.quantity, line.vendor_account.email) == (unknown, 1, ONE)


def test_person_who_has_not_seen_it_has_it_added_by_whichever_account(unknown, two, olga, shop):
    shop.carts.clear()
    VendorAccount.objects.filter(email=ONE).update(is_blocked=True)

    effects.decide(effect_of(unknown).pk, happened=False, by=olga)
    run_all()

    assert (state(unknown), +shop.carts) == ("completed", {TWO: 1})
    assert effect_of(unknown).intent["account"] == TWO


def test_item_in_the_cart_of_a_blocked_account_is_in_the_inbox(vendor, account, two, shop, olga):
    shop.after_press = fail_once(AccountBlocked("Suspended."))
    item = enqueue(vendor)
    run_all()
    steps.make_ready(item.job_id)  # as if the time of its retry had come
    run_all()
    assert (state(item), effect_of(item).status) == ("manual_required", "unknown")
    assert shop.visits == [ONE]

    effects.decide(effect_of(item).pk, happened=False, by=olga)
    run_all()

    assert (state(item), shop.visits) == ("completed", [ONE, TWO])


def test_item_that_was_seen_in_the_cart_of_a_deleted_account_stays_with_a_person(
    vendor, account, two, shop, olga
):
    item = failed_after_the_press(vendor, shop)
    account.delete()
    rerun_job(item.job_id, by="alice")
    run_all()

    effects.decide(effect_of(item).pk, happened=True, by=olga)
    run_all()

    assert (state(item), item.error_code) == ("manual_required", "cart_out_of_reach")
    assert shop.visits == [ONE]


def test_person_is_asked_of_an_add_whose_job_ended_and_not_after_completing_the_item(
    vendor, account, shop, olga
):
    shop.after_press = fail_once(CaptchaSeen("Are you human?"))
    item = enqueue(vendor)
    run_all()
    assert (state(item), effect_of(item).status) == ("manual_required", "intended")
    (asked,) = read_inbox(olga)["effects"]
    assert asked["id"] == str(effect_of(item).pk)

    queue_control.complete_by_hand(item.pk, by="olga")

    assert (state(item), effect_of(item).status) == ("completed", "confirmed")
    assert read_inbox(olga)["effects"] == []


def test_item_that_a_person_gave_up_may_be_in_a_cart_and_stays_in_the_inbox(
    vendor, account, shop, olga
):
    shop.after_press = fail_once(CaptchaSeen("Are you human?"))
    item = enqueue(vendor)
    run_all()

    queue_control.fail_by_hand(item.pk, by="olga")

    assert len(read_inbox(olga)["effects"]) == 1
    effects.decide(effect_of(item).pk, happened=False, by=olga)
    assert (state(item), effect_of(item).status) == ("failed", "absent")
    assert read_inbox(olga)["effects"] == []
