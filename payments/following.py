"""Keeps a purchase in step with its job: statuses and phases as payment-automation-realtime has
them. What became of a transaction, its own steps record (`recording.py`)."""

import uuid
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.db.models.functions import Now

from jobs.events import NewEvent, append_events
from jobs.models import FINISHED, Job, Status
from jobs.plans import Change
from payments import cvv
from payments.errors import CvvUnreachable
from payments.models import Transaction, VoucherPurchase
from payments.summary import describe_summary, read_summary

log = structlog.get_logger(__name__)

Phase = VoucherPurchase.Phase

# The steps of the first phase; each of them may be followed by the number of its transaction.
VALIDATION_STEPS = (
    "inventory_check",
    "gyftr_login",
    "amazon_login",
    "availability_check",
    "generate_payment_link",
)


def follow_job(change: Change) -> None:
    """Runs in the transaction of each of the job's changes."""
    fields: dict[str, Any] = {
        "status": decide_status(change.job_status, change.step_name),
        "updated_at": Now(),
    }
    if phase := decide_phase(change.job_status, change.step_name):
        fields["current_phase"] = phase
    if change.step_status == Status.READY and change.attempt == 0:
        # From its start, or once more from there: what was is no longer so.
        fields |= {"error_message": None, "error_code": "", "completed_at": None}
    if change.error:
        fields |= {"error_message": change.error["message"], "error_code": change.error["code"]}
    if change.job_status == Status.COMPLETED:
        fields |= {"error_message": None, "error_code": ""}
    if change.job_status in FINISHED:
        fields["completed_at"] = Now()
    purchases = VoucherPurchase.objects.filter(job_id=change.job_id)
    purchases.update(**fields)
    if uses_cvv_up(change):
        _erase_cvv_on_commit(purchases.values_list("pk", flat=True).get())
    # A cancelled job's browser may be at work for a moment yet; its end is told as well.
    if change.job_status in FINISHED and change.step_status != Status.RUNNING:
        purchase = purchases.get()
        _close(purchase.pk)
        if change.job_status != Status.COMPLETED:  # its last step has summed up
            _sum_up(purchase, change.job_id)


def decide_status(job: Status, step_name: str) -> VoucherPurchase.Status:
    """The document's word for where a job stands."""
    match job:
        case Status.COMPLETED:
            return VoucherPurchase.Status.COMPLETED
        case Status.FAILED:
            return VoucherPurchase.Status.FAILED
        case Status.MANUAL:
            return VoucherPurchase.Status.MANUAL
        case Status.CANCELLED:
            return VoucherPurchase.Status.CANCELLED
        case Status.PENDING:
            return VoucherPurchase.Status.INITIATED
    if is_validation(step_name):
        return VoucherPurchase.Status.VALIDATING
    return VoucherPurchase.Status.PROCESSING


def decide_phase(job: Status, step_name: str) -> VoucherPurchase.Phase | None:
    """None: the phase in which it ended stays."""
    if job == Status.COMPLETED:
        return Phase.COMPLETE
    if job in FINISHED:
        return None
    return Phase.VALIDATION if is_validation(step_name) else Phase.PAYMENT_PROCESSING


def is_validation(step_name: str) -> bool:
    return step_name.startswith(VALIDATION_STEPS)


def _close(purchase_id: uuid.UUID) -> None:
    """Nobody works on it any more: what is not redeemed waits for a person's word, and of what was
    being paid nobody knows."""
    rows = Transaction.objects.filter(purchase=purchase_id)
    rows.filter(status=Transaction.Status.ISSUED).update(
        status=Transaction.Status.PENDING_REDEMPTION, updated_at=Now()
    )
    rows.filter(status=Transaction.Status.PAYING).update(
        status=Transaction.Status.UNKNOWN,
        error_code="stopped_while_paying",
        error_message="The purchase ended while this was being paid. Look at the portal's order "
        "page, or run the purchase again: it looks there before it pays.",
        updated_at=Now(),
    )
    _erase_cvv_on_commit(purchase_id)


def uses_cvv_up(change: Change) -> bool:
    """The last payment is made: nothing needs the card any more."""
    last = f"process_payment_{change.params['qty']}"
    return change.step_name == last and change.step_status == Status.COMPLETED


def _sum_up(purchase: VoucherPurchase, job_id: uuid.UUID) -> None:
    """Where the money is, as the job's result and as an event: for timeline and webhooks."""
    found = read_summary(purchase)
    message = describe_summary(found, purchase.currency)
    result = {"message": message, "summary": found.to_data()}
    job = Job.objects.select_for_update(no_key=True, of=("self",)).get(pk=job_id)
    job.result = result
    job.save(update_fields=["result"])
    append_events(job, [NewEvent("purchase.summary", message, job={"result": result})])


def _erase_cvv_on_commit(purchase_id: uuid.UUID) -> None:
    transaction.on_commit(partial(_erase_cvv, purchase_id))


def _erase_cvv(purchase_id: uuid.UUID) -> None:
    try:
        cvv.erase(purchase_id)
    except CvvUnreachable:
        log.warning("cvv_not_erased", purchase=str(purchase_id))
