"""The shop flow against the sandbox shops, each claim compared with the shop's own ledger."""

import time
from uuid import uuid4

import pytest

from automation.errors import (
    AccountBlocked,
    AddressRefused,
    CaptchaSeen,
    OptionUnavailable,
    OutOfStock,
    PageChanged,
    QuantityRefused,
    RateLimited,
    SessionLost,
    SiteError,
    WrongCredentials,
)
from automation.shop import CartRequest
from tests.automation.buyer import PASSWORD, Buyer
from tests.automation.test_sandbox import Control, Customer, sandbox_process

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def sandbox_url(tmp_path_factory):
    with sandbox_process(tmp_path_factory.mktemp("sandbox") / "ledger.sqlite3") as (_, url):
        yield url


@pytest.fixture
def corner(sandbox_url):
    yield from open_shop(sandbox_url, "corner")


@pytest.fixture
def depot(sandbox_url):
    yield from open_shop(sandbox_url, "depot")


@pytest.fixture
def stranger(shared_host):
    """Has an account, and has never been at the shop in this browser."""
    return Buyer(shared_host, email=f"{uuid4().hex[:12]}@example.test")


@pytest.fixture
def buyer(stranger, request):
    """Is logged in at the shop of the test, with an empty cart."""
    shop = request.getfixturevalue("corner" if "corner" in request.fixturenames else "depot")
    shop.open_account(stranger)
    shop.log_in(stranger)
    return stranger


def open_shop(url, name):
    with Shop(url, f"{name}.localhost") as shop:
        yield shop
        shop.delete("/_sandbox/switches")


class Shop(Control):
    """A sandbox shop, with what the tests ask of it."""

    @property
    def vendor(self):
        return self.ask("vendor")

    def product(self, slug, quantity=1, variant=None):
        urls = {each["slug"]: each["url"] for each in self.ask("products")["products"]}
        return CartRequest(urls[slug], quantity, variant)

    def open_account(self, buyer, password=PASSWORD):
        account = {"email": buyer.credentials.email, "password": password}
        self.post("/_sandbox/accounts", json=account).raise_for_status()

    def log_in(self, buyer):
        with Customer(self, buyer.credentials.email) as customer:
            customer.log_in(PASSWORD)
            cookies = [
                {"name": name, "value": value, "domain": self.host, "path": "/"}
                for name, value in customer.cookies.items()
            ]
        buyer.storage_state = {"cookies": cookies, "origins": []}
        buyer.cart = ()

    def cart_of(self, buyer):
        lines = self.ask("cart", account=buyer.credentials.email)["lines"]
        return [(line["product"], line["quantity"], *line["variant"].values()) for line in lines]

    def log_ins_of(self, buyer):
        return self.ask("logins", account=buyer.credentials.email)["succeeded"]


def test_an_add_is_in_the_cart_of_the_account(corner, stranger):
    corner.open_account(stranger)

    result = stranger.add(corner.vendor, corner.product("highlighters", 3))

    assert corner.cart_of(stranger) == [("highlighters", 3)]
    assert (result.quantity_before, result.quantity_after) == (0, 3)
    assert result.confirmed
    assert result.signed_in
    assert result.line.name == "Highlighters, set of 6"


def test_the_next_add_logs_in_no_more_and_reads_no_cart_first(corner, buyer):
    buyer.add(corner.vendor, corner.product("highlighters"))
    buyer.forget_browser()

    second = buyer.add(corner.vendor, corner.product("highlighters", 2))

    assert corner.cart_of(buyer) == [("highlighters", 3)]
    assert (second.quantity_before, second.quantity_after) == (1, 3)
    assert not second.signed_in
    assert corner.log_ins_of(buyer) == 1
    assert buyer.trail == ["Opening the product", "Adding to the cart", "Opening the cart"]


