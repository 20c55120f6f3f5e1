"""What became of a transaction and its voucher: verbs, one transaction each, for steps and people.

Safe to repeat, and never a step back: what is known already to be paid, issued or redeemed stays
so, whoever comes late with older news. Lock order: purchase, transaction, voucher.
"""

import uuid
from collections.abc import Collection
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from accounts.models import User
from jobs import live
from payments.models import Transaction, VoucherCode, VoucherPurchase

Status = Transaction.Status

# Before any money: what these say may change either way.
UNPAID = frozenset(
    {Status.PENDING, Status.LINK_CREATED, Status.PAYING, Status.FAILED, Status.UNKNOWN}
)
UNISSUED = UNPAID | {Status.PAID}
UNREDEEMED = UNISSUED | {Status.ISSUED, Status.PENDING_REDEMPTION}


def record_link(
    transaction_id: uuid.UUID, *, url: str, order: str, expires_at: datetime | None = None
) -> None:
    """The portal has made a payment link."""
    _write(
        transaction_id,
        UNPAID,
        Status.LINK_CREATED,
        link=url,
        order=order,
        link_created_at=Now(),
        link_expires_at=expires_at,
        **NO_ERROR,
    )


def record_paying(transaction_id: uuid.UUID) -> None:
    """The card is about to be charged."""
    _write(transaction_id, UNPAID, Status.PAYING, **NO_ERROR)


def record_paid(transaction_id: uuid.UUID, *, payment_reference: str = "") -> None:
    told = {"payment_reference": payment_reference[:100]} if payment_reference else {}
    _write(transaction_id, UNPAID, Status.PAID, paid_at=Now(), **told, **NO_ERROR)


def record_failed(transaction_id: uuid.UUID, code: str, sentence: str) -> None:
    """Nothing was paid, or it was paid back."""
    _write(transaction_id, UNISSUED, Status.FAILED, **_error(code, sentence))


def record_unknown(transaction_id: uuid.UUID, code: str, sentence: str) -> None:
    """Nobody can tell what became of it."""
    with transaction.atomic():
        _write(transaction_id, UNREDEEMED, Status.UNKNOWN, **_error(code, sentence))
        VoucherCode.objects.filter(
            transaction=transaction_id, status=VoucherCode.Status.ISSUED
        ).update(status=VoucherCode.Status.UNKNOWN, error_message=sentence)


def record_trouble(transaction_id: uuid.UUID, code: str, sentence: str) -> None:
    """Its status stands, but a person must know this of it: such as a voucher that never comes."""
    with transaction.atomic():
        row = _lock(transaction_id)
        _save(row, **_error(code, sentence))


def record_voucher(
    transaction_id: uuid.UUID,
    *,
    code: str,
    pin: str | None,
    amount: Decimal,
    expires_on: date | None = None,
) -> VoucherCode:
    """The portal has issued the voucher; the one that is there already when it is read again."""
    with transaction.atomic():
        row = _lock(transaction_id)
        voucher = VoucherCode.objects.filter(transaction=row).first()
        if voucher is None:
            voucher = VoucherCode(
                transaction=row,
                code=code,
                pin=pin or None,
                tail=code[-4:],
                amount=amount,
                expires_on=expires_on,
            )
            voucher.save(force_insert=True)
        if row.status in UNISSUED:
            paid_at = row.paid_at or Now()  # who issues a voucher was paid
            _save(row, status=Status.ISSUED, paid_at=paid_at, issued_at=Now(), **NO_ERROR)
    return voucher


def record_redeemed(
    voucher_id: uuid.UUID, *, by: User | str | None = None, reason: str = ""
) -> None:
    """The account's balance has it. `by`: a person says so, and that is noted."""
    with transaction.atomic():
        voucher, row = _lock_voucher(voucher_id)
        if voucher.status == VoucherCode.Status.REDEEMED:
            return
        VoucherCode.objects.filter(pk=voucher.pk).update(
            status=VoucherCode.Status.REDEEMED,
            redeemed_at=Now(),
            redeemed_by=by if isinstance(by, User) else None,
            error_message="",
        )
        _save(row, status=Status.REDEEMED, redeemed_at=Now(), **NO_ERROR)
        _count_completed(row.purchase_id)
        if by:
            audit.note(voucher, Act.SETTLED, by=by, outcome="redeemed", reason=reason)


def record_refused(voucher_id: uuid.UUID, code: str, sentence: str) -> None:
    """The redeeming shop does not take the voucher: a person must look at it."""
    with transaction.atomic():
        voucher, row = _lock_voucher(voucher_id)
        if voucher.status == VoucherCode.Status.REDEEMED:
            return
        VoucherCode.objects.filter(pk=voucher.pk).update(
            status=VoucherCode.Status.REFUSED, error_message=sentence
        )
        _save(row, status=Status.PENDING_REDEMPTION, **_error(code, sentence))


NO_ERROR = {"error_code": "", "error_message": ""}


def _error(code: str, sentence: str) -> dict[str, str]:
    return {"error_code": code[:50], "error_message": sentence}


def _write(
    transaction_id: uuid.UUID, before: Collection[str], status: Transaction.Status, **fields: Any
) -> None:
    with transaction.atomic():
        row = _lock(transaction_id)
        if row.status in before:
            _save(row, status=status, **fields)


def _lock(transaction_id: uuid.UUID) -> Transaction:
    purchases = VoucherPurchase.objects.select_for_update(no_key=True)
    list(purchases.filter(transactions=transaction_id).values_list("pk"))
    return Transaction.objects.select_for_update(no_key=True).get(pk=transaction_id)


def _lock_voucher(voucher_id: uuid.UUID) -> tuple[VoucherCode, Transaction]:
    row = _lock(VoucherCode.objects.values_list("transaction", flat=True).get(pk=voucher_id))
    return VoucherCode.objects.select_for_update(no_key=True).get(pk=voucher_id), row


def _save(row: Transaction, **fields: Any) -> None:
    Transaction.objects.filter(pk=row.pk).update(**fields, updated_at=Now())
    tell_pages(row.purchase_id)


def _count_completed(purchase_id: uuid.UUID) -> None:
    done = Transaction.objects.filter(purchase=purchase_id, status=Status.REDEEMED).count()
    VoucherPurchase.objects.filter(pk=purchase_id).update(
        completed_transactions=done, updated_at=Now()
    )


def tell_pages(purchase_id: uuid.UUID) -> None:
    """Pages that show the purchase look again once this is committed."""
    job_id = VoucherPurchase.objects.values_list("job_id", flat=True).get(pk=purchase_id)
    if job_id:
        live.job_changed(job_id)
