"""The admin of cards, log-ins, sites and vouchers: secrets are typed there and never shown."""

import json

import pytest
from auditlog.models import LogEntry
from django.test import Client

from accounts.fields import SealedTextField
from accounts.models import FIRST_WORKSPACE, User
from payments.models import AuthSession, Card, PaymentSite, SiteAccount
from tests.payments.rows import NUMBER, issue, make_purchase
from tests.payments.test_site_files import CARD_PAGE

SECRETS = (NUMBER, "08/2031", "geheim", "ABCDEFGH", "4821")


@pytest.fixture
def staff(db):
    client = Client()
    client.force_login(User.objects.create_superuser("alice"))
    return client


def card_fields(card, **changes):
    return {
        "card_type": card.card_type,
        "label": card.label,
        "holder": card.holder,
        "phone_number": card.phone_number,
        "otp_service": "amex",
        "portal_account": card.portal_account_id,
        "redeemer_account": card.redeemer_account_id,
        "transaction_limit": "10000",
        "currency": "INR",
        "is_active": "on",
        "workspace": FIRST_WORKSPACE,
        "new_number": "",
        "new_expiry": "",
        **changes,
    }


def test_no_page_shows_a_secret(card, staff):
    voucher = issue(make_purchase(card))
    session = AuthSession.objects.create(
        session_type="gyftr", account=card.portal_account, session_data={"cookies": "geheim"}
    )
    pages = {
        "card": card,
        "siteaccount": card.portal_account,
        "paymentsite": card.portal_account.site,
        "vouchercode": voucher,
        "authsession": session,
    }

    for name, row in pages.items():
        for path in ("", f"{row.pk}/change/"):
            page = staff.get(f"/admin/payments/{name}/{path}")
            assert page.status_code == 200
            said = page.content.decode()
            assert [secret for secret in SECRETS if secret in said] == [], name


def test_list_of_cards_opens_none(card, staff, monkeypatch):
    opened = []
    monkeypatch.setattr(SealedTextField, "unseal", lambda *args: opened.append(args))

    staff.get("/admin/payments/card/")
    staff.get("/admin/payments/siteaccount/")

    assert opened == []


def test_card_is_added_with_its_number_and_expiry(card, staff):
    typed = card_fields(card, card_type="Gold", new_number="3782 822463 10005", new_expiry="8/30")

    answer = staff.post("/admin/payments/card/add/", typed)

    assert answer.status_code == 302
    added = Card.objects.get(card_type="Gold")
    assert (added.number, added.expiry, added.last4) == ("378282246310005", "08/2030", "0005")
    assert "378282246310005" not in str(list(LogEntry.objects.values()))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"new_number": "378282246310006"}, "its last digit does not fit the others"),
        ({"new_number": ""}, "This field is required"),
        ({"new_expiry": "13/30"}, "Type the card&#x27;s expiry as MM/YY"),
    ],
)
def test_card_that_cannot_be_right_is_not_added(card, staff, changes, sentence):
    given = {"card_type": "Gold", "new_number": "378282246310005", "new_expiry": "8/30"}

    answer = staff.post("/admin/payments/card/add/", card_fields(card, **{**given, **changes}))

    assert answer.status_code == 200
    assert sentence in answer.content.decode()
    assert Card.objects.count() == 1


def test_second_active_card_of_a_type_is_explained(card, staff):
    typed = card_fields(card, card_type="mrcc", new_number="378282246310005", new_expiry="8/30")

    answer = staff.post("/admin/payments/card/add/", typed)

    assert "Give this one a type of its own" in answer.content.decode()
    assert Card.objects.count() == 1


def test_empty_secret_keeps_what_is_stored_and_a_new_one_is_noted_without_itself(card, staff):
    path = f"/admin/payments/card/{card.pk}/change/"
    assert staff.post(path, card_fields(card, label="Renamed")).status_code == 302
    stored = Card.objects.get()
    assert (stored.label, stored.number, stored.expiry) == ("Renamed", NUMBER, "08/2031")

    staff.post(path, card_fields(card, new_expiry="09/33"))

    assert Card.objects.get().expiry == "09/2033"
    acts = [each.additional_data["act"] for each in LogEntry.objects.filter(object_pk=card.pk)]
    assert "new_secret" in acts
    assert "09/2033" not in str(list(LogEntry.objects.values()))


def test_account_at_the_wrong_kind_of_site_is_no_choice(card, staff):
    typed = card_fields(card, portal_account=card.redeemer_account_id)

    answer = staff.post(f"/admin/payments/card/{card.pk}/change/", typed)

    assert answer.status_code == 200
    assert "Select a valid choice" in answer.content.decode()


def test_new_password_ends_the_saved_session(card, staff):
    account = card.portal_account
    AuthSession.objects.create(session_type="gyftr", account=account, session_data={"a": 1})
    typed = {
        "email": account.email,
        "phone_number": "",
        "is_active": "on",
        "workspace": FIRST_WORKSPACE,
        "new_password": "Portal-neu",
    }

    answer = staff.post(f"/admin/payments/siteaccount/{account.pk}/change/", typed)

    assert answer.status_code == 302
    assert SiteAccount.objects.get(pk=account.pk).password == "Portal-neu"
    session = AuthSession.objects.get()
    assert (session.is_active, session.session_data) == (False, None)


def test_site_is_checked_before_it_is_stored(staff):
    data = {key: value for key, value in CARD_PAGE.items() if key not in ("name", "domain")}
    typed = {"kind": "card_page", "name": "Card page", "domain": "pay.example", "is_active": "on"}

    wrong = staff.post(
        "/admin/payments/paymentsite/add/", {**typed, "data": json.dumps({"selectors": {}})}
    )
    assert "selectors.pay_button" in wrong.content.decode()
    assert not PaymentSite.objects.exists()

    staff.post("/admin/payments/paymentsite/add/", {**typed, "data": json.dumps(data)})
    assert PaymentSite.objects.get().data == data


def test_voucher_leads_to_its_purchase_where_its_code_is_shown(card, staff):
    voucher = issue(make_purchase(card, 2), 2)

    page = staff.get(f"/admin/payments/vouchercode/{voucher.pk}/change/").content.decode()

    assert f'href="/purchases/{voucher.transaction.purchase_id}/#transaction-2"' in page
