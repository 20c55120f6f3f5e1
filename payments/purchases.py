"""Starting a purchase: everything that can be known to be wrong is said before a row is written."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit
from accounts.errors import UnsealError
from accounts.models import User
from jobs import waits
from jobs.submit import submit_job
from payments import cvv as cvvs
from payments.card_numbers import read_cvv
from payments.errors import CvvUnreachable, InvalidCard, KeyReused, PurchaseRefused
from payments.models import Card, SiteAccount, Transaction, VoucherPurchase

log = structlog.get_logger(__name__)

VOUCHER_PURCHASE = "voucher_purchase"  # the workflows' names
VOUCHER_REDEEM = "voucher_redeem"


@dataclass(frozen=True)
class PurchaseRequest:
    """What is asked for, as it was asked."""

    user: User
    card_type: str
    qty: int
    amount: Decimal  # of each voucher
    idempotency_key: str | None = None  # of this caller: the same key is the same purchase

    @property
    def digest(self) -> str:
        """Equal for requests that ask for the same."""
        asked = [self.card_type.upper(), self.qty, str(self.amount.normalize())]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def start_purchase(
    user: User,
    card_type: str,
    qty: int,
    amount: Decimal | int,
    cvv: str | None = None,
    idempotency_key: str | None = None,
) -> VoucherPurchase:
    """A purchase whose job has been submitted, or the one that this key stands for already.

    The CVV, where one is given, is kept for it in Valkey; without one, or when Valkey is away, the
    purchase asks for it when it is needed. Raises PurchaseRefused or KeyReused; then nothing was
    written.
    """
    request = PurchaseRequest(user, card_type, qty, Decimal(amount), idempotency_key)
    if cvv:
        _read_cvv(cvv)
    purchase = _find_same(request) or _start(request)
    if cvv and not purchase.has_ended:
        _keep_cvv(purchase, cvv)
    return purchase


def give_cvv(purchase: VoucherPurchase, cvv: str) -> None:
    """Keeps the CVV, and wakes the step that waits for it. Raises PurchaseRefused or
    CvvUnreachable."""
    if purchase.has_ended:
        raise PurchaseRefused("PURCHASE_HAS_ENDED", "This purchase has ended; it needs no CVV.")
    _read_cvv(cvv)
    cvvs.keep(purchase.pk, cvv)
    waits.send_signal(cvvs.topic(purchase.pk), {}, workspace_id=purchase.workspace_id)


def _read_cvv(cvv: str) -> None:
    try:
        read_cvv(cvv)
    except InvalidCard as error:
        raise PurchaseRefused(error.code, str(error), "cvv") from error


def _keep_cvv(purchase: VoucherPurchase, cvv: str) -> None:
    """After the commit: the purchase stands whatever becomes of this."""
    try:
        cvvs.keep(purchase.pk, cvv)
    except CvvUnreachable:
        log.warning("cvv_not_kept", purchase=str(purchase.pk))


def _start(request: PurchaseRequest) -> VoucherPurchase:
    refuse_quantities(request.qty, request.amount)
    card = choose_card(request.user, request.card_type)
    _refuse_unusable(card, request.amount)
    check_card(card, timezone.now().date(), user=request.user)
    try:
        with transaction.atomic():
            return _insert(request, card)
    except IntegrityError:
        # The same request at the same time: its insert waited for the other's commit.
        if found := _find_same(request):
            return found
        raise


def refuse_quantities(qty: int, amount: Decimal) -> None:
    """Raises PurchaseRefused."""
    most = settings.PURCHASE_MOST_TRANSACTIONS
    if not 1 <= qty <= most:
        raise PurchaseRefused(
            "QTY_OUT_OF_RANGE", f"qty must be from 1 to {most}; start several purchases.", "qty"
        )
    if amount <= 0 or amount != amount.to_integral_value() or amount >= 10**10:
        raise PurchaseRefused(
            "AMOUNT_INVALID",
            "amount must be a whole number above 0: the rupees of one voucher.",
            "amount",
        )


def choose_card(user: User, card_type: str) -> Card:
    """The active card of this type in the user's workspace. Raises PurchaseRefused."""
    cards = Card.objects.filter(workspace=user.workspace_id, is_active=True)
    related = ("portal_account__site", "redeemer_account__site")
    card = cards.select_related(*related).filter(card_type__iexact=card_type.strip()).first()
    if card is None:
        known = ", ".join(cards.values_list("card_type", flat=True))
        raise PurchaseRefused(
            "UNKNOWN_CARD_TYPE",
            f"There is no active card of type {card_type.strip()[:40]!r}; "
            + (f"use {known}." if known else "an admin has to add a card first."),
            "cardType",
        )
    return card


