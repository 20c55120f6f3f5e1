"""The rows of sessions at the sites: which browser has one, and what fills a new browser."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.db.models.functions import Now

from jobs.processes import host_queue
from payments.models import AuthSession, SiteAccount

Type = AuthSession.Type


def find_storage_state(account: SiteAccount, kind: AuthSession.Type) -> dict[str, Any] | None:
    """What a new browser of the account is filled with. Whoever has it is signed in."""
    session = AuthSession.objects.filter(account=account, session_type=kind, is_active=True).first()
    return dict(session.session_data) if session and session.session_data else None


def save_session(
    account: SiteAccount, kind: AuthSession.Type, key: str, storage_state: Mapping[str, Any]
) -> None:
    """The account is signed in, in the browser of this key, on this machine."""
    AuthSession.objects.update_or_create(
        account=account,
        transaction=None,
        session_type=kind,
        is_active=True,
        defaults={
            "browser_context_id": key,
            "queue": host_queue(),
            "session_data": dict(storage_state),
            "last_used_at": Now(),
        },
    )


def note_payment_page(transaction_id: uuid.UUID, key: str) -> None:
    """The transaction's payment page stays open in the browser of this key, on this machine."""
    AuthSession.objects.update_or_create(
        account=None,
        transaction_id=transaction_id,
        session_type=Type.PAYMENT,
        is_active=True,
        defaults={"browser_context_id": key, "queue": host_queue(), "last_used_at": Now()},
    )


def close_payment_page(transaction_id: uuid.UUID) -> None:
    AuthSession.objects.filter(transaction=transaction_id, is_active=True).update(is_active=False)
