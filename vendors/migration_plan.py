"""What a migration would do: which lines of an account's cart would be moved, to which account.

Only reads and decides; `migration.py` does it. No item is ever added to a cart that may hold it.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from django.db.models import Exists, OuterRef

from jobs.models import Effect
from vendors import pool
from vendors.adding import move_key
from vendors.errors import MigrationRefused
from vendors.models import ArchivedQueueItem, CartItem, CartMove, QueueItem, VendorAccount
from vendors.pool import Obstacle, Standing

REPLACEMENT_BLOCKED = "replacement_blocked"  # the code of a move whose new account was blocked
NEVER = datetime.min.replace(tzinfo=UTC)

Move = CartMove.Status


class Left(StrEnum):
    """Why a line is left where it is."""

    MOVING = "moving"
    UNCLEAR = "unclear"
    THERE = "there"
    FORGOTTEN = "forgotten"


WHY_LEFT = {
    Left.MOVING: "are being moved already",
    Left.UNCLEAR: "may be in another account's cart, from a move that failed: say in the inbox "
    "whether they are, or undo that migration",
    Left.THERE: "may be in this replacement's cart already: take them out there and mark them as "
    "gone, or choose another account",
    Left.FORGOTTEN: "were asked for so long ago that nobody knows which option was chosen: add "
    "them by hand",
}


@dataclass(frozen=True)
class MigrationPlan:
    """What a migration would do."""

    old: VendorAccount
    new: VendorAccount
    lines: Sequence[CartItem]  # those that would be moved
    variants: Mapping[uuid.UUID, Any]  # by item
    left: Mapping[Left, int]  # how many would not be, and why

    def describe_left(self) -> str:
        return "; ".join(f"{count} {WHY_LEFT[why]}" for why, count in sorted(self.left.items()))


def plan_migration(
    old: VendorAccount, new: VendorAccount | None = None, *, untried: bool = False
) -> MigrationPlan:
    """What stands in the cart of `old` and would be moved to `new`, or to the account that suits
    best. `untried`: only what no move was made of yet. Writes nothing.

    Raises MigrationRefused when there is nothing to decide: `old` is not blocked, or no account can
    take its place.
    """
    _refuse_impossible(old, new)
    lines = list(_lines_of(old, untried=untried))
    known = _Known(lines)
    return _plan(old, new or _choose_replacement(old, known, len(lines)), lines, known)


def plan_options(old: VendorAccount) -> list[MigrationPlan]:
    """A plan for each account that may take the place of `old`, what suits best first. Raises
    MigrationRefused when `old` is not to be migrated at all."""
    _refuse_impossible(old, None)
    lines = list(_lines_of(old, untried=False))
    known = _Known(lines)
    others = [each for each in pool.find_standings(old.vendor) if each.account.pk != old.pk]
    others.sort(key=lambda each: (not _suits(each, known), _rank(each, len(lines))))
    return [_plan(old, each.account, lines, known) for each in others]


def _plan(
    old: VendorAccount, new: VendorAccount, lines: Sequence[CartItem], known: _Known
) -> MigrationPlan:
    left = {line.pk: known.why_left(line, new.pk) for line in lines}
    return MigrationPlan(
        old=old,
        new=new,
        lines=[line for line in lines if left[line.pk] is None],
        variants=known.variants,
        left=Counter(why for why in left.values() if why),
    )


def _lines_of(old: VendorAccount, *, untried: bool) -> Iterable[CartItem]:
    lines = CartItem.objects.in_cart().filter(vendor_account=old).order_by("pk")
    if untried:
        tried = CartMove.objects.filter(line=OuterRef("pk"))
        # That the new account was blocked as well says nothing of the item.
        lines = lines.exclude(Exists(tried.exclude(status=Move.FAILED)))
        lines = lines.exclude(Exists(tried.exclude(error_code=REPLACEMENT_BLOCKED)))
    return lines


class _Known:
    """What is known of the items of some lines: where each was moved or may have been, and what of
    its product was chosen."""

    def __init__(self, lines: Sequence[CartItem]) -> None:
        items = [line.item_id for line in lines]
        self.variants = _find_variants(items)
        self._moves: dict[uuid.UUID, list[CartMove]] = defaultdict(list)
        moves = CartMove.objects.filter(line__item_id__in=items).order_by("pk")
        for move in moves.select_related("line", "new_line", "migration"):
            self._moves[move.line.item_id].append(move)
        self._effects = find_effects([move for moves in self._moves.values() for move in moves])
        self._standing: dict[uuid.UUID, set[uuid.UUID]] = defaultdict(set)
        others = CartItem.objects.filter(item_id__in=items, gone_at=None)
        for item, account in others.values_list("item_id", "vendor_account"):
            self._standing[item].add(account)

    def why_left(self, line: CartItem, new: uuid.UUID) -> Left | None:
        moves = self._moves[line.item_id]
        if any(move.status == Move.PENDING for move in moves):
            return Left.MOVING
        if any(move.status == Move.FAILED and self._may_have_arrived(move) for move in moves):
            return Left.UNCLEAR
        if new in self.holders(line.item_id):
            return Left.THERE
        return None if line.item_id in self.variants else Left.FORGOTTEN

    def holders(self, item: uuid.UUID, apart_from: CartMove | None = None) -> set[uuid.UUID]:
        """The accounts whose carts may hold the item, not counting what one move has done."""
        tried = {
            move.migration.new_account_id
            for move in self._moves[item]
            if move.new_line is None and move != apart_from and self._may_have_arrived(move)
        }
        return self._standing[item] | tried

    def all_holders(self) -> set[uuid.UUID]:
        return set().union(*map(self.holders, {*self._standing, *self._moves}))

    def _may_have_arrived(self, move: CartMove) -> bool:
        return self._effects.get(key_of(move), Effect.Status.ABSENT) != Effect.Status.ABSENT


def may_hold(account_id: uuid.UUID, move: CartMove) -> bool:
    """Whether the account's cart may hold the move's item already, though not by this move."""
    known = _Known([move.line])
    return account_id in known.holders(move.line.item_id, apart_from=move)


def _find_variants(items: Collection[uuid.UUID]) -> dict[uuid.UUID, Any]:
    found: dict[uuid.UUID, Any] = {}
    for table in (ArchivedQueueItem, QueueItem):
        rows = table.objects.filter(pk__in=items)
        found |= {pk: data.get("variant") for pk, data in rows.values_list("pk", "product_data")}
    return found


def find_effects(moves: Sequence[CartMove]) -> dict[str, str]:
    """What is known of the adds of these moves, by key; of one that never began, nothing."""
    effects = Effect.objects.filter(
        workspace__in={move.migration.workspace_id for move in moves},
        key__in=[key_of(move) for move in moves],
    )
    return dict(effects.values_list("key", "status"))


def key_of(move: CartMove) -> str:
    return move_key(move.migration_id, move.line.item_id)


def _refuse_impossible(old: VendorAccount, new: VendorAccount | None) -> None:
    vendor = old.vendor
    if not old.is_blocked:
        raise MigrationRefused(
            "ACCOUNT_NOT_BLOCKED",
            f"{old} is not blocked, so its cart is in use. Set it aside first: until then items "
            "are added to it, and what is moved would be bought twice.",
        )
    if reason := vendor.why_manual():
        raise MigrationRefused("MANUAL_VENDOR", f"{reason} Its carts are moved by hand.")
    if new is None:
        return
    if new.pk == old.pk or new.vendor_id != old.vendor_id:
        raise MigrationRefused(
            "FOREIGN_ACCOUNT",
            f"new_account_id must be another account of {vendor.name}; leave it out to have one "
            "chosen.",
        )
    if new.is_blocked:
        raise MigrationRefused(
            "REPLACEMENT_BLOCKED",
            f"{new} is blocked, too. Choose another account, or leave it out to have one chosen.",
        )


def _choose_replacement(old: VendorAccount, known: _Known, count: int) -> VendorAccount:
    standings = pool.find_standings(old.vendor)
    possible = [each for each in standings if each.account.pk != old.pk and _suits(each, known)]
    if not possible:
        raise MigrationRefused(
            "NO_REPLACEMENT",
            f"No account of {old.vendor.name} can take the place of {old}: one is needed that is "
            "not blocked or paused, has not used up its day, and has none of the items in its cart "
            "already. Add or unblock one.",
        )
    return min(possible, key=lambda standing: _rank(standing, count)).account


def _suits(standing: Standing, known: _Known) -> bool:
    """By the rules of the pool; and its cart may hold none of the items."""
    is_usable = standing.obstacle not in (Obstacle.PAUSED, Obstacle.USED_UP)
    return is_usable and standing.account.pk not in known.all_holders()


def _rank(standing: Standing, count: int) -> Any:
    """First whose day has room for all lines, then who is free, then who was used longest ago."""
    account = standing.account
    room = account.most_daily - account.daily_items_added
    is_busy = standing.obstacle is not None
    return room < count, is_busy, account.last_used_at or NEVER, account.pk