def choose_only_type(user: User) -> str:
    """The type of the workspace's card, where it has one active card. Raises PurchaseRefused."""
    cards = list(Card.objects.filter(workspace=user.workspace_id, is_active=True)[:2])
    if len(cards) == 1:
        return cards[0].card_type
    if cards:
        raise PurchaseRefused(
            "CARD_TYPE_NEEDED", "Say which card to pay with: send cardType.", "cardType"
        )
    raise PurchaseRefused(
        "UNKNOWN_CARD_TYPE", "There is no active card; an admin has to add one first.", "cardType"
    )


def _refuse_unusable(card: Card, amount: Decimal) -> None:
    limit = card.transaction_limit
    if limit is not None and amount > limit:
        raise PurchaseRefused(
            "AMOUNT_ABOVE_LIMIT",
            f"amount must be at most {limit.normalize():f}, the limit of one payment with {card}. "
            "Buy more vouchers of a smaller amount.",
            "amount",
        )
    for account, what in (
        (card.portal_account, "voucher portal"),
        (card.redeemer_account, "redeeming shop"),
    ):
        _refuse_inactive(card, account, what)


def _refuse_inactive(card: Card, account: SiteAccount, what: str) -> None:
    if not account.is_usable:
        raise PurchaseRefused(
            "NO_ACTIVE_ACCOUNT",
            f"{card} has no active account at a {what}: an admin has to activate {account} or its "
            f"site, {account.site}, or give the card another account.",
        )


def check_card(card: Card, today: date, *, user: User | None = None) -> None:
    """What no bank would take is not tried. Raises PurchaseRefused."""
    audit.note_access(card, by=user, why="checked before a purchase")
    try:
        card.check_printed(today)
    except InvalidCard as error:
        raise PurchaseRefused(error.code, f"{card}: {error}") from error
    except UnsealError as error:
        raise PurchaseRefused(
            "CARD_UNREADABLE", f"{card} does not open: an admin has to enter its number and expiry."
        ) from error


def _find_same(request: PurchaseRequest) -> VoucherPurchase | None:
    if request.idempotency_key is None:
        return None
    found = VoucherPurchase.objects.filter(
        created_by=request.user, idempotency_key=request.idempotency_key
    ).first()
    if found is None:
        return None
    if found.request_hash != request.digest:
        raise KeyReused(found.pk)
    found.is_replay = True
    return found


def _insert(request: PurchaseRequest, card: Card) -> VoucherPurchase:
    purchase = VoucherPurchase(
        workspace=request.user.workspace,
        created_by=request.user,
        card=card,
        card_type=card.card_type,
        qty=request.qty,
        amount=request.amount,
        currency=card.currency,
        idempotency_key=request.idempotency_key,
        request_hash=request.digest if request.idempotency_key else "",
    )
    purchase.job = submit_job(
        VOUCHER_PURCHASE,
        job_params(purchase),
        title=f"Buy {purchase}",
        created_by=request.user,
    )
    purchase.save(force_insert=True)
    make_transactions(purchase)
    return purchase


def make_transactions(purchase: VoucherPurchase) -> None:
    Transaction.objects.bulk_create(
        Transaction(
            purchase=purchase,
            index=index,
            amount=purchase.amount,
            reference=f"CW{purchase.pk.hex[-12:].upper()}-{index}",
        )
        for index in range(1, purchase.qty + 1)
    )


def job_params(purchase: VoucherPurchase) -> Mapping[str, str | int]:
    """All that the plan is made from. No secret of the card is among it."""
    card = purchase.card
    return {
        "purchase": str(purchase.pk),
        "qty": purchase.qty,
        "amount": str(purchase.amount),
        "currency": purchase.currency,
        "card": str(card.pk),
        "portal_account": str(card.portal_account_id),
        "redeemer_account": str(card.redeemer_account_id),
    }
