"""A request over REST, a real browser in a real worker, and the shop's own ledger."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import PASSWORD, SandboxShop
from tests.e2e.stack import Stack
from tests.waiting import wait_until

ALICE = "alice@corner.example"


@pytest.fixture(scope="module", autouse=True)
def alice(corner_vendor: SandboxShop) -> None:
    corner_vendor.add_account(ALICE)


def post(erpnext: httpx.Client, shop: SandboxShop, slug: str, **data: Any) -> str:
    body = {
        "user_id": "system",
        "vendor_id": shop.vendor_id,
        "product_url": shop.url_of(slug),
        "product_data": data,
    }
    answer = erpnext.post("/api/cart/add", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["queue_id"])


def gained(before: dict[Any, int], after: dict[Any, int]) -> dict[Any, int]:
    growth = {line: after[line] - before.get(line, 0) for line in after}
    return {line: count for line, count in growth.items() if count}


def test_quantity_and_variant_are_in_the_cart_just_as_asked_for(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    before = corner.cart(ALICE)

    queue_id = post(erpnext, corner, "gel-pens", quantity=3, variant={"Colour": "Blue"})
    status = stack.wait_for_item(erpnext, queue_id)

    assert (status["status"], status["attempts"], status["error_message"]) == ("completed", 1, None)
    assert gained(before, corner.cart(ALICE)) == {("gel-pens", "Blue"): 3}


def test_the_second_add_of_an_account_does_no_log_in(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    stack.wait_for_item(erpnext, post(erpnext, corner, "desktop-stapler"))
    logins = corner.logins(ALICE)

    status = stack.wait_for_item(erpnext, post(erpnext, corner, "highlighters"))

    assert status["status"] == "completed"
    assert corner.logins(ALICE) == logins


def test_a_new_worker_goes_on_with_the_saved_session(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    stack.wait_for_item(erpnext, post(erpnext, corner, "desktop-stapler"))
    logins = corner.logins(ALICE)
    stack.kill("worker")
    stack.start_worker()

    status = stack.wait_for_item(erpnext, post(erpnext, corner, "highlighters"))

    assert status["status"] == "completed"
    assert corner.logins(ALICE) == logins


def test_a_shop_that_confirms_nothing_is_believed_by_its_cart(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    corner.switch(confirmation="none")
    before = corner.cart(ALICE)

    status = stack.wait_for_item(erpnext, post(erpnext, corner, "copier-paper", quantity=2))

    assert status["status"] == "completed"
    assert gained(before, corner.cart(ALICE)) == {("copier-paper", ""): 2}


def test_depot_without_a_quantity_field_gets_the_quantity_in_its_cart(
    stack: Stack, erpnext: httpx.Client, depot: SandboxShop
) -> None:
    queue_id = post(erpnext, depot, "10244-mailer-box", quantity=4)

    assert stack.wait_for_item(erpnext, queue_id)["status"] == "completed"
    assert depot.cart("alice@depot.example") == {("10244-mailer-box", ""): 4}


def test_out_of_stock_fails_with_that_reason_and_no_retry(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    before = corner.cart(ALICE)

    status = stack.wait_for_item(erpnext, post(erpnext, corner, "drafting-lamp"))

    assert (status["status"], status["attempts"]) == ("failed", 1)
    assert "stock" in status["error_message"].lower()
    assert corner.cart(ALICE) == before


def test_a_captcha_hands_the_item_to_a_person(
    stack: Stack, erpnext: httpx.Client, gate: SandboxShop
) -> None:
    status = stack.wait_for_item(erpnext, post(erpnext, gate, "quiet-mouse"))

    assert (status["status"], status["attempts"]) == ("manual_required", 1)
    assert "captcha" in status["error_message"].lower()
    assert gate.cart("alice@gate.example") == {}


def test_a_redirect_to_a_private_address_is_refused_in_the_browser(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    corner.switch(product="desktop-stapler", redirect_to="http://10.1.2.3/metadata")

    status = stack.wait_for_item(erpnext, post(erpnext, corner, "desktop-stapler"))

    assert (status["status"], status["attempts"]) == ("failed", 1)
    assert "10.1.2.3" in status["error_message"]


def test_an_add_whose_answer_hangs_is_found_in_the_cart_and_not_made_twice(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    before = corner.cart(ALICE)
    corner.switch(hang_adds=1, hang_seconds=60)

    status = stack.wait_for_item(erpnext, post(erpnext, corner, "archive-box", quantity=2), 110)

    assert status["status"] == "completed"
    assert gained(before, corner.cart(ALICE)) == {("archive-box", ""): 2}


def test_a_worker_killed_after_the_click_leaves_one_line_and_no_chromium(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    before = corner.cart(ALICE)
    corner.switch(hang_adds=1, hang_seconds=30)
    queue_id = post(erpnext, corner, "blue-black-ink", quantity=2)
    wait_until(lambda: gained(before, corner.cart(ALICE)))

    stack.kill("worker")
    stack.start_worker()
    status = stack.wait_for_item(erpnext, queue_id, 110)

    assert (status["status"], status["attempts"]) == ("completed", 2)
    assert gained(before, corner.cart(ALICE)) == {("blue-black-ink", ""): 2}


def test_a_changed_page_is_retried_and_each_attempt_leaves_evidence(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    corner.switch(product="wall-planner", moved_selector=True)
    earlier = _artifacts(stack)

    queue_id = post(erpnext, corner, "wall-planner")
    wait_until(lambda: len(_artifacts(stack) - earlier) == 4, 60)
    corner.switch(product="wall-planner", moved_selector=False)
    status = stack.wait_for_item(erpnext, queue_id)

    assert (status["status"], status["attempts"]) == ("completed", 2)
    left = _artifacts(stack) - earlier
    assert sorted(path.name.split("_")[0].split(".")[0] for path in left) == [
        *("1-console", "1-network", "1-page", "1-screenshot"),
    ]
    assert not [path for path in left if PASSWORD.encode() in path.read_bytes()]


def test_a_429_slows_us_down_and_costs_no_attempt(
    stack: Stack, erpnext: httpx.Client, corner: SandboxShop
) -> None:
    corner.switch(rate_limit=1, rate_window_seconds=3)

    queue_id = post(erpnext, corner, "steel-scissors")
    time.sleep(1.5)
    corner.http.delete("switches")
    status = stack.wait_for_item(erpnext, queue_id)

    assert (status["status"], status["attempts"]) == ("completed", 1)


def _artifacts(stack: Stack) -> set[Path]:
    return {path for path in (stack.logs / "artifacts").rglob("*") if path.is_file()}
