"""Cards, log-ins and sites over REST: for admins, and with secrets that only go in."""

import pytest
from auditlog.models import LogEntry

from payments.models import Card, PaymentSite, SiteAccount
from tests.payments.rows import NUMBER, make_purchase
from tests.payments.test_site_files import CARD_PAGE
from tests.vendors.conftest import client_with_key

DATA = {key: value for key, value in CARD_PAGE.items() if key not in ("name", "domain")}
SITE = {"kind": "card_page", "name": "Card page", "domain": "pay.example", "data": DATA}


def card_data(card, **changes):
    return {
        "card_type": "Gold",
        "label": "Gold card",
        "holder": "T Buyer",
        "number": NUMBER,
        "expiry": "08/31",
        "portal_account_id": str(card.portal_account_id),
        "redeemer_account_id": str(card.redeemer_account_id),
        **changes,
    }


@pytest.mark.parametrize("path", ["cards", "payment-sites", "payment-accounts"])
def test_set_up_is_for_admins(bob_api, path):
    for call in (bob_api.get, bob_api.post):
        assert call(f"/api/admin/{path}").status_code == 403


def test_card_goes_in_whole_and_comes_out_as_its_last_digits(card, admin_api):
    answer = admin_api.post("/api/admin/cards", card_data(card), format="json")

    assert answer.status_code == 201
    assert answer.json()["last4"] == NUMBER[-4:]
    said = answer.content.decode() + admin_api.get("/api/admin/cards").content.decode()
    assert NUMBER not in said
    assert "08/" not in said
    stored = Card.objects.get(pk=answer.json()["id"])
    assert (stored.number, stored.expiry) == (NUMBER, "08/2031")
    assert NUMBER not in str(list(LogEntry.objects.values()))


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"number": "374245455400127"}, "CARD_NUMBER_INVALID", "number"),
        ({"expiry": "13/31"}, "CARD_EXPIRY_INVALID", "expiry"),
        ({"portal_account_id": None}, "INVALID_REQUEST", "portal_account_id"),
        ({"transaction_limit": 0}, "INVALID_REQUEST", "transaction_limit"),
        ({"cvv": "9876"}, "INVALID_REQUEST", "cvv"),
    ],
)
def test_card_that_cannot_be_right_is_refused(card, admin_api, changes, code, field):
    answer = admin_api.post("/api/admin/cards", card_data(card, **changes), format="json")

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert set(answer.json()["fields"]) == {field}
    assert Card.objects.count() == 1


def test_second_active_card_of_a_type_is_refused_until_the_first_is_turned_off(card, admin_api):
    body = card_data(card, card_type="mrcc")

    taken = admin_api.post("/api/admin/cards", body, format="json")
    assert (taken.status_code, taken.json()["code"]) == (409, "CARD_TYPE_TAKEN")

    off = admin_api.put(f"/api/admin/cards/{card.pk}", {"is_active": False}, format="json")
    assert off.json()["is_active"] is False
    assert admin_api.post("/api/admin/cards", body, format="json").status_code == 201


def test_what_is_not_sent_stays(card, admin_api):
    admin_api.put(f"/api/admin/cards/{card.pk}", {"label": "Renamed"}, format="json")

    stored = Card.objects.get()
    assert (stored.label, stored.number, stored.last4) == ("Renamed", NUMBER, NUMBER[-4:])


def test_card_that_was_used_is_turned_off_rather_than_deleted(card, admin_api):
    purchase = make_purchase(card)
    path = f"/api/admin/cards/{card.pk}"

    used = admin_api.delete(path)
    assert (used.status_code, used.json()["code"]) == (409, "CARD_IN_USE")

    purchase.transactions.all().delete()
    purchase.delete()
    assert admin_api.delete(path).status_code == 204
    assert not Card.objects.exists()


def test_cards_of_another_workspace_are_not_there(card, charlie):
    charlies = client_with_key(charlie)

    assert charlies.get("/api/admin/cards").json() == {"cards": []}
    assert charlies.put(f"/api/admin/cards/{card.pk}", {}, format="json").status_code == 404


def test_log_in_goes_in_with_its_password_and_comes_out_without(card, admin_api):
    site = card.portal_account.site
    body = {"site_id": str(site.pk), "email": "two@team.example", "password": "Portal-zwei"}

    answer = admin_api.post("/api/admin/payment-accounts", body, format="json")
    again = admin_api.post("/api/admin/payment-accounts", body, format="json")

    assert answer.status_code == 201
    assert (again.status_code, again.json()["code"]) == (409, "ACCOUNT_EXISTS")
    assert "Portal-zwei" not in answer.content.decode()
    assert SiteAccount.objects.get(pk=answer.json()["id"]).password == "Portal-zwei"
    used = admin_api.delete(f"/api/admin/payment-accounts/{card.portal_account_id}")
    assert (used.status_code, used.json()["code"]) == (409, "ACCOUNT_IN_USE")


def test_site_is_checked_as_its_kind_wants_it(admin_api):
    selectors = {key: value for key, value in DATA["selectors"].items() if key != "pay_button"}
    wrong = {**SITE, "data": {**DATA, "selectors": selectors}}

    refused = admin_api.post("/api/admin/payment-sites", wrong, format="json")
    stored = admin_api.post("/api/admin/payment-sites", SITE, format="json")
    again = admin_api.post("/api/admin/payment-sites", SITE, format="json")

    assert refused.status_code == 400
    assert "selectors.pay_button" in refused.json()["error"]
    assert stored.status_code == 201
    assert stored.json()["data"] == DATA
    assert (again.status_code, again.json()["code"]) == (409, "SITE_EXISTS")
    path = f"/api/admin/payment-sites/{stored.json()['id']}"
    assert admin_api.put(path, {"kind": "portal"}, format="json").status_code == 400
    assert admin_api.put(path, {"name": "Bank"}, format="json").json()["name"] == "Bank"
    assert admin_api.delete(path).status_code == 204
    assert not PaymentSite.objects.exists()


def test_site_with_log_ins_is_turned_off_rather_than_deleted(card, admin_api):
    answer = admin_api.delete(f"/api/admin/payment-sites/{card.portal_account.site_id}")

    assert (answer.status_code, answer.json()["code"]) == (409, "SITE_IN_USE")
