"""What a Frappe site is told: the status of a line, written into the site's document.

A line is due in the transaction that changes its queue item: a trigger sees to that
(`vendors/models/telling.py`). What is sent is the state of that moment, so a change that came while
an earlier one waited is told once, and telling the same twice changes nothing there. A claim takes
a lease with the attempt's number as its fencing token.
"""

import json
import random
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog
from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from accounts.errors import UnsealError
from jobs.webhooks.deliveries import (
    LEASE,
    Answer,
    Message,
    decide_delay,
    describe_outcome,
    is_due,
)
from vendors.models import ErpnextConnection, ErpnextLine

log = structlog.get_logger(__name__)

Status = ErpnextLine.Status
PENDING = Status.PENDING
EXCEPTION_TYPE = re.compile(r'"exc_type"\s*:\s*"(\w{1,80})"')

# What to do about each of Frappe's refusals (frappe/exceptions.py), by status or exception.
ADVICE: Mapping[str, str] = {
    "UpdateAfterSubmitError": "The document is submitted: tick Allow on Submit for the fields that "
    "are written.",
    "TimestampMismatchError": "Somebody saved the document at the same time; it is tried again.",
    "401": "The API key or secret is wrong: generate new keys for the site's user.",
    "403": "The site's user may not write this DocType: give it a role that may.",
    "404": "The document is not there, or the DocType is named differently.",
    "417": "The site's own validation refused it.",
    "429": "The site limits its rate; it is tried again.",
}


@dataclass(frozen=True)
class Update:
    """A line that is ours to tell, for as long as `message.attempt` is its fencing token."""

    line: uuid.UUID
    version: int
    told: Mapping[str, Any]
    is_local: bool
    is_known: bool  # the site has taken just this already
    message: Message


def send_again(line: ErpnextLine) -> bool:
    """It is due now, whatever came of it before; its schedule starts anew. Safe to repeat. False
    if its connection sends nothing."""
    if not (line.connection.is_active and line.connection.sends_updates):
        return False
    with transaction.atomic():
        rows = ErpnextLine.objects.filter(pk=line.pk)
        rows.update(
            status=PENDING,
            version=F("version") + 1,
            told=None,
            due_at=Now(),
            attempts_before=F("attempt"),
        )
        audit.note(line, Act.SENT_AGAIN, connection=line.connection)
    return True


def claim_due(most: int) -> list[Update]:
    """Lines whose time has come, claimed for this process: one of a site at a time, so that rows of
    one document are not saved over each other."""
    with transaction.atomic():
        mine = ErpnextLine.objects.filter(connection=OuterRef("pk"), status=PENDING)
        rows = ErpnextConnection.objects.filter(
            Exists(mine.filter(is_due())),
            ~Exists(mine.filter(lease_expires_at__gt=Now())),
            is_active=True,
            sends_updates=True,
        )
        # In any order, so that none is always the last.
        rows = rows.select_for_update(no_key=True, skip_locked=True, of=("self",)).order_by("?")
        claimed = [_claim_of(connection) for connection in rows[:most]]
    return [_make_update(pk) for pk in claimed if pk]


def _claim_of(connection: ErpnextConnection) -> uuid.UUID | None:
    # Looked at again, now that the connection is ours: another sender may have been first.
    mine = ErpnextLine.objects.filter(connection=connection, status=PENDING)
    if mine.filter(lease_expires_at__gt=Now()).exists():
        return None
    due = mine.filter(is_due()).order_by("due_at")
    chosen = due.select_for_update(no_key=True, skip_locked=True, of=("self",)).first()
    if chosen is None:
        return None
    rows = ErpnextLine.objects.filter(pk=chosen.pk)
    rows.update(attempt=F("attempt") + 1, lease_expires_at=Now() + LEASE)
    return chosen.pk


