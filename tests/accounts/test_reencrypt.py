"""reencrypt: everything under the newest key, however often it is stopped."""

import base64
import os
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from accounts import fields, reencrypt
from accounts.fields import SealedTextField
from accounts.keyring import KeyRing
from accounts.reencrypt import find_columns, reencrypt_column
from vendors.models import Vendor, VendorAccount

OLD, NEW = ({name: os.urandom(32)} for name in ("old", "new"))
BOTH = KeyRing({**NEW, **OLD})


@pytest.fixture
def ring(monkeypatch):
    def use(keys: KeyRing) -> None:
        for module in (fields, reencrypt):
            monkeypatch.setattr(module, "get_keyring", lambda: keys)
        monkeypatch.setattr("accounts.management.commands.reencrypt.get_keyring", lambda: keys)

    return use


@pytest.fixture
def accounts(db, ring) -> list[VendorAccount]:
    """Five, sealed by the old key, two of them with a session."""
    ring(KeyRing(OLD))
    vendor = Vendor.objects.create(name="Vendor Co", domain="vendor.example")
    return [
        VendorAccount.objects.create(
            vendor=vendor,
            email=f"{number}@vendor.example",
            password=f"secret {number}",
            session_data={"n": number} if number < 2 else None,
        )
        for number in range(5)
    ]


def keys_in_use(column: str = "password") -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM vendor_accounts WHERE {column} IS NOT NULL")
        return sorted(bytes(blob).split(b"|")[1].decode() for (blob,) in cursor.fetchall())


def run(**options) -> str:
    out = StringIO()
    call_command("reencrypt", stdout=out, stderr=out, **options)
    return out.getvalue()


def test_every_value_is_under_the_newest_key_and_opens_without_the_old_one(accounts, ring):
    ring(BOTH)

    said = run(batch=2)

    assert "vendor_accounts.password: 5 sealed anew, 0 under older keys" in said
    assert "vendor_accounts.session_data: 2 sealed anew, 0 under older keys" in said
    assert (keys_in_use(), keys_in_use("session_data")) == (["new"] * 5, ["new"] * 2)
    ring(KeyRing(NEW))
    opened = VendorAccount.objects.order_by("email")
    assert [account.password for account in opened] == [f"secret {n}" for n in range(5)]
    assert [account.session_data for account in opened][:3] == [{"n": 0}, {"n": 1}, None]


def test_second_run_does_nothing(accounts, ring):
    ring(BOTH)
    run()

    assert "vendor_accounts.password: 0 sealed anew, 0 under older keys" in run()


def test_dry_run_counts_and_changes_nothing(accounts, ring):
    ring(BOTH)

    said = run(dry_run=True)

    assert "vendor_accounts.password: 5 under older keys" in said
    assert keys_in_use() == ["old"] * 5


@pytest.mark.django_db(transaction=True)
def test_what_was_done_before_it_was_stopped_stays_and_the_rest_follows(
    accounts, ring, monkeypatch
):
    ring(BOTH)
    column = VendorAccount._meta.get_field("password")
    real, sealed = SealedTextField.seal, []

    def stop_at_the_third(self, instance, value):
        if len(sealed) == 3:
            raise KeyboardInterrupt
        sealed.append(value)
        return real(self, instance, value)

    with monkeypatch.context() as patched:
        patched.setattr(SealedTextField, "seal", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            reencrypt_column(VendorAccount, column, batch=2)
    assert keys_in_use() == ["new"] * 2 + ["old"] * 3

    assert reencrypt_column(VendorAccount, column, batch=2).done == 3
    assert keys_in_use() == ["new"] * 5


def test_value_that_somebody_writes_meanwhile_is_not_overwritten(accounts, ring, monkeypatch):
    ring(BOTH)
    column = VendorAccount._meta.get_field("password")
    real = SealedTextField.unseal

    def write_meanwhile(self, instance, blob):
        if str(instance.pk) == str(accounts[0].pk):
            account = VendorAccount.objects.get(pk=accounts[0].pk)
            account.password = "the person's own"
            account.save(update_fields=["password"])
        return real(self, instance, blob)

    monkeypatch.setattr(SealedTextField, "unseal", write_meanwhile)

    assert reencrypt_column(VendorAccount, column).done == 4
    assert VendorAccount.objects.get(pk=accounts[0].pk).password == "the person's own"


def test_value_that_does_not_open_is_left_as_it_was(accounts, ring):
    ring(KeyRing(NEW))  # the old key is gone
    accounts[0].password = "entered again"
    accounts[0].save(update_fields=["password"])

    with pytest.raises(CommandError, match="6 values do not open"):
        run()

    assert keys_in_use() == ["new"] + ["old"] * 4


def test_no_sealed_column_is_forgotten():
    columns = {f"{model._meta.db_table}.{column.column}" for model, column in find_columns()}

    assert {"vendor_accounts.password", "vendor_accounts.session_data"} <= columns
    assert any(column.endswith(".secret") for column in columns)  # those of webhooks and sources
    assert any(column.endswith(".otp_value") for column in columns)


def test_ring_in_the_environment_seals_with_its_first_key():
    text = ",".join(
        f"{name}:{base64.b64encode(key).decode()}" for name, key in {**NEW, **OLD}.items()
    )

    assert KeyRing.from_text(text).sealing_prefix == b"1|new|"
