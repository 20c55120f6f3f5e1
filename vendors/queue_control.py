"""What a person does to a queue item: retry it, cancel it, take it over by hand and say how that
went.

Verbs, one transaction each. What cannot be done with the item as it stands raises NotPossible, and
then nothing was written. Many items at once are `queue_bulk.py`'s.
"""

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from jobs import control, errors, live
from jobs.effects import confirm_left_open
from jobs.errors import NotPossible
from jobs.models import Job, Status
from vendors.adding import find_bound_account
from vendors.cart_queue import FAILED_BY_PERSON, ROUTED, submit_job_of
from vendors.models import QueueItem, VendorAccount

PENDING, PROCESSING = QueueItem.Status.PENDING, QueueItem.Status.PROCESSING
FAILED, MANUAL = QueueItem.Status.FAILED, QueueItem.Status.MANUAL_REQUIRED
RETRIED = frozenset({FAILED, MANUAL})
CANCELLED = frozenset({PENDING, PROCESSING})
ROUTED_FROM = frozenset({PENDING, FAILED})
SETTLED_FROM = frozenset({MANUAL})
STATUSES = QueueItem.Status.choices
ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)  # a job that is with a person has not


def retry_item(item_id: uuid.UUID, *, by: str) -> QueueItem:
    """Has a failed item, or one that a person need not add after all, go on in its job: from where
    it stood, with all of its attempts anew. What may be in a cart already is looked up first.

    Raises NotPossible or QueueItem.DoesNotExist.
    """
    with transaction.atomic():
        item = _find(item_id, RETRIED, "retry")
        if reason := item.vendor.why_manual():
            raise NotPossible(
                "VENDOR_NEEDS_A_PERSON",
                f"{reason} Add “{item}” by hand and mark it as complete, or change the vendor and "
                "retry then.",
            )
        if item.job_id is None:
            item = _lock(item_id, RETRIED, "retry")
            new = submit_job_of(item)
            _write(item, status=PENDING, error_message=None, error_code="", job=new)
        else:
            with _jobs_answer():  # the job's steps are locked before it: it tells the item itself
                control.rerun_job(item.job_id, by=by)
        audit.note(item, Act.RERUN, by=by)
    item.refresh_from_db()
    return item


def cancel_item(item_id: uuid.UUID, *, by: str, reason: str = "") -> QueueItem:
    """Ends an item that is not done yet; a browser that is at work on it stops within seconds. The
    item has failed then, with the code `cancelled`. Raises NotPossible or QueueItem.DoesNotExist.
    """
    with transaction.atomic():
        item = _lock(item_id, CANCELLED, "cancel")
        _end_job(item, by, reason)
        audit.note(item, Act.CANCELLED, by=by, reason=reason)
    item.refresh_from_db()
    return item


def route_to_manual(item_id: uuid.UUID, *, by: str, reason: str) -> QueueItem:
    """Hands an item that waits or has failed to a person; `reason` is what that person reads.

    One that a browser works on this moment is not taken from it. Raises NotPossible or
    QueueItem.DoesNotExist.
    """
    with transaction.atomic():
        item = _lock(item_id, ROUTED_FROM, "route to manual")
        _end_job(item, by, reason)
        told = reason + _warn_of_cart(item)
        _write(item, status=MANUAL, error_message=told, error_code=ROUTED, completed_at=None)
        audit.note(item, Act.ASSIGNED, by=by, reason=reason)
    return item


def complete_by_hand(item_id: uuid.UUID, *, by: str, reason: str = "") -> QueueItem:
    """A person has added the item. Raises NotPossible or QueueItem.DoesNotExist."""
    done = QueueItem.Status.COMPLETED
    with transaction.atomic():
        item = _lock(item_id, SETTLED_FROM, "complete")
        _end_job(item, by, reason or "added to the cart by hand")
        if item.job_id:  # who has it in the cart need not be asked whether it is there
            confirm_left_open(item.job_id, by=by)
        _write(item, status=done, error_message=None, error_code="", completed_at=Now())
        audit.note(item, Act.SETTLED, by=by, outcome=done, reason=reason)
    item.refresh_from_db()
    return item


def fail_by_hand(item_id: uuid.UUID, *, by: str, reason: str = "") -> QueueItem:
    """A person could not add it, or need not. Raises NotPossible or QueueItem.DoesNotExist."""
    sentence = f"Failed by {by}: {reason}" if reason else f"Failed by {by}."
    with transaction.atomic():
        item = _lock(item_id, SETTLED_FROM, "fail")
        _end_job(item, by, reason)
        _write(item, status=FAILED, error_message=sentence, error_code=FAILED_BY_PERSON)
        audit.note(item, Act.SETTLED, by=by, outcome=FAILED, reason=reason)
    return item


def _find(item_id: uuid.UUID, possible: Collection[str], verb: str) -> QueueItem:
    item = QueueItem.objects.select_related("vendor", "created_by").get(pk=item_id)
    _refuse_impossible(item, possible, verb)
    return item


def _lock(item_id: uuid.UUID, possible: Collection[str], verb: str) -> QueueItem:
    """The item and, before it, its job, locked: whoever tells an item of its job locks so too."""
    found = _find(item_id, possible, verb)
    if found.job_id:
        Job.objects.select_for_update(no_key=True, of=("self",)).get(pk=found.job_id)
    rows = QueueItem.objects.select_related("vendor", "created_by")
    item = rows.select_for_update(no_key=True, of=("self",)).get(pk=item_id)
    _refuse_impossible(item, possible, verb)
    return item


def _refuse_impossible(item: QueueItem, possible: Collection[str], verb: str) -> None:
    if item.status in possible:
        return
    able = " or ".join(sorted(label.lower() for status, label in STATUSES if status in possible))
    raise NotPossible(
        "NOT_POSSIBLE_NOW",
        f"“{item}” is {item.get_status_display().lower()}: {verb} is for items that are {able}.",
    )


def _end_job(item: QueueItem, by: str, reason: str) -> None:
    """Nothing more is done for the item by itself. Needs the locks."""
    if item.job is None or item.job.status in ENDED:
        return
    with _jobs_answer():
        control.cancel_job(item.job.pk, by=by, reason=reason)


def _warn_of_cart(item: QueueItem) -> str:
    """For who adds it by hand: an attempt may have added it before it was stopped."""
    bound = find_bound_account(item.job_id) if item.job_id else None
    account = VendorAccount.objects.filter(pk=bound).first() if bound else None
    return f" It may be in the cart of {account} already: look there first." if account else ""


def _write(item: QueueItem, **fields: Any) -> None:
    QueueItem.objects.filter(pk=item.pk).update(**fields, updated_at=Now())
    for name, value in fields.items():
        setattr(item, name, value)
    if item.job_id:
        live.job_changed(item.job_id)


@contextmanager
def _jobs_answer() -> Iterator[None]:
    try:
        yield
    except errors.NotPossible as error:
        raise NotPossible(error.code.upper(), str(error)) from error
