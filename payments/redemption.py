"""Vouchers that were issued and not redeemed: redeemed later by a job, or by hand.

Verbs, one transaction each. What cannot be done with the voucher as it stands raises NotPossible,
and then nothing was written.
"""

import uuid

from django.db import transaction

from accounts import audit
from accounts.models import User
from jobs.errors import NotPossible
from jobs.models import Job
from jobs.submit import submit_job
from payments import recording
from payments.models import VoucherCode, VoucherPurchase
from payments.models.purchases import format_money
from payments.purchases import VOUCHER_REDEEM

Status = VoucherCode.Status


def redeem_later(voucher_id: uuid.UUID, *, by: User | None) -> Job:
    """The job that redeems the voucher; the one that is at it already, where there is one.

    Raises NotPossible or VoucherCode.DoesNotExist.
    """
    with transaction.atomic():
        voucher = _lock(voucher_id)
        if voucher.job and voucher.is_being_redeemed:
            return voucher.job
        _refuse_unredeemable(voucher)
        purchase = voucher.transaction.purchase
        account = purchase.card.redeemer_account
        if not account.is_usable:
            raise NotPossible(
                "NO_ACTIVE_ACCOUNT",
                f"{account} at {account.site} is not active: activate it, or redeem {voucher} by "
                "hand and mark it as redeemed.",
            )
        voucher.job = submit_job(
            VOUCHER_REDEEM,
            {
                "voucher": str(voucher.pk),
                "purchase": str(purchase.pk),
                "redeemer_account": str(account.pk),
            },
            title=f"Redeem {format_money(voucher.amount, purchase.currency)}, {voucher}",
            created_by=by or purchase.created_by,  # whose workspace its codes come to
        )
        VoucherCode.objects.filter(pk=voucher.pk).update(
            job=voucher.job, status=Status.ISSUED, error_message=""
        )
        recording.tell_pages(purchase.pk)
    return voucher.job


def mark_redeemed(voucher_id: uuid.UUID, *, by: User | str, reason: str = "") -> VoucherCode:
    """A person has redeemed the voucher, and that is noted.

    Raises NotPossible or VoucherCode.DoesNotExist.
    """
    with transaction.atomic():
        voucher = _lock(voucher_id)
        if voucher.status == Status.REDEEMED:
            raise NotPossible("NOT_POSSIBLE_NOW", f"{voucher} is redeemed already.")
        _refuse_at_work(voucher)
        recording.record_redeemed(voucher_id, by=by, reason=reason)
    # Not all of it: that would open the code.
    voucher.refresh_from_db(fields=["status", "redeemed_at", "redeemed_by", "error_message"])
    return voucher


def reveal(voucher: VoucherCode, *, by: User) -> tuple[str, str | None]:
    """The code and the PIN, to be shown to this person; that is noted first."""
    audit.note_access(voucher, by=by, why="shown to a person")
    return voucher.code, voucher.pin


def _lock(voucher_id: uuid.UUID) -> VoucherCode:
    found = VoucherCode.objects.values_list("transaction__purchase", flat=True).get(pk=voucher_id)
    VoucherPurchase.objects.select_for_update(no_key=True).get(pk=found)
    rows = VoucherCode.objects.select_related(
        "job",
        "transaction__purchase__card__redeemer_account__site",
        "transaction__purchase__created_by",
    )
    return rows.select_for_update(no_key=True, of=("self",)).get(pk=voucher_id)


def _refuse_unredeemable(voucher: VoucherCode) -> None:
    if voucher.status == Status.REDEEMED:
        raise NotPossible("NOT_POSSIBLE_NOW", f"{voucher} is redeemed already.")
    if voucher.status == Status.UNKNOWN:
        raise NotPossible(
            "OUTCOME_IS_UNKNOWN",
            f"Nobody knows whether {voucher} was redeemed. Look at the account's history and say "
            "so in the inbox, or mark it as redeemed.",
        )
    _refuse_at_work(voucher)


def _refuse_at_work(voucher: VoucherCode) -> None:
    purchase = voucher.transaction.purchase
    if not purchase.has_ended:
        raise NotPossible(
            "PURCHASE_AT_WORK",
            f"{purchase} is at work and redeems {voucher} itself; wait for its end, or cancel it.",
        )
    if voucher.is_being_redeemed:
        raise NotPossible(
            "BEING_REDEEMED", f"{voucher.job} is at work; wait for its end, or cancel it."
        )
