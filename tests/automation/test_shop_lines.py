"""The decisions of the shop flow that need no browser: lines, addresses, quantities, selectors."""

from datetime import UTC, datetime

import pytest

from automation.errors import CartMismatch, OptionUnavailable
from automation.shop.addresses import Likeness, is_front_page, likeness, same_path
from automation.shop.flow import decide_rest
from automation.shop.lines import describe_cart, measure_add, measure_after_absence, wrong_option
from automation.shop.options import decide_choices
from automation.shop.placeholder import fill_in, spellings
from automation.shop.quantities import parse_quantity, quantity_in_row
from automation.shop.request import AddIntent, CartLine, Credentials, Product
from automation.site import Selectors, VariantControl
from automation.traffic import retry_after_seconds

SHOP = "https://shop.example"
SHIRT = Product((f"{SHOP}/p/shirt",), ("Shirt",))


def line(name, quantity, path=None, text=None):
    return CartLine(name, quantity, (SHOP + path,) if path else (), text or f"{name} {quantity}")


# ---- addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/p/tea", "/p/tea", Likeness.SAME),
        ("/p/tea", "/p/tea/", Likeness.SAME),
        ("/p/tea", "/P/Tea?utm_source=mail&gclid=1", Likeness.SAME),
        ("/p/gr%C3%BCn", "/p/grün", Likeness.SAME),
        ("/p/tea", "/p/tea?variant=7", Likeness.PAGE),
        ("/p/tea?variant=7", "/p/tea?variant=8", Likeness.NONE),
        ("/p/42", "/p/42?size=l", Likeness.PAGE),
        ("/p/42", "/q/42", Likeness.NONE),
        ("/sale/7-mug.html", "/en/home/7-mug.html", Likeness.SLUG),
        ("/a/product", "/b/product", Likeness.NONE),
        ("/index.php?id=1", "/index.php", Likeness.NONE),
        ("/index.php?id=1", "/index.php?id=2", Likeness.NONE),
        ("/index.php?id=1", "/index.php?id=1&lang=en", Likeness.PAGE),
        ("/#/product/5", "/#/product/5", Likeness.SAME),
        ("/#/product/5", "/#/product/6", Likeness.NONE),
        ("/p/tea#reviews", "/p/tea", Likeness.SAME),
    ],
)
def test_addresses_of_one_product_are_told_from_those_of_another(one, other, expected):
    assert likeness(SHOP + one, SHOP + other) is expected
    assert likeness(SHOP + other, SHOP + one) is expected


def test_the_host_counts_and_www_does_not():
    assert likeness("https://www.shop.example/p/tea", "http://shop.example:80/p/tea")
    assert not likeness("https://shop.example/p/tea", "https://other.example/p/tea")
    assert not likeness("https://shop.example/p/tea", "http://[broken")


def test_same_path_ignores_the_query():
    assert same_path(f"{SHOP}/cart?added=1", f"{SHOP}/cart/")
    assert not same_path(f"{SHOP}/cart", f"{SHOP}/cart/checkout")
    assert not same_path("", "")


def test_a_front_page_has_no_path():
    assert is_front_page(f"{SHOP}/?utm_source=x")
    assert not is_front_page(f"{SHOP}/?p=7")
    assert not is_front_page(f"{SHOP}/#/product/5")


# ---- lines ------------------------------------------------------------------------------------


def test_growth_of_a_line_with_the_products_link():
    progress = measure_add(
        SHIRT,
        [line("Hemd", 1, "/p/shirt"), line("Mug", 1, "/p/mug")],
        [line("Hemd", 3, "/p/shirt"), line("Mug", 1, "/p/mug")],
    )

    assert (progress.before, progress.now, progress.line.name) == (1, 3, "Hemd")


def test_a_link_is_believed_before_a_name():
    namesake = line("Shirt", 4, "/p/other-shirt")

    progress = measure_add(SHIRT, [namesake], [namesake, line("Top", 1, "/p/shirt")])

    assert (progress.before, progress.now, progress.line.name) == (0, 1, "Top")


def test_of_two_variants_the_chosen_one_is_measured():
    black = Product(SHIRT.links, SHIRT.names, (("Black",), ("L", "Large")))
    white_l = line("Shirt", 2, "/p/shirt", "Shirt White L 2")
    black_l = line("Shirt", 1, "/p/shirt", "Shirt Black L 1")

    progress = measure_add(black, [white_l], [white_l, black_l])

    assert (progress.before, progress.now, progress.line) == (0, 1, black_l)