@pytest.mark.parametrize(
    ("slug", "quantity", "variant", "line"),
    [
        ("gel-pens", 2, "black", ("gel-pens", 2, "Black")),
        ("gel-pens", 1, {"colour": " Blue"}, ("gel-pens", 1, "Blue")),
        (
            "linen-notebook",
            1,
            {"Cover": "sand", "Ruling": "LINED"},
            ("linen-notebook", 1, "Sand", "Lined"),
        ),
        ("hanging-folders", 1, "Foolscap", ("hanging-folders", 1, "Foolscap")),
        ("name-badge", 1, {"Engraving": 'O\'Neil "x"'}, ("name-badge", 1, 'O\'Neil "x"')),
        ("pencil-gift-box", 1, {"Gift wrap": "yes"}, ("pencil-gift-box", 1, "yes")),
        ("pencil-gift-box", 1, {"Gift wrap": "no"}, ("pencil-gift-box", 1, "no")),
        ("envelopes", 3, {"Format": "C4"}, ("envelopes", 3, "C4")),
    ],
)
def test_options_of_every_kind_are_chosen(corner, buyer, slug, quantity, variant, line):
    corner.switch(variant_ajax_ms=300)

    buyer.add(corner.vendor, corner.product(slug, quantity, variant))

    assert corner.cart_of(buyer) == [line]


@pytest.mark.parametrize(
    ("slug", "quantity", "variant", "line"),
    [
        ("10244-mailer-box", 3, None, ("10244-mailer-box", 3)),
        ("10231-double-wall-box", 2, "450 mm", ("10231-double-wall-box", 2, "450 mm")),
        ("10702-work-gloves", 1, {"Glove size": "9"}, ("10702-work-gloves", 1, "9")),
        ("10440-packing-tape", 1, "Case of 36", ("10442-packing-tape-36-rolls", 1)),
        ("10440-packing-tape", 2, {"Pack": "Pack of 6"}, ("10441-packing-tape-6-rolls", 2)),
    ],
)
def test_a_shop_built_unlike_the_others_takes_the_same_flow(
    depot, buyer, slug, quantity, variant, line
):
    depot.switch(variant_ajax_ms=300)

    buyer.add(depot.vendor, depot.product(slug, quantity, variant))

    assert depot.cart_of(buyer) == [line]


def test_two_variants_of_a_product_are_two_lines(corner, buyer):
    buyer.add(corner.vendor, corner.product("gel-pens", 2, "Black"))

    second = buyer.add(corner.vendor, corner.product("gel-pens", 1, "Blue"))

    assert corner.cart_of(buyer) == [("gel-pens", 2, "Black"), ("gel-pens", 1, "Blue")]
    assert (second.quantity_before, second.quantity_after) == (0, 1)


@pytest.mark.parametrize(
    ("how", "stale"),
    [
        ("redirect", False),
        ("flash", False),
        ("flash", True),
        ("toast", False),
        ("toast", True),
        ("overlay", False),
        ("drawer", False),
        ("none", False),
    ],
)
def test_the_cart_decides_however_the_shop_confirms(corner, buyer, how, stale):
    corner.switch(confirmation=how, stale_message=stale)
    first = buyer.add(corner.vendor, corner.product("highlighters", 2))

    second = buyer.add(corner.vendor, corner.product("highlighters"))

    assert corner.cart_of(buyer) == [("highlighters", 3)]
    assert (second.quantity_before, second.quantity_after) == (2, 3)
    if how != "none":
        assert first.confirmed


def test_a_session_the_shop_has_forgotten_is_renewed_once(corner, buyer):
    buyer.add(corner.vendor, corner.product("highlighters"))
    corner.post("/_sandbox/expire", json={})

    second = buyer.add(corner.vendor, corner.product("highlighters"))

    assert second.signed_in
    assert corner.log_ins_of(buyer) == 2
    assert corner.cart_of(buyer) == [("highlighters", 2)]


def test_an_add_confirmed_into_a_cart_of_nobody_is_noticed_and_made_good(corner, buyer):
    buyer.add(corner.vendor, corner.product("clear-tape"))
    corner.switch(expire_before_adds=1)

    with pytest.raises(SessionLost):
        buyer.add(corner.vendor, corner.product("highlighters", 2))
    assert corner.cart_of(buyer) == [("clear-tape", 1)]
    result = buyer.add(corner.vendor, corner.product("highlighters", 2), intent=buyer.intents[-1])

    assert (result.quantity_before, result.quantity_after) == (0, 2)
    assert corner.cart_of(buyer) == [("clear-tape", 1), ("highlighters", 2)]


def test_a_cart_of_the_session_is_kept_by_the_saved_storage_state(corner, buyer):
    corner.switch(cart_scope="session")
    buyer.add(corner.vendor, corner.product("highlighters"))
    buyer.forget_browser()

    second = buyer.add(corner.vendor, corner.product("clear-tape"))

    assert [line.quantity for line in second.cart] == [1, 1]
    assert corner.log_ins_of(buyer) == 1


