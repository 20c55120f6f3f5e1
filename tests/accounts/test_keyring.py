"""The key ring: what it seals, what it refuses to open, what it refuses to be made of."""

import base64

import pytest

from accounts.errors import KeyRingError, UnsealError
from accounts.keyring import KeyRing, Place

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
PLACE = Place("vendor_accounts", "0198c0de-7a11-7000-8000-00000000acc1", "password")
SECRET = "pässwörd 🔑".encode()


def written(*keys: tuple[str, bytes]) -> str:
    return ", ".join(f"{key_id}:{base64.b64encode(key).decode()}" for key_id, key in keys)


def test_what_was_sealed_opens_in_its_place():
    ring = KeyRing({"k1": OLD})

    sealed = ring.seal(SECRET, PLACE)

    assert ring.unseal(sealed, PLACE) == SECRET
    assert sealed.startswith(b"1|k1|")
    assert SECRET not in sealed


def test_sealing_twice_gives_two_values():
    ring = KeyRing({"k1": OLD})

    assert ring.seal(SECRET, PLACE) != ring.seal(SECRET, PLACE)


def test_empty_secret_is_sealed_too():
    ring = KeyRing({"k1": OLD})

    assert ring.unseal(ring.seal(b"", PLACE), PLACE) == b""


@pytest.mark.parametrize(
    "elsewhere",
    [
        Place("other_table", PLACE.row, PLACE.column),
        Place(PLACE.table, "0198c0de-7a11-7000-8000-00000000acc2", PLACE.column),
        Place(PLACE.table, PLACE.row, "session_data"),
    ],
)
def test_value_moved_to_another_place_is_refused(elsewhere):
    ring = KeyRing({"k1": OLD})
    sealed = ring.seal(SECRET, PLACE)

    with pytest.raises(UnsealError, match="changed, or copied from another row"):
        ring.unseal(sealed, elsewhere)


def test_every_changed_byte_is_noticed():
    ring = KeyRing({"k1": OLD})
    sealed = ring.seal(b"secret", PLACE)

    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(UnsealError):
            ring.unseal(bytes(changed), PLACE)


@pytest.mark.parametrize("blob", [b"", b"1", b"1|", b"1|k1|", b"1|k1|short", b"plain text"])
def test_value_that_was_never_sealed_is_refused(blob):
    with pytest.raises(UnsealError):
        KeyRing({"k1": OLD}).unseal(blob, PLACE)


def test_another_key_of_the_same_name_does_not_open():
    sealed = KeyRing({"k1": OLD}).seal(SECRET, PLACE)

    with pytest.raises(UnsealError, match="enter the secret again") as refusal:
        KeyRing({"k1": NEW}).unseal(sealed, PLACE)
    assert "pässwörd" not in str(refusal.value)


def test_rotated_ring_opens_the_old_and_seals_with_the_new():
    old_value = KeyRing({"k1": OLD}).seal(SECRET, PLACE)
    rotated = KeyRing.from_text(written(("k2", NEW), ("k1", OLD)))

    assert rotated.unseal(old_value, PLACE) == SECRET
    assert rotated.seal(SECRET, PLACE).startswith(b"1|k2|")


def test_key_that_was_taken_out_too_early_is_named():
    sealed = KeyRing({"k1": OLD}).seal(SECRET, PLACE)

    with pytest.raises(UnsealError, match=r"'k1'.*put that key back"):
        KeyRing({"k2": NEW}).unseal(sealed, PLACE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        (" , ", "empty"),
        ("k1:!!!", "'k1' is not base64"),
        ("k1", "'k1' has 0 bytes"),
        (written(("k1", b"too short")), "'k1' has 9 bytes"),
        (written(("", OLD)), "'' has 32 bytes"),
        (written(("k1", OLD), ("k1", NEW)), "'k1' stands there twice"),
    ],
)
def test_ring_that_cannot_be_used_is_refused_without_its_keys_in_the_message(text, sentence):
    with pytest.raises(KeyRingError, match=sentence) as refusal:
        KeyRing.from_text(text)
    assert base64.b64encode(OLD).decode() not in str(refusal.value)
