"""Migrations: what stands in a blocked account's cart is added to another account's cart.

The records follow reality: a line is the old account's until a job has found its item in the new
account's cart (`migration_workflow.py`), so of each item one line is active at every moment. What
is moved where is decided in `migration_plan.py`; `migration_undo.py` takes it back. Rows are locked
in this order: jobs, queue items, moves, lines.
"""

import uuid
from collections import Counter
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef

from accounts import audit
from accounts.audit import Act
from accounts.models import FIRST_WORKSPACE, User
from jobs.records import record_job, record_more
from jobs.submit import NewJob, submit_jobs
from vendors import pool
from vendors.alerts import SYSTEM
from vendors.errors import MigrationRefused
from vendors.migration_plan import MigrationPlan, Move, plan_migration
from vendors.models import AccountMigration, CartItem, CartMove, VendorAccount

log = structlog.get_logger(__name__)

CART_MOVE = "cart_move"  # the workflow of a move
WORKFLOW = "account_migration"  # what the jobs are called that bear migrations' events


def start_migration(
    old_id: uuid.UUID, new_id: uuid.UUID | None = None, *, by: User | str, untried: bool = False
) -> AccountMigration:
    """Has what stands in the cart of the blocked account `old_id` added to the cart of `new_id`, or
    of the account that suits best: a job for each line. `untried` as in `plan_migration`.

    Asked for again while the same is under way, it answers with that. Raises MigrationRefused or
    VendorAccount.DoesNotExist; then nothing was written.
    """
    with transaction.atomic():
        # Whoever asks at the same time waits here, and finds the moves that this one makes.
        held = CartItem.objects.in_cart().filter(vendor_account=old_id).order_by("pk")
        list(held.select_for_update(no_key=True, of=("self",)).values_list("pk"))
        plan = plan_migration(_read(old_id), _read(new_id) if new_id else None, untried=untried)
        if plan.lines:
            return _begin(plan, by)
    if same := _find_under_way(old_id, new_id):
        same.is_replay = True
        return same
    raise MigrationRefused(
        "NOTHING_TO_MIGRATE",
        f"Nothing was moved from {plan.old}: {plan.describe_left()}."
        if plan.left
        else f"Nothing that was added here and is not marked as gone stands in the cart of "
        f"{plan.old}.",
    )


def _read(account_id: uuid.UUID) -> VendorAccount:
    accounts = VendorAccount.objects.select_related("vendor").defer(*pool.SECRETS)
    return accounts.get(pk=account_id)


def _find_under_way(old: uuid.UUID, new: uuid.UUID | None) -> AccountMigration | None:
    same = AccountMigration.objects.filter(old_account=old, undone_at=None)
    same = same.filter(new_account=new) if new else same
    pending = CartMove.objects.filter(migration=OuterRef("pk"), status=Move.PENDING)
    return same.filter(Exists(pending)).first()


def _begin(plan: MigrationPlan, by: User | str) -> AccountMigration:
    user = by if isinstance(by, User) else None
    migration = AccountMigration(
        old_account=plan.old,
        new_account=plan.new,
        migrated_items=[_describe_line(line) for line in plan.lines],
        started_by=name_of(by),
        is_automatic=by == SYSTEM,
        workspace_id=(user and user.workspace_id) or FIRST_WORKSPACE,
    )
    migration.save(force_insert=True)
    moves = [
        CartMove(migration=migration, line=line, variant=plan.variants[line.item_id])
        for line in plan.lines
    ]
    jobs = submit_jobs(CART_MOVE, [_job_of(move) for move in moves], created_by=user)
    for move, job in zip(moves, jobs, strict=True):
        move.job = job
    CartMove.objects.bulk_create(moves)
    sentence = f"{len(moves)} lines of {plan.old} at {plan.old.vendor} move to {plan.new}."
    migration.job = record_job(
        WORKFLOW,
        "migration.started",
        sentence,
        describe_migration(migration),
        workspace=migration.workspace_id,
    )
    migration.save(update_fields=["job"])
    audit.note(
        plan.old,
        Act.MIGRATED,
        by=by,
        to=plan.new.email,
        lines=len(moves),
        migration=migration.pk,
    )
    log.info("migration_started", migration=str(migration.pk), lines=len(moves))
    return migration


def _job_of(move: CartMove) -> NewJob:
    migration, line = move.migration, move.line
    new = migration.new_account
    return NewJob(
        params={
            "migration": str(migration.pk),
            "item": str(line.item_id),
            "vendor": str(new.vendor_id),
        },
        title=f"Move {line} to the cart of {new}",
    )


def _describe_line(line: CartItem) -> dict[str, Any]:
    return {
        "id": str(line.pk),
        "queue_id": str(line.item_id),
        "product_url": line.product_url,
        "product_name": line.product_name,
        "quantity": line.quantity,
        "added_at": line.added_at.isoformat(),
    }


# ---- telling of it -------------------------------------------------------------------------------


def describe_migration(migration: AccountMigration) -> dict[str, Any]:
    """As REST and webhooks have it; how many lines stand where is counted now."""
    counts = Counter(migration.moves.values_list("status", flat=True))
    old, new = migration.old_account, migration.new_account
    return {
        "id": str(migration.pk),
        "vendor_id": str(old.vendor_id),
        "old_account_id": str(old.pk),
        "old_account_email": old.email,
        "new_account_id": str(new.pk),
        "new_account_email": new.email,
        "migrated_items": len(migration.migrated_items),
        **{str(status): counts[status] for status in Move},
        "migrated_at": migration.migrated_at.isoformat(),
        "started_by": migration.started_by,
        "is_automatic": migration.is_automatic,
        "undone_at": migration.undone_at.isoformat() if migration.undone_at else None,
        "undone_by": migration.undone_by,
    }


def name_of(by: User | str) -> str:
    return by if isinstance(by, str) else by.get_username()


def tell_if_finished(migration_id: uuid.UUID) -> None:
    """Part of the transaction in which a move of it has ended. The lock lets the last of them see
    that it is the last."""
    rows = AccountMigration.objects.select_for_update(no_key=True, of=("self",))
    migration = rows.select_related("old_account", "new_account").get(pk=migration_id)
    if migration.undone_at or migration.moves.filter(status=Move.PENDING).exists():
        return
    told = describe_migration(migration)
    sentence = f"{told['moved']} lines of {migration.old_account} are {migration.new_account}'s now"
    if told["failed"]:
        sentence += f"; {told['failed']} could not be moved, a person looks at them"
    if migration.job_id:
        record_more(migration.job_id, "migration.finished", f"{sentence}.", told)
    log.info("migration_finished", migration=str(migration.pk), failed=told["failed"])