def test_a_cart_that_shows_no_options_is_measured_by_its_sum():
    black = Product(SHIRT.links, SHIRT.names, (("Black",),))

    progress = measure_add(
        black, [line("Shirt", 2, "/p/shirt")], [line("Shirt", 2, "/p/shirt")] * 2
    )

    assert (progress.before, progress.now) == (2, 4)


BLACK_CUP = Product(
    (f"{SHOP}/p/cup-white", f"{SHOP}/p/cup-white?color=2"), ("Cup - Black",), (("Black",),)
)
WHITE = line("Cup - White", 1, "/p/cup-white")


def black(quantity):
    return line("Cup - Black", quantity, "/p/cup-black")


def test_the_address_asked_for_may_be_the_other_variants():
    progress = measure_add(BLACK_CUP, [WHITE, black(2)], [WHITE, black(4)])
    later = decide_rest(AddIntent(BLACK_CUP, 2, (WHITE, black(2))), (WHITE, black(4)))

    assert (progress.before, progress.now, progress.line) == (2, 4, black(4))
    assert later.growth == 2


def test_a_variant_that_only_its_growth_gives_away_is_found():
    cup = Product(BLACK_CUP.links, ("Cup",), (("Black",),))

    progress = measure_add(cup, [WHITE], [WHITE, black(2)])
    later = decide_rest(AddIntent(cup, 2, (WHITE,)), (WHITE, black(2)))

    assert progress.line == later.line == black(2)


def test_another_variant_that_grew_instead_is_no_add():
    cup = Product(BLACK_CUP.links, ("Cup",), (("White",),))

    progress = measure_add(cup, [WHITE], [WHITE, black(1)])

    assert progress.growth == 0


def test_an_add_without_effect_is_none_even_beside_a_namesake():
    before = [line("Shirt holder", 1, "/p/holder")]

    assert measure_add(SHIRT, before, before).growth == 0


def test_growth_of_a_stranger_counts_when_only_we_have_added():
    before = [line("Art. 1", 1)]

    progress = measure_add(SHIRT, before, [line("Art. 1", 1), line("Art. 2", 2)])

    assert (progress.growth, progress.line.name) == (2, "Art. 2")


def test_growth_of_two_strangers_tells_nothing():
    assert measure_add(SHIRT, [], [line("Art. 1", 1), line("Art. 2", 1)]).line is None


def test_later_a_strangers_growth_is_no_proof():
    intent = AddIntent(SHIRT, 2, (line("Mug", 1, "/p/mug"),))

    progress = measure_after_absence(SHIRT, intent, [line("Mug", 3, "/p/mug")])

    assert (progress.growth, progress.line) == (0, None)


def test_later_a_nameless_growth_cannot_be_told():
    intent = AddIntent(SHIRT, 2, ())

    with pytest.raises(CartMismatch, match="may or may not"):
        decide_rest(intent, (line("Art. 2", 2),))


@pytest.mark.parametrize(
    ("now", "arrived"), [([], 0), ([("Shirt", 1)], 1), ([("Shirt", 3)], 3), ([("Mug", 1)], 0)]
)
def test_what_has_arrived_of_an_earlier_attempt(now, arrived):
    intent = AddIntent(SHIRT, 3, ())
    cart = tuple(line(name, count, f"/p/{name.lower()}") for name, count in now)

    assert decide_rest(intent, cart).growth == arrived


def test_a_cart_that_was_emptied_since_counts_from_nothing():
    intent = AddIntent(SHIRT, 3, (line("Shirt", 2, "/p/shirt"),))

    assert decide_rest(intent, ()).growth == 0


@pytest.mark.parametrize("now", [1, 6])
def test_a_quantity_that_fits_no_story_goes_to_a_person(now):
    intent = AddIntent(SHIRT, 3, (line("Shirt", 2, "/p/shirt"),))

    with pytest.raises(CartMismatch):
        decide_rest(intent, (line("Shirt", now, "/p/shirt"),))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Shirt Black 1", None),
        ("Shirt White 1", "White"),
        ("Shirt 1", None),
        ("Shirt M 5", None),
    ],
)
def test_the_value_of_another_choice_is_noticed(text, wrong):
    product = Product((), ("Shirt",), (("Black", "b1"),), ("White", "M", "5", "Shirt"))

    assert wrong_option(product, line("Shirt", 1, text=text)) == wrong


def test_a_value_within_the_chosen_one_is_no_other():
    product = Product((), (), (("Light Blue",),), ("Blue",))

    assert wrong_option(product, line("Shirt", 1, text="Shirt, blue")) is None


