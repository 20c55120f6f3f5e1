"""A purchase as people and programs see it, in payment-automation-realtime's own shapes: the run
(`job_runs`) with its steps (`job_steps`) and codes (`otp_requests`), and where its money is.

No secret is in it: of a card and a voucher the last four characters, of a code that it was asked
for.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from jobs.events import with_open_waits
from jobs.models import OtpRequest, Status, Step, Wait
from payments import cvv
from payments.advice import decide_advice
from payments.models import Transaction, VoucherCode, VoucherPurchase
from payments.summary import Summary, describe_summary, plain_number, summarise

JOB_TYPE = "payment_automation"
VALIDATION = ("inventory_check", "gyftr_login", "amazon_login", "availability_check")
REDEMPTION = ("redeem_amazon_vouchers", "redeem_voucher")
OF_TRANSACTION = re.compile(r"(?P<name>\w+?)_(?P<index>[0-9]+)", re.ASCII)

# Sealed, or large and of no use here.
UNUSED = ("card__number", "card__expiry", "job__params", "job__result")
UNUSED_OF_VOUCHER = (
    "voucher__code",
    "voucher__pin",
    "voucher__job__params",
    "voucher__job__result",
)


def purchases_to_show(purchases: QuerySet[VoucherPurchase]) -> QuerySet[VoucherPurchase]:
    return purchases.select_related("card", "job", "created_by").defer(*UNUSED)


def run_row(purchase: VoucherPurchase) -> dict[str, Any]:
    """The columns of `job_runs`, and `purchase_id`. Needs `purchases_to_show`."""
    card = purchase.card
    return {
        "id": purchase.job_id,
        "purchase_id": purchase.pk,
        "user_id": str(purchase.created_by_id) if purchase.created_by_id else None,
        "job_type": JOB_TYPE,
        "status": purchase.status,
        "current_phase": purchase.current_phase,
        "progress_percentage": find_progress(purchase),
        "total_transactions": purchase.qty,
        "completed_transactions": purchase.completed_transactions,
        "transaction_amount": plain_number(purchase.amount),
        "transaction_count": purchase.qty,
        "created_at": purchase.created_at,
        "updated_at": purchase.updated_at,
        "completed_at": purchase.completed_at,
        "error_message": purchase.error_message,
        "metadata": {
            "cardType": purchase.card_type,
            "card": str(card),
            "currency": purchase.currency,
            "started_by": purchase.created_by.get_username() if purchase.created_by else None,
            "error_code": purchase.error_code,
        },
    }


def find_progress(purchase: VoucherPurchase) -> int:
    """Per cent. A job that was archived has ended."""
    if purchase.job:
        return purchase.job.progress
    if purchase.status == VoucherPurchase.Status.COMPLETED:
        return 100
    return 20 + 80 * purchase.completed_transactions // purchase.qty


def read_run(purchase: VoucherPurchase) -> dict[str, Any]:
    """All of it, with a fixed number of queries. Needs `purchases_to_show`."""
    related = purchase.transactions.select_related("voucher__job", "voucher__redeemed_by")
    transactions = list(related.defer(*UNUSED_OF_VOUCHER))
    steps = read_steps(purchase, transactions)
    summary = summarise(transactions)
    row = run_row(purchase)
    return {
        **row,
        "retry_count": sum(max(step["step_data"]["attempt"] - 1, 0) for step in steps),
        "progress": row["progress_percentage"],
        "message": describe(purchase, summary, _now_doing(steps)),
        "advice": decide_advice(purchase.status, purchase.error_code),
        "summary": summary.to_data(),
        "waiting_for_cvv": _waits_for_cvv(purchase),
        "job_steps": steps,
        "otp_requests": read_codes(steps),
        "transactions": [transaction_row(each, purchase) for each in transactions],
    }


def describe(purchase: VoucherPurchase, summary: Summary, doing: str) -> str:
    """What it does now (`doing`: its step's words), or how it ended."""
    if purchase.has_ended:
        return describe_summary(summary, purchase.currency)
    now = (doing or purchase.get_status_display()).rstrip(".")
    if not summary.paid.count:
        return f"{now}."
    return f"{now}. {summary.redeemed.count} of {purchase.qty} redeemed."


def _now_doing(steps: Iterable[Mapping[str, Any]]) -> str:
    """What the step that is being worked on says of itself."""
    for step in steps:
        if step["status"] in ("in_progress", "waiting_otp"):
            return str(step["step_data"]["phase"] or step["step_data"]["title"])
    return ""


def _waits_for_cvv(purchase: VoucherPurchase) -> bool:
    waits = Wait.objects.filter(status=Wait.Status.OPEN, topic=cvv.topic(purchase.pk))
    return waits.filter(workspace=purchase.workspace_id).exists()


# ---- steps and codes ----------------------------------------------------------------------------


def read_steps(
    purchase: VoucherPurchase, transactions: Collection[Transaction]
) -> list[dict[str, Any]]:
    """Of its job, in the plan's order; then those of the jobs that redeem a voucher later."""
    later = {
        voucher.job_id: each.index
        for each in transactions
        if (voucher := each.find_voucher()) and voucher.job_id
    }
    rows = Step.objects.filter(job__in=[purchase.job_id, *later]).select_related("job")
    ordered = rows.order_by("job", "stage", "position").defer("params", "checkpoint", "output")
    return [step_row(step, later.get(step.job_id)) for step in with_open_waits(ordered)]


def step_row(step: Step, index: int | None = None) -> dict[str, Any]:
    """The columns of `job_steps`. `index`: the transaction that all of its job is about."""
    found = OF_TRANSACTION.fullmatch(step.name)
    name = found["name"] if found else step.name
    waits: list[Wait] = step.open_waits  # type: ignore[attr-defined]
    code = next((wait for wait in waits if wait.kind == Wait.Kind.OTP), None)
    status = decide_step_status(
        Status(step.status), was_begun=step.started_at is not None, waits_for_code=code is not None
    )
    return {
        "id": step.pk,
        "job_run_id": step.job_id,
        "step_name": name,
        "step_type": decide_step_type(name),
        "status": status,
        "transaction_index": int(found["index"]) if found else index,
        "started_at": step.started_at,
        "completed_at": step.finished_at,
        "timeout_at": code.deadline_at if code else None,
        "step_data": {
            "title": step.title,
            "phase": step.phase,
            "progress": step.progress,
            "attempt": step.attempt,
            "max_attempts": step.max_attempts,
            "due_at": step.due_at if step.status == Status.WAITING else None,
            "waits": [wait.state() for wait in waits],
        },
        "error_message": step.error["message"] if step.error else None,
        "created_at": step.job.created_at,
    }


def decide_step_type(name: str) -> str:
    if name in VALIDATION:
        return "validation"
    return "redemption" if name in REDEMPTION else "payment"


def decide_step_status(status: Status, *, was_begun: bool, waits_for_code: bool) -> str:
    """The document's word. What was never begun is pending, though nothing will come of it."""
    match status:
        case Status.COMPLETED | Status.FAILED:
            return str(status)
        case Status.RUNNING:
            return "in_progress"
        case Status.WAITING if waits_for_code:
            return "waiting_otp"
        case Status.WAITING | Status.READY:
            return "in_progress" if was_begun else "pending"
        case Status.CANCELLED:
            return "failed" if was_begun else "pending"
    return "pending"


def read_codes(steps: Collection[Mapping[str, Any]]) -> list[dict[str, Any]]:
    jobs = {step["job_run_id"] for step in steps}
    requests = OtpRequest.objects.filter(job__in=jobs).order_by("id").defer("otp_value")
    return [code_row(request) for request in requests]


def code_row(request: OtpRequest) -> dict[str, Any]:
    """The columns of `otp_requests`, but for the code itself."""
    return {
        "id": request.pk,
        "job_run_id": request.job_id,
        "job_step_id": request.step_id,
        "otp_type": request.otp_type,
        "service": request.service,
        "phone_number": mask_phone(request.phone_number),
        "requested_at": request.requested_at,
        "received_at": request.received_at,
        "verified_at": request.verified_at,
        "timeout_at": request.timeout_at,
        "attempts_count": request.attempts_count,
        "max_attempts": request.max_attempts,
        "status": request.status,
    }


def mask_phone(number: str) -> str:
    digits = "".join(filter(str.isdigit, number))
    return f"•••• {digits[-4:]}" if digits else ""


# ---- transactions and vouchers ------------------------------------------------------------------


def transaction_row(transaction: Transaction, purchase: VoucherPurchase) -> dict[str, Any]:
    voucher = transaction.find_voucher()
    return {
        "id": transaction.pk,
        "index": transaction.index,
        "status": transaction.status,
        "status_label": transaction.get_status_display(),
        "amount": plain_number(transaction.amount),
        "reference": transaction.reference,
        "order": transaction.order,
        "link": transaction.link if is_payable(transaction, timezone.now()) else "",
        "link_expires_at": transaction.link_expires_at,
        "payment_reference": transaction.payment_reference,
        "paid_at": transaction.paid_at,
        "issued_at": transaction.issued_at,
        "redeemed_at": transaction.redeemed_at,
        "error_code": transaction.error_code,
        "error_message": transaction.error_message,
        "voucher": voucher_row(voucher, purchase) if voucher else None,
    }


def is_payable(transaction: Transaction, now: datetime) -> bool:
    """Whether its link may still lead to a payment."""
    is_open = transaction.status in (Transaction.Status.LINK_CREATED, Transaction.Status.PAYING)
    expires_at = transaction.link_expires_at
    return is_open and (expires_at is None or expires_at > now)


def voucher_row(voucher: VoucherCode, purchase: VoucherPurchase) -> dict[str, Any]:
    """`can_redeem`: now, by a click or by hand."""
    is_open = voucher.status in (VoucherCode.Status.ISSUED, VoucherCode.Status.REFUSED)
    return {
        "id": voucher.pk,
        "tail": voucher.tail,
        "amount": plain_number(voucher.amount),
        "status": voucher.status,
        "expires_on": voucher.expires_on,
        "issued_at": voucher.issued_at,
        "redeemed_at": voucher.redeemed_at,
        "redeemed_by": voucher.redeemed_by.get_username() if voucher.redeemed_by else None,
        "error_message": voucher.error_message,
        "job_id": voucher.job_id,
        "can_redeem": is_open and purchase.has_ended and not voucher.is_being_redeemed,
        "can_mark_redeemed": (
            voucher.status != VoucherCode.Status.REDEEMED
            and purchase.has_ended
            and not voucher.is_being_redeemed
        ),
    }
