"""Sites as data: from a file, judged as a whole, and read by what is automated."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from automation.vouchers.sites import CardPageSite, PortalSite, RedeemerSite
from payments.models import PaymentSite
from payments.site_files import InvalidFile, import_sites

CARD_PAGE = {
    "name": "Card page",
    "domain": "pay.example",
    "allowed_domains": ["bank.example"],
    "selectors": {
        "card_number": "#number",
        "card_expiry": "#expiry",
        "card_cvv": "#cvv",
        "pay_button": "button.pay",
        "code_input": "#otp",
    },
    "texts": {
        "paid": "Payment successful",
        "declined": "declined",
        "link_expired": "link has expired",
    },
}


def describe(kind: str, urls: str, selectors: str, **rest):
    """Such a site: each address and each selector is its own name."""
    domain = f"{kind}.example"
    return {
        "kind": kind,
        "name": kind.capitalize(),
        "domain": domain,
        "urls": {name: f"https://{domain}/{name}" for name in urls.split()},
        "selectors": {name: f".{name}" for name in selectors.split()},
        **rest,
    }


PORTAL = describe(
    "portal",
    "inventory login buy orders",
    "email_input password_input signed_in stock_row stock_amount amount_input buy_button link_url "
    "limit_exceeded order_row order_number order_amount order_status voucher_code",
    texts={"status_unpaid": "unpaid", "status_paid": "^paid", "status_issued": "issued"},
)
REDEEMER = describe(
    "redeemer",
    "login redeem history",
    "email_input password_input signed_in voucher_input redeem_button redeemed voucher_used "
    "history_row history_code history_amount",
)


def run_command(tmp_path, data, *options):
    file = tmp_path / "sites.json"
    file.write_text(json.dumps(data))
    out, err = StringIO(), StringIO()
    call_command("voucher_sites_import", str(file), *options, stdout=out, stderr=err)
    return out.getvalue().splitlines()


@pytest.mark.django_db
def test_sites_of_a_file_can_be_automated_each_as_its_kind():
    import_sites({"sites": [PORTAL, {"kind": "card_page", **CARD_PAGE}, REDEEMER]})

    kinds = {site.kind: type(site.site()) for site in PaymentSite.objects.all()}
    assert kinds == {"portal": PortalSite, "card_page": CardPageSite, "redeemer": RedeemerSite}
    page = PaymentSite.objects.get(kind="card_page")
    assert PaymentSite.objects.find_card_page("https://pay.example:8443/pay/1") == page
    assert PaymentSite.objects.find_card_page("https://bank.example/3ds") == page
    assert PaymentSite.objects.find_card_page("https://portal.example/pay") is None


@pytest.mark.django_db
def test_card_page_that_is_turned_off_is_not_found():
    import_sites({"kind": "card_page", **CARD_PAGE})
    PaymentSite.objects.update(is_active=False)

    assert PaymentSite.objects.find_card_page("https://pay.example/1") is None


@pytest.mark.django_db
def test_file_is_written_once_and_then_compared(tmp_path):
    data = {"sites": [{"kind": "card_page", **CARD_PAGE}]}

    assert run_command(tmp_path, data) == ["new: Card page Card page (pay.example)"]
    assert run_command(tmp_path, data) == ["as it was: Card page Card page (pay.example)"]
    data["sites"][0]["name"] = "Bank"
    assert run_command(tmp_path, data) == ["changed: Card page Bank (pay.example)"]
    assert PaymentSite.objects.get().name == "Bank"


@pytest.mark.django_db
def test_dry_run_says_what_would_change_and_writes_nothing(tmp_path):
    said = run_command(tmp_path, CARD_PAGE, "--kind", "card_page", "--dry-run")

    assert said == [
        "new: Card page Card page (pay.example)",
        "Nothing was written: this was a dry run.",
    ]
    assert not PaymentSite.objects.exists()


@pytest.mark.django_db
def test_one_wrong_site_keeps_all_of_the_file_out(tmp_path):
    data = {"sites": [{"kind": "card_page", **CARD_PAGE}, {**CARD_PAGE, "kind": "shop"}, 7]}

    with pytest.raises(InvalidFile) as refused:
        import_sites(data)

    assert refused.value.problems == [
        "sites[1]: say what it is: kind must be one of portal, card_page, redeemer.",
        "sites[2]: a site is an object with name, domain, urls and selectors.",
    ]
    assert not PaymentSite.objects.exists()
    with pytest.raises(CommandError, match="Nothing was written: 2 things to correct"):
        run_command(tmp_path, data)


@pytest.mark.django_db
def test_what_is_wrong_in_a_description_is_said_with_its_place():
    wrong = {**CARD_PAGE, "domain": "https://pay.example/", "selector": {}}

    with pytest.raises(InvalidFile) as refused:
        import_sites(wrong, kind="card_page")

    assert any("domain" in sentence for sentence in refused.value.problems)
    assert any("selectors" in sentence for sentence in refused.value.problems)


def test_file_that_is_no_json_is_said_so(tmp_path):
    file = tmp_path / "sites.json"
    file.write_text("{")

    with pytest.raises(CommandError, match="is no JSON"):
        call_command("voucher_sites_import", str(file))
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("voucher_sites_import", str(tmp_path / "none.json"))
