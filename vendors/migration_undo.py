"""Taking a migration back: its records point to the old account again, and what has not arrived in
the new account's cart is not moved any more. What is in a cart stays there, and is said.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from accounts.models import User
from jobs import control
from jobs.errors import NotPossible
from jobs.models import Effect, Job, Status
from jobs.records import record_more
from vendors.migration import describe_migration, name_of
from vendors.migration_plan import Move, find_effects, key_of
from vendors.models import AccountMigration, CartItem, CartMove, QueueItem

log = structlog.get_logger(__name__)

CERTAIN = (Effect.Status.CONFIRMED,)
UNCERTAIN = (Effect.Status.INTENDED, Effect.Status.UNKNOWN)


@dataclass(frozen=True)
class Undone:
    """What undoing a migration came to. A line is named by what was bought."""

    migration: AccountMigration
    restored: int  # lines that are the old account's again
    stopped: int  # moves that had not arrived, and are not made any more
    kept: Sequence[tuple[str, str]]  # lines that stay the new account's, and why
    in_cart: Sequence[str]  # what stands in the new account's cart in reality
    maybe_in_cart: Sequence[str]  # what may: a move was stopped in the middle

    def describe_cart(self) -> str:
        """For who looks after the new account's cart."""
        account = self.migration.new_account
        sentences = []
        if self.in_cart:
            sentences.append(f"In the cart of {account} stand: {_listed(self.in_cart)}.")
        if self.maybe_in_cart:
            sentences.append(f"Look whether there stand, too: {_listed(self.maybe_in_cart)}.")
        if sentences:
            sentences.append("Take out there by hand what is not wanted.")
        return " ".join(sentences) or f"The cart of {account} has nothing of it."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return "; ".join(names[:10]) + more


def undo_migration(migration_id: uuid.UUID, *, by: User | str) -> Undone:
    """The records point to the old account again, and what has not arrived is not moved any more.
    What was ordered, or moved on since, stays. Nothing is taken out of a cart. Safe to repeat.

    Raises AccountMigration.DoesNotExist.
    """
    with transaction.atomic():
        migration = AccountMigration.objects.select_related(
            "old_account__vendor", "new_account"
        ).get(pk=migration_id)
        _lock_jobs(migration)
        is_first = AccountMigration.objects.filter(pk=migration_id, undone_at=None).update(
            undone_at=Now(), undone_by=name_of(by)
        )
        _cancel_jobs(migration, by)
        undone = _take_back(migration)
        migration.refresh_from_db(fields=["undone_at", "undone_by"])
        if is_first or undone.restored or undone.stopped:
            _tell_undone(undone, by)
    return undone


def _lock_jobs(migration: AccountMigration) -> None:
    """From here on none of its moves arrives or is run again."""
    jobs = Job.objects.filter(cart_move__migration=migration).order_by("pk")
    list(jobs.select_for_update(no_key=True, of=("self",)).values_list("pk"))


def _cancel_jobs(migration: AccountMigration, by: User | str) -> None:
    moves = migration.moves.filter(status__in=(Move.PENDING, Move.FAILED))
    open_jobs = Job.objects.filter(
        ~Q(status__in=(Status.COMPLETED, Status.FAILED, Status.CANCELLED)), cart_move__in=moves
    )
    for job_id in open_jobs.order_by("pk").values_list("pk", flat=True):
        try:
            control.cancel_job(job_id, by=name_of(by), reason="the migration was undone")
        except NotPossible as error:
            # Nobody knows whether it is in the new cart: the inbox goes on asking.
            log.info("move_stays_in_the_inbox", job=str(job_id), code=error.code)


def _take_back(migration: AccountMigration) -> Undone:
    moves = _lock_moves(migration)
    kept = {move.pk: reason for move in moves if (reason := _why_kept(move))}
    restored = [move for move in moves if move.status == Move.MOVED and move.pk not in kept]
    stopped = [move for move in moves if move.status in (Move.PENDING, Move.FAILED)]
    for move in restored:
        _restore(move)
    undone = [move.pk for move in (*restored, *stopped)]
    CartMove.objects.filter(pk__in=undone).update(status=Move.UNDONE, updated_at=Now())
    known = find_effects(moves)
    left = [move for move in moves if move.pk not in kept and not _is_gone(move)]
    return Undone(
        migration=migration,
        restored=len(restored),
        stopped=len(stopped),
        kept=[(str(move.line), kept[move.pk]) for move in moves if move.pk in kept],
        in_cart=[str(move.line) for move in left if known.get(key_of(move)) in CERTAIN],
        maybe_in_cart=[str(move.line) for move in left if known.get(key_of(move)) in UNCERTAIN],
    )


def _lock_moves(migration: AccountMigration) -> list[CartMove]:
    """The migration's moves and, around them, what else is written, locked in order."""
    moves = migration.moves.order_by("pk")
    lines = CartItem.objects.filter(Q(moves__in=moves) | Q(moved_by__in=moves))
    _lock(QueueItem.objects.filter(cart_lines__in=lines))
    _lock(moves)
    _lock(lines)
    return list(moves.select_related("line", "new_line", "migration"))


def _lock(rows: Any) -> None:
    ids = list(rows.values_list("pk", flat=True))
    table = rows.model.objects.filter(pk__in=ids).order_by("pk")
    list(table.select_for_update(no_key=True, of=("self",)).values_list("pk"))


def _why_kept(move: CartMove) -> str | None:
    """Why the new account's line cannot be the old account's again."""
    line = move.new_line
    if line is None or move.status != Move.MOVED:
        return None
    if line.replaced_at:
        return "a later migration has moved it on; undo that one first"
    if line.gone_at:
        return "it has left the new account's cart: ordered, or taken out"
    if move.line.gone_at:
        return "it has left the old account's cart"
    later = CartMove.objects.filter(line=line, status__in=(Move.PENDING, Move.FAILED))
    if later.exists():
        return "a later migration is moving it on; undo that one first"
    return None


def _restore(move: CartMove) -> None:
    assert move.new_line is not None  # it was moved
    CartItem.objects.filter(pk=move.new_line.pk).update(replaced_at=Now())
    CartItem.objects.filter(pk=move.line_id).update(replaced_at=None)
    items = QueueItem.objects.filter(cart_lines=move.line)
    items.update(assigned_account=move.line.vendor_account_id)


def _is_gone(move: CartMove) -> bool:
    return move.new_line is not None and move.new_line.gone_at is not None


def _tell_undone(undone: Undone, by: User | str) -> None:
    migration = undone.migration
    old, new = migration.old_account, migration.new_account
    sentence = (
        f"The migration from {old} to {new} was undone by {name_of(by)}. {undone.describe_cart()}"
    )
    if migration.job_id:
        told = describe_migration(migration)
        record_more(migration.job_id, "migration.undone", sentence, told)
    audit.note(
        old,
        Act.UNDONE,
        by=by,
        migration=migration.pk,
        restored=undone.restored,
        stopped=undone.stopped,
        kept=len(undone.kept),
    )
    log.info("migration_undone", migration=str(migration.pk), restored=undone.restored)
