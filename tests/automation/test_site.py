"""Vendor data: read with its defaults, and refused with sentences."""

import pytest

from automation.site import Selectors, Site, site_problems

FULL = {
    "name": "Shop",
    "domain": "shop.example",
    "login_url": "https://shop.example/login",
    "cart_url": "https://www.shop.example/cart",
    "selectors": {
        "email_input": "#email",
        "password_input": "#password",
        "add_to_cart": "//button[.='Add']",
        "cart_row": ".row",
        "variants": {
            "Size": {"kind": "click", "selector": "[data-size='{value}']", "settled": ".ready"}
        },
    },
}


def test_data_is_read_with_its_defaults():
    site = Site.from_data(FULL)

    assert site_problems(FULL) == {}
    assert site.cart_scope == "account"
    assert site.login_required
    assert not site.allow_private_network
    assert site.selectors.cart_quantity is None
    assert site.selectors.variants["Size"].settled == ".ready"
    assert site.missing_for_automation() is None


def test_null_and_blank_mean_that_there_is_none():
    data = {
        "name": "Shop",
        "domain": "SHOP.example:8080",
        "login_url": "",
        "cart_url": None,
        "cart_scope": None,
        "login_required": None,
        "allowed_domains": None,
        "selectors": {"login_button": None, "cart_update": "", "variants": None},
    }

    site = Site.from_data(data)

    assert site_problems(data) == {}
    assert site == Site(name="Shop", domain="shop.example")
    assert Site.from_data({**data, "selectors": None}).selectors == Selectors()


def test_blanks_around_a_selector_do_not_count():
    data = {**FULL, "selectors": {"add_to_cart": " //button\n", "cart_row": "  "}}

    selectors = Site.from_data(data).selectors

    assert selectors.add_to_cart == "//button"
    assert selectors.cart_row is None


def test_the_documents_own_sample_is_read_and_found_wanting():
    sample = {
        "name": "Vendor Co",
        "domain": "vendor.com",
        "login_url": "https://vendor.com/login",
        "cart_url": "https://vendor.com/cart",
        "is_prioritized": True,
        "rate_limit_daily": 50,
        "selectors": {
            "email_input": "#login-email",
            "password_input": "#login-password",
            "login_button": "button[type='submit']",
            "add_to_cart": ".product-add-to-cart",
            "cart_confirmation": ".cart-notification.success",
            "blocked_indicator": ".account-suspended-message",
        },
    }

    assert site_problems(sample) == {}
    assert "selectors.cart_row" in Site.from_data(sample).missing_for_automation()


@pytest.mark.parametrize(
    ("lack", "named"),
    [
        ({"cart_url": None}, "cart_url"),
        ({"login_url": None}, "login_url"),
        ({"selectors": {**FULL["selectors"], "add_to_cart": None}}, "selectors.add_to_cart"),
        ({"selectors": {**FULL["selectors"], "email_input": None}}, "selectors.email_input"),
    ],
)
def test_what_automation_lacks_is_named(lack, named):
    sentence = Site.from_data({**FULL, **lack}).missing_for_automation()

    assert sentence.startswith("Shop cannot be automated")
    assert named in sentence


def test_a_shop_without_log_in_lacks_no_log_in():
    selectors = {"add_to_cart": "b", "cart_row_name": ".name"}
    data = {**FULL, "login_url": None, "login_required": False, "selectors": selectors}

    assert Site.from_data(data).missing_for_automation() is None


@pytest.mark.parametrize(
    ("host", "belongs"),
    [
        ("shop.example", True),
        ("SHOP.example.", True),
        ("www.shop.example", True),
        ("cdn.shop.example:444", True),
        ("evilshop.example", False),
        ("shop.example.evil.example", False),
        ("pay.other.example", True),
        ("other.example.org", False),
        ("", False),
    ],
)
def test_hosts_of_the_vendor(host, belongs):
    site = Site(name="", domain="www.shop.example", allowed_domains=("other.example",))

    assert site.host_belongs(host) is belongs


@pytest.mark.parametrize(
    ("url", "contained"),
    [
        ("https://shop.example/p/1", True),
        ("http://shop.example:8000/p/1", True),
        ("https://user:pw@evil.example/shop.example", False),
        ("https://shop.example@evil.example/", False),
        ("javascript:alert(1)", False),
        ("file:///etc/passwd", False),
        ("//shop.example/p", False),
        ("https://[::1", False),
        ("https://shop.example:no/", False),
        ("", False),
    ],
)
def test_addresses_of_the_vendor(url, contained):
    assert Site(name="", domain="shop.example").contains(url) is contained