def test_a_long_cart_is_described_in_short():
    cart = [line(f"Item {n}", n) for n in range(1, 8)]

    assert describe_cart(cart).endswith("5 x Item 5 and 2 more.")
    assert describe_cart([]) == "The cart is empty."


# ---- quantities -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("2", 2),
        (" 12 ", 12),
        ("2 x", 2),
        ("× 2", 2),
        ("Qty: 2", 2),
        ("Size 10, Qty 2", 2),
        ("Menge 3 Stück", 3),
        ("2.00", 2),
        ("1,0", 1),
        ("1,000", 1000),
        ("1.250", 1250),
        ("٣", 3),
        ("\uff12", 2),
        ("3 of 10", 3),
        ("0", 0),
        ("1.5 kg", None),
        ("", None),
        ("…", None),
    ],
)
def test_quantities_are_read_in_many_hands(text, quantity):
    assert parse_quantity(text) == quantity


@pytest.mark.parametrize(
    ("text", "name", "quantity"),
    [
        ("Green Tea £4.50", "Green Tea", 1),
        ("Green Tea 2 × £4.50", "Green Tea", 2),
        ("2 x 4.50 Green Tea", "Green Tea", 2),
        ("Green Tea x3", "Green Tea", 3),
        ("Board 10 x 20 cm £4", "Board", 1),
        ("Pack 2 x 50 £4 Quantity: 3", "Pack 2 x 50", 3),
        ("Pack 2 x £4", "Pack 2 x £4", 2),
    ],
)
def test_a_row_without_a_quantity_cell_says_it_in_its_text(text, name, quantity):
    assert quantity_in_row(text, name) == quantity


# ---- selectors with a value -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "value", "filled"),
    [
        ("#size", "L", "#size"),
        ("[data-v='{value}']", "L", "[data-v='L']"),
        ("[data-v='{value}']", "O'Neil", "[data-v='O\\'Neil']"),
        ('[data-v="{value}"]', '5" pipe', '[data-v="5\\" pipe"]'),
        ("#size-{value}", "X L", "#size-X\\ L"),
        ("#{value}", "3XL", "#\\33 XL"),
        ("li:has-text('{value}')", "a\\b", "li:has-text('a\\\\b')"),
        ("//li[.='{value}']", "L", '//li[.="L"]'),
        ("//li[.='{value}']", "O'Neil", '//li[.="O\'Neil"]'),
        ("//li[.='{value}']", '5"', "//li[.='5\"']"),
        ("//li[.='{value}']", "5\" O'", "//li[.=concat('5\" O', \"'\")]"),
        ("//li[@a='x-{value}']", "L", '//li[@a="x-L"]'),
    ],
)
def test_a_value_is_put_into_a_selector_safely(selector, value, filled):
    assert fill_in(selector, value) == filled


def test_a_value_is_tried_as_shops_spell_it():
    assert spellings(" light  Blue")[:2] == [" light  Blue", "light Blue"]
    assert {"light blue", "LIGHT BLUE", "Light Blue", "light-blue"} <= set(spellings("light Blue"))


# ---- choices ----------------------------------------------------------------------------------

SIZE = VariantControl("select", "#size")
COLOUR = VariantControl("click", "#c")


def test_option_names_are_matched_without_case_and_signs():
    own = Selectors(variants={"Pack size": SIZE})

    [[choice]] = decide_choices({"pack-SIZE": 6}, own)

    assert (choice.name, choice.value, choice.control) == ("Pack size", "6", SIZE)


def test_a_bare_value_may_mean_any_option():
    own = Selectors(variants={"Size": SIZE, "Colour": COLOUR}, variant_link="a")

    [readings] = decide_choices("L", own)

    assert [reading.name for reading in readings] == ["Size", "Colour", "variant"]


@pytest.mark.parametrize("variant", [None, "", {}])
def test_nothing_chosen_is_no_choice(variant):
    assert decide_choices(variant, Selectors(variants={"Size": SIZE})) == []


@pytest.mark.parametrize("variant", ["L", {"Size": "L"}])
def test_a_choice_on_a_site_without_options_is_refused(variant):
    with pytest.raises(OptionUnavailable, match="knows no options"):
        decide_choices(variant, Selectors())


# ---- the rest ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("Sat, 21 Nov 2026 12:01:00 GMT", 60),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert retry_after_seconds(header, datetime(2026, 11, 21, 12, tzinfo=UTC)) == seconds


def test_a_password_is_not_shown():
    assert "secret" not in repr(Credentials("a@b.example", "secret"))