@pytest.mark.parametrize("where", ["login", "after_login", "product", "add"])
def test_a_captcha_ends_the_attempt_wherever_it_comes(corner, stranger, where):
    corner.open_account(stranger)
    corner.switch(captcha=where)

    with pytest.raises(CaptchaSeen):
        stranger.add(corner.vendor, corner.product("highlighters"))

    assert corner.cart_of(stranger) == []


def test_a_blocked_account_is_told_from_a_wrong_password(corner, stranger):
    corner.open_account(stranger)
    corner.switch(blocked=True, account=stranger.credentials.email)

    with pytest.raises(AccountBlocked):
        stranger.add(corner.vendor, corner.product("highlighters"))


def test_an_account_blocked_while_its_session_lives_is_noticed(corner, buyer):
    buyer.add(corner.vendor, corner.product("highlighters"))
    corner.switch(blocked=True, account=buyer.credentials.email)

    with pytest.raises(AccountBlocked):
        buyer.add(corner.vendor, corner.product("highlighters"))

    assert corner.cart_of(buyer) == [("highlighters", 1)]


def test_a_wrong_password_is_tried_once(corner, stranger):
    corner.open_account(stranger, password="another")

    with pytest.raises(WrongCredentials, match="refused the log-in"):
        stranger.add(corner.vendor, corner.product("highlighters"))

    logins = corner.ask("logins", account=stranger.credentials.email)["logins"]
    assert len(logins) == 1


@pytest.mark.parametrize("how", ["shown", "on_add"])
def test_out_of_stock_is_said_with_the_reason(corner, buyer, how):
    corner.switch(out_of_stock=how, product="highlighters")

    with pytest.raises(OutOfStock):
        buyer.add(corner.vendor, corner.product("highlighters"))

    assert corner.cart_of(buyer) == []


def test_an_impossible_combination_is_refused_by_the_answer(corner, buyer):
    request = corner.product("linen-notebook", 1, {"Ruling": "Dotted", "Cover": "Forest"})

    with pytest.raises((OptionUnavailable, OutOfStock)):
        buyer.add(corner.vendor, request)

    assert corner.cart_of(buyer) == []


@pytest.mark.parametrize(
    ("variant", "known"),
    [
        ("Purple", "Black, Blue, Red, Green"),
        ({"Colour": "Purple"}, "Black, Blue, Red, Green"),
        ({"Shade": "Black"}, "Colour, Layout"),
    ],
)
def test_an_unknown_choice_names_those_there_are(corner, buyer, variant, known):
    vendor = corner.vendor
    vendor["selectors"]["variants"] = {
        name: vendor["selectors"]["variants"][name] for name in ("Colour", "Layout")
    }

    with pytest.raises(OptionUnavailable, match=known):
        buyer.add(vendor, corner.product("gel-pens", 1, variant))

    assert corner.cart_of(buyer) == []


@pytest.mark.parametrize(("slug", "quantity"), [("copier-paper", 21), ("wall-planner", 4)])
def test_a_maximum_said_after_the_post_refuses_the_quantity(corner, buyer, slug, quantity):

    with pytest.raises(QuantityRefused, match=r"The cart is empty"):
        buyer.add(corner.vendor, corner.product(slug, quantity))

    assert corner.cart_of(buyer) == []


def test_a_maximum_said_by_the_cart_tells_what_the_cart_holds(depot, buyer):

    with pytest.raises(QuantityRefused, match=r"at most 24 .* The cart holds 1 x Stretch film"):
        buyer.add(depot.vendor, depot.product("10610-stretch-film", 25))

    assert depot.cart_of(buyer) == [("10610-stretch-film", 1)]


def test_429_says_how_long_to_wait(corner, buyer):
    corner.switch(rate_limit=1)
    buyer.cart = None  # the cart is read first

    with pytest.raises(RateLimited) as caught:
        buyer.add(corner.vendor, corner.product("highlighters"))

    assert 0 < caught.value.retry_after_seconds <= 60


def test_429_to_the_add_is_not_taken_for_the_shops_refusal(corner, buyer):
    corner.switch(rate_limit=1)  # the product page

    with pytest.raises(RateLimited):
        buyer.add(corner.vendor, corner.product("highlighters"))

    assert "Adding to the cart" in buyer.trail
    corner.switch(rate_limit=None)
    assert corner.cart_of(buyer) == []


