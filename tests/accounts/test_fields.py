"""Sealed fields, on the model that has two of them."""

import pytest
from django.db import connection, transaction

from accounts.errors import UnsealError
from accounts.fields import Sealed
from vendors.models import Vendor, VendorAccount

PASSWORD = "korrekt-Pferd-Batterie"
SESSION = {"storage_state": {"cookies": [{"name": "sid", "value": "geheim-4711"}]}}


@pytest.fixture
def account(db) -> VendorAccount:
    vendor = Vendor.objects.create(name="Vendor Co", domain="vendor.example")
    return VendorAccount.objects.create(
        vendor=vendor, email="one@vendor.example", password=PASSWORD, session_data=SESSION
    )


def stored(column: str, account: VendorAccount) -> bytes:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM vendor_accounts WHERE id = %s", [account.pk])
        return bytes(cursor.fetchone()[0])


def test_database_holds_no_plain_text(account):
    for column, plain in (("password", PASSWORD), ("session_data", "geheim-4711")):
        assert stored(column, account).startswith(b"1|")
        assert plain.encode() not in stored(column, account)
    with connection.cursor() as cursor:  # nor anywhere else in the row
        cursor.execute("SELECT vendor_accounts::text FROM vendor_accounts")
        (row,) = cursor.fetchone()
    assert PASSWORD not in row
    assert PASSWORD.encode().hex() not in row


def test_attribute_gives_the_secret_back(account):
    loaded = VendorAccount.objects.get(pk=account.pk)

    assert loaded.password == PASSWORD
    assert loaded.session_data == SESSION


def test_loading_alone_opens_nothing(account):
    loaded = VendorAccount.objects.get(pk=account.pk)

    assert isinstance(loaded.__dict__["password"], Sealed)
    assert PASSWORD not in repr(loaded.__dict__)


def test_saving_another_field_keeps_the_sealed_value_as_it_stands(account):
    before = stored("password", account)
    loaded = VendorAccount.objects.get(pk=account.pk)
    loaded.notes = "moved to the north depot"

    loaded.save()

    assert stored("password", account) == before


def test_deferred_secret_is_fetched_when_it_is_read(account, django_assert_num_queries):
    loaded = VendorAccount.objects.defer("password").get(pk=account.pk)

    with django_assert_num_queries(1):
        assert loaded.password == PASSWORD


def test_null_stays_null(account):
    account.session_data = None
    account.save()

    assert VendorAccount.objects.filter(session_data=None).exists()
    assert VendorAccount.objects.get(pk=account.pk).session_data is None


def test_secret_copied_to_another_row_is_refused(account):
    thief = VendorAccount.objects.create(
        vendor=account.vendor, email="two@vendor.example", password="own"
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE vendor_accounts SET password = "
            "(SELECT password FROM vendor_accounts WHERE id = %s) WHERE id = %s",
            [account.pk, thief.pk],
        )

    loaded = VendorAccount.objects.get(pk=thief.pk)

    with pytest.raises(UnsealError) as refusal:
        _ = loaded.password
    assert PASSWORD not in str(refusal.value)


def test_secret_copied_to_another_column_is_refused(account):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE vendor_accounts SET session_data = password")

    loaded = VendorAccount.objects.get(pk=account.pk)

    with pytest.raises(UnsealError):
        _ = loaded.session_data


def test_writes_that_would_bypass_the_sealing_are_refused(account):
    before = stored("password", account)
    account.password = "plain text"

    with pytest.raises(TypeError, match="save"), transaction.atomic():
        VendorAccount.objects.update(password="plain text")
    with pytest.raises(TypeError, match="save"), transaction.atomic():
        VendorAccount.objects.bulk_update([account], ["password"])

    assert stored("password", account) == before


def test_bulk_create_seals(account):
    VendorAccount.objects.bulk_create(
        [VendorAccount(vendor=account.vendor, email="three@vendor.example", password=PASSWORD)]
    )

    made = VendorAccount.objects.get(email="three@vendor.example")
    assert PASSWORD.encode() not in stored("password", made)
    assert made.password == PASSWORD


def test_full_clean_leaves_the_secret_as_it_is(account):
    account.full_clean()

    assert account.password == PASSWORD
