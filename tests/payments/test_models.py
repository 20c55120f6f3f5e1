"""What the tables themselves refuse, and what stands in them."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection

from accounts.models import Workspace
from payments.models import AuthSession, Card
from payments.models.purchases import format_money
from tests.payments.rows import NUMBER, issue, make_account, make_card, make_purchase


def raw(table):
    """Every value of the table, as it stands in the database."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        return str([[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in cursor])


def test_secrets_stand_sealed_in_the_database(card):
    voucher = issue(make_purchase(card))

    cards, accounts, vouchers = map(raw, ("payment_cards", "payment_accounts", "voucher_codes"))

    assert NUMBER not in cards
    assert "08/2031" not in cards
    assert "0126" in cards
    assert "geheim" not in accounts
    assert "ABCDEFGH" not in vouchers
    assert "4821" not in vouchers.replace(str(voucher.pk), "")


def test_one_card_of_a_type_is_active_in_a_workspace(card):
    elsewhere = Workspace.objects.create(name="Elsewhere")
    make_card(card_type="mrcc", is_active=False)
    make_card(card_type="MRCC", workspace=elsewhere)

    with pytest.raises(IntegrityError, match="card_type_active_once"):
        make_card(card_type="mrcc")


def test_cards_accounts_are_of_its_kinds_and_its_workspace(card):
    card.portal_account, card.redeemer_account = card.redeemer_account, card.portal_account
    with pytest.raises(ValidationError) as wrong:
        card.clean()
    assert set(wrong.value.message_dict) == {"portal_account", "redeemer_account"}

    elsewhere = Workspace.objects.create(name="Elsewhere")
    theirs = make_account("portal", email="other@team.example", workspace=elsewhere)
    kept = Card.objects.get()
    kept.portal_account = theirs
    with pytest.raises(ValidationError, match="own workspace"):
        kept.clean()


def test_account_has_one_active_session_of_a_type(card):
    account = card.portal_account
    first = AuthSession.objects.create(session_type="gyftr", account=account)
    AuthSession.objects.filter(pk=first.pk).update(is_active=False)
    AuthSession.objects.create(session_type="gyftr", account=account)

    with pytest.raises(IntegrityError, match="auth_session_active_once"):
        AuthSession.objects.create(session_type="gyftr", account=account)


def test_session_belongs_to_an_account_or_a_transaction(card):
    with pytest.raises(IntegrityError, match="auth_session_of_one"):
        AuthSession.objects.create(session_type="payment")


def test_money_is_written_as_people_write_it():
    assert format_money(Decimal("6000.00"), "INR") == "₹6,000"
    assert format_money(Decimal("1500.50"), "INR") == "₹1,500.50"
    assert format_money(1500, "CHF") == "CHF 1,500"


def test_page_of_each_purchase_of_the_same_reference_is_its_own(card):
    references = [
        row.reference for _ in range(3) for row in make_purchase(card, 3).transactions.all()
    ]

    assert len(set(references)) == 9
    assert all(len(reference) <= 20 for reference in references)