def test_a_limit_on_log_ins_is_no_wrong_password(corner, stranger):
    corner.open_account(stranger)
    corner.switch(login_limit=1)
    corner.log_in(stranger)
    corner.post("/_sandbox/expire", json={})

    with pytest.raises(RateLimited):
        stranger.add(corner.vendor, corner.product("highlighters"))


def test_a_server_error_is_told_as_such(corner, buyer):
    corner.switch(fail_next=1)

    with pytest.raises(SiteError, match="500"):
        buyer.add(corner.vendor, corner.product("highlighters"))


def test_a_server_error_to_the_add_is_told_after_a_look_at_the_cart(corner, buyer):
    with pytest.raises(SiteError, match="500"):
        buyer.add(
            corner.vendor,
            corner.product("highlighters"),
            at_checkpoint=lambda: corner.switch(fail_next=1),
        )

    assert corner.cart_of(buyer) == []


def test_a_moved_selector_names_what_moved(corner, buyer):
    corner.switch(moved_selector=True)

    with pytest.raises(PageChanged, match="add_to_cart") as caught:
        buyer.add(corner.vendor, corner.product("highlighters"))

    assert caught.value.selector == ".buybox button.add-to-basket"


@pytest.mark.parametrize("milliseconds", [1500, 4000])
def test_something_that_covers_the_button_is_waited_for(corner, buyer, milliseconds):
    corner.switch(overlay_ms=milliseconds)

    buyer.add(corner.vendor, corner.product("highlighters"))

    assert corner.cart_of(buyer) == [("highlighters", 1)]


@pytest.mark.parametrize("confirmation", ["toast", "redirect"])
def test_an_add_whose_answer_hangs_is_found_in_the_cart(corner, buyer, confirmation):
    corner.switch(hang_adds=1, confirmation=confirmation)

    result = buyer.add(corner.vendor, corner.product("highlighters", 2))

    assert result.quantity_after == 2
    assert not result.confirmed
    assert corner.cart_of(buyer) == [("highlighters", 2)]


def test_an_attempt_that_died_after_the_press_is_not_made_again(corner, buyer):
    corner.switch(hang_adds=1)
    with pytest.raises(Exception, match="time limit"):
        buyer.add(corner.vendor, corner.product("highlighters", 2), timeout=5)

    result = buyer.add(corner.vendor, corner.product("highlighters", 2), intent=buyer.intents[-1])

    assert (result.quantity_before, result.quantity_after) == (0, 2)
    assert "Adding to the cart" not in buyer.trail
    assert corner.cart_of(buyer) == [("highlighters", 2)]
    assert len(buyer.intents) == 1


def test_an_attempt_that_died_before_the_press_is_made(corner, buyer):
    buyer.add(corner.vendor, corner.product("highlighters"))

    def die():
        raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError):
        buyer.add(corner.vendor, corner.product("highlighters", 2), at_checkpoint=die)
    result = buyer.add(corner.vendor, corner.product("highlighters", 2), intent=buyer.intents[-1])

    assert (result.quantity_before, result.quantity_after) == (1, 3)
    assert corner.cart_of(buyer) == [("highlighters", 3)]


def test_an_add_that_takes_effect_late_is_waited_for(corner, buyer):
    corner.switch(add_delay_ms=4000)

    buyer.add(corner.vendor, corner.product("highlighters"))

    assert corner.cart_of(buyer) == [("highlighters", 1)]


def test_the_button_is_pressed_once(corner, buyer):
    corner.switch(double_click_adds=True)

    buyer.add(corner.vendor, corner.product("highlighters"))

    entries = corner.ask("ledger", account=buyer.credentials.email)["entries"]
    assert [entry["action"] for entry in entries if entry["action"].startswith("add")] == ["add"]


def test_a_redirect_to_a_private_address_is_refused(corner, buyer):
    corner.switch(redirect_to="http://10.0.0.7/admin")

    with pytest.raises(AddressRefused, match=r"10\.0\.0\.7"):
        buyer.add(corner.vendor, corner.product("highlighters"))


def test_a_slow_shop_is_no_broken_one(depot, buyer):
    depot.switch(latency_ms=700)
    started = time.monotonic()

    buyer.add(depot.vendor, depot.product("10244-mailer-box", 2))

    assert depot.cart_of(buyer) == [("10244-mailer-box", 2)]
    assert time.monotonic() - started < 20
