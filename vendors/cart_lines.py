"""What has left the carts. Nobody tells us when a cart is checked out: until somebody does, or the
cart itself shows it, a line counts as standing there, and is moved when its account is blocked."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from accounts.models import User, Workspace
from automation.shop.request import CartLine
from jobs.models import Effect
from vendors.adding import effect_key, move_key
from vendors.alerts import SYSTEM
from vendors.models import CartItem, CartMove, VendorAccount
from vendors.sessions import SavedSession


@dataclass(frozen=True)
class Marked:
    done: int
    moving: int  # are being moved, and were left as they are


def mark_gone(lines: QuerySet[CartItem], *, by: User | str) -> Marked:
    """The lines have left their carts: ordered, or taken out. They are not moved any more; one that
    is being moved this moment would be bought twice, so its migration must be undone first."""
    with transaction.atomic():
        rows = CartItem.objects.filter(pk__in=lines.values("pk"), gone_at=None).order_by("pk")
        # Whoever begins a migration locks them as well.
        found = list(rows.select_for_update(no_key=True, of=("self",)))
        ids = [line.pk for line in found]
        pending = CartMove.objects.filter(line=OuterRef("pk"), status=CartMove.Status.PENDING)
        still = CartItem.objects.filter(pk__in=ids).exclude(Exists(pending))
        gone = set(still.values_list("pk", flat=True))
        CartItem.objects.filter(pk__in=gone).update(gone_at=Now())
        counts = Counter(line.vendor_account_id for line in found if line.pk in gone)
        for account in VendorAccount.objects.filter(pk__in=counts).defer(
            "password", "session_data"
        ):
            audit.note(account, Act.SETTLED, by=by, gone_lines=counts[account.pk])
    return Marked(len(gone), len(found) - len(gone))


def mark_left(account: VendorAccount, session: SavedSession) -> Marked:
    """Marks the lines that the account's cart did not show any more when it was read last, which is
    all that is known once the account is blocked. What cannot be told apart stays."""
    before = CartItem.objects.in_cart().filter(
        vendor_account=account, added_at__lt=session.cart_read_at
    )
    shown = _find_shown(list(before.select_related("moved_by")))
    left = [
        pk
        for pk, line in shown.items()
        if not any(_may_be_same(line, other) for other in session.cart)
    ]
    return mark_gone(CartItem.objects.filter(pk__in=left), by=SYSTEM)


def _find_shown(lines: Sequence[CartItem]) -> dict[uuid.UUID, CartLine]:
    """How the cart showed each line when it was added; without those that a person has seen."""
    keys = {_key_of(line): line.pk for line in lines}
    added = Effect.objects.filter(workspace__in=Workspace.objects.values("pk"), key__in=keys)
    return {
        keys[key]: CartLine.from_data(result["line"])
        for key, result in added.values_list("key", "result")
        if result and "line" in result
    }


def _key_of(line: CartItem) -> str:
    move = getattr(line, "moved_by", None)
    return move_key(move.migration_id, line.item_id) if move else effect_key(line.item_id)


def _may_be_same(one: CartLine, other: CartLine) -> bool:
    same_link = one.url is not None and one.url == other.url
    return same_link or one.name.casefold() == other.name.casefold()


def warn_of_moved(account: VendorAccount) -> str:
    """For who unblocks the account: what was moved to others still stands in its own cart. Empty
    where there is nothing to say."""
    moved = CartItem.objects.filter(vendor_account=account, gone_at=None)
    count = moved.exclude(replaced_at=None).count()
    if not count:
        return ""
    return (
        f"In the cart of {account} may stand what was moved to other accounts ({count}): take it "
        "out there before the cart is ordered, and mark these lines as gone."
    )


def mark_ordered(accounts: QuerySet[VendorAccount], *, by: User | str) -> Marked:
    """The accounts' whole carts were checked out."""
    return mark_gone(CartItem.objects.filter(vendor_account__in=accounts.values("pk")), by=by)
