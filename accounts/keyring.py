"""The key ring: AES-256-GCM under named keys.

A sealed value says which key sealed it, and opens only in the place it was sealed for: its
associated data names the table, the row and the column, so that a value copied into another row
is refused. The first key of the ring seals; every key opens.
"""

import base64
import binascii
import os
from dataclasses import dataclass
from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from accounts.errors import KeyRingError, UnsealError

FORMAT = b"1"
NONCE_BYTES = 12  # what GCM is specified for; random, so at most 2**32 values a key
KEY_BYTES = 32


@dataclass(frozen=True)
class Place:
    """Where a secret is stored: a sealed value opens nowhere else."""

    table: str
    row: str
    column: str


class KeyRing:
    def __init__(self, keys: dict[str, bytes]) -> None:
        """`keys`: key id -> 32 bytes, newest first."""
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.sealing_key_id = next(iter(keys))

    @classmethod
    def from_text(cls, text: str) -> "KeyRing":
        """The ring written `id:base64,id:base64`, newest first. Raises KeyRingError."""
        keys: dict[str, bytes] = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            key_id, _, encoded = entry.partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except (ValueError, binascii.Error) as error:
                raise KeyRingError(f"CREDENTIAL_KEYS: key {key_id!r} is not base64.") from error
            if not key_id or len(key) != KEY_BYTES:
                raise KeyRingError(
                    f"CREDENTIAL_KEYS: key {key_id!r} has {len(key)} bytes; write each key as "
                    f"id:base64 of {KEY_BYTES} random bytes."
                )
            if key_id in keys:
                raise KeyRingError(f"CREDENTIAL_KEYS: key id {key_id!r} stands there twice.")
            keys[key_id] = key
        if not keys:
            raise KeyRingError("CREDENTIAL_KEYS is empty; it needs at least one id:base64 key.")
        return cls(keys)

    @property
    def sealing_prefix(self) -> bytes:
        """How every value begins that the newest key has sealed."""
        return self._header(self.sealing_key_id)

    def seal(self, plain: bytes, place: Place) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        header = self._header(self.sealing_key_id)
        sealed = self._ciphers[self.sealing_key_id].encrypt(
            nonce, plain, self._associated(header, place)
        )
        return header + nonce + sealed

    def unseal(self, blob: bytes, place: Place) -> bytes:
        """The plain bytes. Raises UnsealError; its message never holds any of them."""
        version, key_id, _ = self._split(blob)
        cipher = self._ciphers.get(key_id)
        if version != FORMAT or cipher is None:
            raise UnsealError(
                f"{place.table}.{place.column} of {place.row} was sealed with key {key_id!r}, "
                "which is not in CREDENTIAL_KEYS; put that key back at the end of the ring."
            )
        header = self._header(key_id)
        body = blob[len(header) :]
        try:
            return cipher.decrypt(
                body[:NONCE_BYTES], body[NONCE_BYTES:], self._associated(header, place)
            )
        except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
            raise UnsealError(
                f"{place.table}.{place.column} of {place.row} does not open: it was changed, or "
                "copied from another row; enter the secret again."
            ) from error

    @staticmethod
    def _header(key_id: str) -> bytes:
        return b"|".join((FORMAT, key_id.encode(), b""))

    @staticmethod
    def _split(blob: bytes) -> tuple[bytes, str, bytes]:
        version, _, rest = blob.partition(b"|")
        key_id, _, body = rest.partition(b"|")
        return version, key_id.decode(errors="replace"), body

    @staticmethod
    def _associated(header: bytes, place: Place) -> bytes:
        return header + "|".join((place.table, place.row, place.column)).encode()


@cache
def get_keyring() -> KeyRing:
    return KeyRing.from_text(settings.CREDENTIAL_KEYS)
