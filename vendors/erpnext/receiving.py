"""A webhook of a Frappe site: checked, and its rows queued, each once.

Frappe sends a webhook again when it has no answer within five seconds, and a new one whenever the
document is saved. It gives none an id; the document's name and the row's are what we know it by.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts import audit
from vendors import cart_queue
from vendors.erpnext.mapping import AskedDocument, AskedRow, check_request, read_document
from vendors.errors import RequestRefused
from vendors.models import ErpnextConnection, ErpnextLine

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
    with transaction.atomic():
        lines = _find_lines(connection, document)
        known = {line.row: line for line in lines}
        received = [
            _receive(connection, document, row, known.get(row.row)) for row in document.rows
        ]
    new = sum(each.is_new for each in received)
    log.info("erpnext_received", connection=str(connection.pk), document=document.name, queued=new)
    return received


def _receive(
    connection: ErpnextConnection, document: AskedDocument, row: AskedRow, known: ErpnextLine | None
) -> Received:
    if known is None:
        try:
            with transaction.atomic():
                return Received(_queue(connection, document, row), is_new=True)
        except IntegrityError:
            # Another request with the same row was first, and what we queued is rolled back.
            known = _find_lines(connection, document).filter(row=row.row).first()
            if known is None:
                raise
    return Received(known, is_new=False, has_changed=known.asked != row.asked)


def _queue(connection: ErpnextConnection, document: AskedDocument, row: AskedRow) -> ErpnextLine:
    checked = check_request(row)
    try:
        item = cart_queue.enqueue(
            cart_queue.CartRequest(
                vendor=checked["vendor"],
                product_url=checked["product_url"],
                product_name=checked.get("product_name"),
                product_data=checked.get("product_data") or {},
                user_id=checked["user_id"],
                requested_by=connection.user,
            )
        )
    except RequestRefused as error:
        raise RequestRefused(
            error.code, f"{row.path}: {error}" if row.path else str(error)
        ) from error
    # What follows is the trigger's (`vendors/models/telling.py`).
    first = ErpnextLine.Status.PENDING if connection.sends_updates else ErpnextLine.Status.NONE
    return ErpnextLine.objects.create(
        connection=connection,
        document=document.name,
        row=row.row,
        queue_item=item,
        asked=dict(row.asked),
        status=first,
    )


def _find_lines(
    connection: ErpnextConnection, document: AskedDocument
) -> QuerySet[ErpnextLine, ErpnextLine]:
    lines = ErpnextLine.objects.select_related("queue_item")
    return lines.filter(connection=connection, document=document.name)
