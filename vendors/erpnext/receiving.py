"""A webhook of a Frappe site: checked, and its rows queued, each once.

Frappe sends a webhook again when it has no answer within five seconds, and a new one whenever the
document is saved. It gives none an id; the document's name and the row's are what we know it by.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from accounts import audit
from vendors import cart_queue
from vendors.cart_queue import ERPNEXT_KEY, CartRequest
from vendors.erpnext.mapping import AskedDocument, AskedRow, check_requests, read_document
from vendors.models import ErpnextConnection, ErpnextLine, QueueItem

log = structlog.get_logger(__name__)

SIGNATURE_LENGTH = 44  # of 32 bytes, in base64


@dataclass(frozen=True)
class Received:
    """What stands in the queue for a row, now or from an earlier webhook."""

    line: ErpnextLine
    is_new: bool
    has_changed: bool = False  # since it was queued: the row asks for something else now


def find_signer(pk: str, raw: bytes, signature: str) -> ErpnextConnection | None:
    """The active connection of this id, if its secret has signed these very bytes.

    Frappe: base64 of the HMAC-SHA256 of the body as it is sent. Versions write the JSON
    differently, so nothing but the bytes that came can be checked.
    """
    if len(signature) != SIGNATURE_LENGTH:
        return None
    try:
        connection = ErpnextConnection.objects.filter(pk=UUID(pk), is_active=True).first()
    except ValueError:
        return None
    if connection is None:
        return None
    audit.note_access(connection, columns=["webhook_secret"])
    digest = hmac.new(connection.webhook_secret.encode(), raw, hashlib.sha256).digest()
    is_right = hmac.compare_digest(base64.b64encode(digest), signature.encode())
    return connection if is_right else None


def receive(connection: ErpnextConnection, body: Mapping[str, Any]) -> list[Received]:
    """Queues every row of the document that is not queued yet: all of them, or none. Safe to
    repeat. Raises DRF's ValidationError, or RequestRefused."""
    document = read_document(connection, body)
    known = _find_lines(connection, document)
    unknown = [row for row in document.rows if row.row not in known]
    requests = check_requests(connection, unknown)
    with transaction.atomic():
        new = _queue(connection, document, unknown, requests)
    if unknown:
        known = _find_lines(connection, document)  # a rival's among them
    received = [
        Received(
            known[row.row],
            is_new=row.row in new,
            has_changed=row.row not in new and known[row.row].asked != row.asked,
        )
        for row in document.rows
    ]
    log.info(
        "erpnext_received", connection=str(connection.pk), document=document.name, queued=len(new)
    )
    return received


def _queue(
    connection: ErpnextConnection,
    document: AskedDocument,
    rows: Sequence[AskedRow],
    requests: Sequence[CartRequest],
) -> set[str]:
    """The rows whose items were queued just now. Those that came by another door before, or by
    another webhook in the same moment, have the item that they have there."""
    items = cart_queue.enqueue_all(requests)
    others = _find_of_other_sites(connection, items)
    if others:
        again = [_as_its_own(connection, requests[place]) for place in others]
        for place, item in zip(others, cart_queue.enqueue_all(again), strict=True):
            items[place] = item
    # What follows is the trigger's (`vendors/models/telling.py`).
    first = ErpnextLine.Status.PENDING if connection.sends_updates else ErpnextLine.Status.NONE
    ErpnextLine.objects.bulk_create(
        [
            ErpnextLine(
                connection=connection,
                document=document.name,
                row=row.row,
                queue_item=item,
                asked=_as_queued(row, request, item),
                status=first,
            )
            for row, request, item in zip(rows, requests, items, strict=True)
        ],
        ignore_conflicts=True,
    )
    return {row.row for row, item in zip(rows, items, strict=True) if not item.is_replay}


def _find_of_other_sites(connection: ErpnextConnection, items: Sequence[QueueItem]) -> list[int]:
    """The places of items that are another site's, whose documents have the same names."""
    replayed = {item.pk: place for place, item in enumerate(items) if item.is_replay}
    if not replayed:
        return []
    lines = ErpnextLine.objects.filter(queue_item__in=replayed).exclude(connection=connection)
    return sorted(replayed[pk] for pk in lines.values_list("queue_item", flat=True).distinct())


def _as_its_own(connection: ErpnextConnection, request: CartRequest) -> CartRequest:
    named = f"{connection.pk} {request.idempotency_key}".encode()
    return replace(request, idempotency_key=ERPNEXT_KEY + hashlib.sha256(named).hexdigest())


def _as_queued(row: AskedRow, request: CartRequest, item: QueueItem) -> dict[str, Any]:
    """What the row asked for; of one that came by another door and asked for something else then,
    what that was."""
    if not item.is_replay or item.request_hash == request.digest:
        return dict(row.asked)
    return {"product_url": item.product_url, "product_data": item.product_data}


def _find_lines(connection: ErpnextConnection, document: AskedDocument) -> dict[str, ErpnextLine]:
    lines = ErpnextLine.objects.filter(connection=connection, document=document.name)
    return {line.row: line for line in lines.select_related("queue_item")}
