"""CVVs: in Valkey alone, sealed with the key ring, for the time of their purchase. Never in the
database, a job's parameters, an event or a log.

Whoever waits for one waits for a signal of `topic`, which says that it is there and nothing else.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import redis
from django.conf import settings

from accounts.errors import UnsealError
from accounts.keyring import Place, get_keyring
from payments.card_numbers import read_cvv
from payments.errors import CvvUnreachable

ANSWER_SECONDS = 3


def topic(purchase_id: uuid.UUID) -> str:
    """Of the signal that a CVV has come for this purchase."""
    return f"cvv:{purchase_id}"


def keep(purchase_id: uuid.UUID, cvv: str, ttl: timedelta | None = None) -> None:
    """In place of an earlier one. Raises InvalidCard or CvvUnreachable."""
    seconds = settings.CVV_SECONDS if ttl is None else int(ttl.total_seconds())
    sealed = get_keyring().seal(read_cvv(cvv).encode(), _place(purchase_id))
    with _valkey() as valkey:
        valkey.set(_name(purchase_id), sealed, ex=max(seconds, 1))


def find(purchase_id: uuid.UUID) -> str | None:
    """The CVV; None when there is none (any more). A credential is read: note that first on the
    card (`accounts.audit.note_access`). Raises CvvUnreachable."""
    with _valkey() as valkey:
        sealed = valkey.get(_name(purchase_id))
    if sealed is None:
        return None
    try:
        assert isinstance(sealed, bytes)  # `decode_responses` is off
        return get_keyring().unseal(sealed, _place(purchase_id)).decode()
    except UnsealError:  # sealed by a key that is gone: as good as none, it is asked for again
        return None


def erase(purchase_id: uuid.UUID) -> None:
    """Safe to repeat. Raises CvvUnreachable; then its time ends it."""
    with _valkey() as valkey:
        valkey.delete(_name(purchase_id))


def _name(purchase_id: uuid.UUID) -> str:
    return f"cartwright:cvv:{purchase_id}"


def _place(purchase_id: uuid.UUID) -> Place:
    return Place("valkey", str(purchase_id), "cvv")


@contextmanager
def _valkey() -> Iterator[redis.Redis]:
    # A connection a call: a purchase has a handful, and a kept one would have to be looked after.
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
        ) as client:
            yield client
    except (redis.RedisError, OSError) as error:
        raise CvvUnreachable from error