@pytest.mark.parametrize("domain", ["something.localhost", "127.0.0.1", "xn--bcher-kva.example"])
def test_domains_of_every_kind_are_accepted(domain):
    data = {"name": "Shop", "domain": domain, "cart_url": f"http://{domain}:8000/cart"}

    assert site_problems(data) == {}
    assert Site.from_data(data).contains(f"http://{domain}:9000/")


def test_an_international_domain_is_one_in_both_spellings():
    site = Site.from_data({"name": "Bücher", "domain": "bücher.example"})

    assert site.contains("https://xn--bcher-kva.example/p")


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        ({"name": " "}, "name", "Give the vendor a name"),
        ({"domain": None}, "domain", "host name"),
        ({"domain": "https://shop.example"}, "domain", "without https://"),
        ({"domain": "shop example"}, "domain", "is no host name"),
        ({"login_url": "/login"}, "login_url", "must begin with http"),
        ({"login_url": 5}, "login_url", "no web address"),
        ({"cart_url": "https://other.example/cart"}, "cart_url", "not on the vendor's domain"),
        ({"cart_scope": "basket"}, "cart_scope", "account"),
        ({"login_required": "yes"}, "login_required", "true or false"),
        ({"allowed_domains": "other.example"}, "allowed_domains", "list"),
        ({"allowed_domains": ["http://x"]}, "allowed_domains", "host name"),
        ({"selectors": []}, "selectors", "object"),
        ({"selectors": {"add_to_card": "b"}}, "selectors.add_to_card", "Did you mean add_to_cart?"),
        ({"selectors": {"zzz": "b"}}, "selectors.zzz", "Known are: email_input"),
        ({"selectors": {"add_to_cart": 5}}, "selectors.add_to_cart", "is a text"),
        ({"selectors": {"add_to_cart": " "}}, "selectors.add_to_cart", "blank"),
        ({"selectors": {"add_to_cart": "a[b"}}, "selectors.add_to_cart", "[ is not closed"),
        ({"selectors": {"add_to_cart": "a)"}}, "selectors.add_to_cart", ") closes nothing"),
        ({"selectors": {"add_to_cart": "//a[.='b]"}}, "selectors.add_to_cart", "quote"),
        ({"selectors": {"add_to_cart": "a >"}}, "selectors.add_to_cart", "end is missing"),
        ({"selectors": {"cart_row": "#{value}"}}, "selectors.cart_row", "only variants"),
        (
            {"selectors": {"logged_in_indicator_is_hidden": "no"}},
            "selectors.logged_in_indicator_is_hidden",
            "true or false",
        ),
        ({"selectors": {"variants": []}}, "selectors.variants", "object"),
        ({"selectors": {"variants": {"Size": "#s"}}}, "selectors.variants.Size", "object"),
        (
            {"selectors": {"variants": {"Size": {"kind": "pick", "selector": "#s"}}}},
            "selectors.variants.Size.kind",
            "select, click, fill, check, quantity",
        ),
        (
            {"selectors": {"variants": {"Size": {"kind": "click"}}}},
            "selectors.variants.Size.selector",
            "Give the selector",
        ),
        (
            {
                "selectors": {
                    "variants": {"Size": {"kind": "click", "selector": "b", "setled": "c"}}
                }
            },
            "selectors.variants.Size.setled",
            "Did you mean settled?",
        ),
    ],
)
def test_a_problem_is_said_where_it_is(change, where, says):
    problems = site_problems({**FULL, **change})

    assert list(problems) == [where]
    assert says in problems[where][0]


@pytest.mark.parametrize(
    "selector",
    [
        "button[type='submit']",
        'a[title="it\'s"]',
        "a[title='say \\'hi\\'']",
        "(//form//button)[2]",
        '//a[contains(., "O\'Neil (UK)")]',
        "div:has(> a:not([href=']']))",
        "#a\\:b",
    ],
)
def test_selectors_that_look_odd_are_accepted(selector):
    assert site_problems({**FULL, "selectors": {"add_to_cart": selector}}) == {}