def _make_update(pk: uuid.UUID) -> Update:
    lines = ErpnextLine.objects.select_related("connection", "queue_item__vendor")
    line = lines.annotate(time=Now()).get(pk=pk)
    connection, told = line.connection, _told(line)
    secrets, problem = _find_secrets(connection, line)
    return Update(
        line=line.pk,
        version=line.version,
        told=told,
        is_local=connection.is_local,
        is_known=told == line.told,
        message=Message(
            id=str(line.pk),
            attempt=line.attempt,
            tries=max(line.attempt - line.attempts_before, 1),
            url=f"{connection.site_url.rstrip('/')}/api/resource/"
            f"{quote(connection.update_doctype, safe='')}/{quote(line.name_in_site, safe='')}",
            claimed_at=line.time,
            history=line.history,
            secrets=secrets,
            body=json.dumps(told),
            problem=problem,
        ),
    )


def _told(line: ErpnextLine) -> dict[str, Any]:
    """By the site's fields: the state as it is now."""
    item = line.queue_item
    values = (
        {
            "status": item.status,
            "message": item.error_message or "",
            "queue_id": str(item.pk),
            "vendor": item.vendor.name,
        }
        if item
        else {}
    )
    fields = line.connection.told_fields.items()
    return {field: values[what] for what, field in fields if what in values}


def _find_secrets(
    connection: ErpnextConnection, line: ErpnextLine
) -> tuple[list[str], Answer | None]:
    audit.note_access(connection, columns=["api_key", "api_secret"], line=line.pk)
    try:
        key, secret = connection.api_key, connection.api_secret
    except UnsealError as error:  # of one connection: the others must be told
        return [], Answer(error=str(error), is_ours=True)
    if not key or not secret:
        sentence = "The connection has no API key and secret: enter those of the site's user."
        return [], Answer(error=sentence, is_ours=True)
    return [f"token {key}:{secret}"], None


def record(update: Update, answer: Answer) -> bool:
    """Writes down what came of an attempt; False when our claim no longer holds."""
    message = update.message
    error = explain(answer)
    delay = decide_delay(answer, message.tries, random.random())  # noqa: S311
    outcome = describe_outcome(message, answer, error)
    if answer.is_success:
        outcome |= {"told": update.told, "delivered_at": Now()}
    claim = ErpnextLine.objects.filter(pk=update.line, attempt=message.attempt, status=PENDING)
    with transaction.atomic():
        if not claim.update(**outcome):
            return False
        # What has changed meanwhile is due already, and stays so.
        same = claim.filter(version=update.version)
        if answer.is_success:
            same.update(status=Status.DELIVERED)
        elif delay is None:
            same.update(status=Status.FAILED)
        else:
            same.update(due_at=Now() + delay)
    _log(update, answer, error)
    return True


def record_known(update: Update) -> None:
    """Nothing has to be sent: the site has it."""
    claim = ErpnextLine.objects.filter(
        pk=update.line, attempt=update.message.attempt, status=PENDING
    )
    with transaction.atomic():
        claim.filter(version=update.version).update(status=Status.DELIVERED, error="")
        ErpnextLine.objects.filter(pk=update.line, attempt=update.message.attempt).update(
            lease_expires_at=None
        )


def explain(answer: Answer) -> str:
    """What was wrong and what to do, in ERPNext's words; empty after a success."""
    if answer.is_success or answer.status is None:
        return answer.error
    if 300 <= answer.status < 400:
        return f"The site redirects ({answer.status}), which is not followed. Check its URL."
    found = EXCEPTION_TYPE.search(answer.body)
    kind = found[1] if found else ""
    advice = ADVICE.get(kind) or ADVICE.get(str(answer.status))
    said = f"The site answered {answer.status} {kind}".strip()
    return f"{said}. {advice}" if advice else f"{said}."


def _log(update: Update, answer: Answer, error: str) -> None:
    facts = {"line": str(update.line), "attempt": update.message.attempt, "status": answer.status}
    if answer.is_success:
        log.info("erpnext_told", **facts)
    else:
        log.warning("erpnext_not_told", **facts, error=error)
