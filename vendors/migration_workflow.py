"""The cart_move workflow: one line's item is added to the new account's cart and seen there.

One step, with the add of the cart_add workflow and an effect of its own (`adding.py`). What becomes
of the move and its lines is written in the transactions in which its job changes: the new line
takes the old one's place in the one that completes the step. Whatever fails goes to a person, and
leaves the old line as it was.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models.functions import Now
from django.urls import reverse
from rest_framework import serializers

from automation.shop.request import CartRequest
from jobs.context import StepContext
from jobs.errors import Becomes, BusinessError, NotPossible, TransientError
from jobs.keys import set_key
from jobs.models import FINISHED, Status, Step
from jobs.plans import (
    Chain,
    Change,
    Done,
    Outcome,
    Postpone,
    StepPlan,
    Workflow,
    register_workflow,
    step_handler,
)
from jobs.subjects import Fact, Subject, register_subject
from jobs.why import register_reason
from vendors import alerts, pool, workflows
from vendors.adding import Add, Wanted, move_key
from vendors.errors import NoAccountFree, NoUsableAccount
from vendors.migration import CART_MOVE, tell_if_finished
from vendors.migration_plan import REPLACEMENT_BLOCKED, Move, may_hold
from vendors.models import CartItem, CartMove, QueueItem, VendorAccount

HANDLER = "vendors.move_to_cart"
MIGRATION_UNDONE, LINE_MOVED, LINE_GONE = "migration_undone", "line_moved", "line_gone"


class CartMoveParams(serializers.Serializer[Any]):
    migration = serializers.UUIDField()
    item = serializers.UUIDField()
    vendor = serializers.UUIDField()


def plan_cart_move(params: Mapping[str, Any]) -> Chain:
    return [
        [
            StepPlan(
                pool.ADD,
                "Add to the new account's cart",
                HANDLER,
                # The account's is given once it is held: else its limits would be asked twice.
                keys=(f"vendor:{params['vendor']}",),
                effects=(move_key(params["migration"], params["item"]),),
            )
        ]
    ]


# ---- carrying it out -----------------------------------------------------------------------------


@step_handler(HANDLER, time_limit=timedelta(seconds=120))
def move_to_cart(context: StepContext) -> Outcome:
    move = _get_move(context.job_id)
    _check_still_wanted(move)
    line, new = move.line, move.migration.new_account
    key = move_key(move.migration_id, line.item_id)
    name = line.product_name or line.product_url
    add = Add(context.claim, Wanted(key, name, new.vendor.name, line.product_url))
    if done := workflows.find_output(add):
        return Done(done)
    account = _reserve(new, context, add)
    if isinstance(account, Postpone):
        return account
    request = CartRequest(line.product_url, line.quantity, move.variant, line.product_name)
    try:
        return workflows.carry_out(context, new.vendor.site(), account, request, add)
    except BusinessError as error:
        raise BusinessError(error.code, error.sentence, Becomes.MANUAL) from error
    except TransientError as error:
        if context.attempt < context.claim.max_attempts:
            raise
        raise BusinessError(error.code, error.sentence, Becomes.MANUAL) from error


def _get_move(job_id: UUID) -> CartMove:
    moves = CartMove.objects.select_related("line", "migration__new_account__vendor")
    secrets = (f"migration__new_account__{name}" for name in pool.SECRETS)
    return moves.defer(*secrets).get(job=job_id)


def _check_still_wanted(move: CartMove) -> None:
    if move.status == Move.UNDONE:
        raise BusinessError(
            MIGRATION_UNDONE, "The migration was undone, so nothing is added. Begin another one."
        )
    if move.status == Move.MOVED:
        return
    if move.line.replaced_at:
        raise BusinessError(LINE_MOVED, "Another migration has moved this line meanwhile.")
    if move.line.gone_at:
        raise BusinessError(
            LINE_GONE, "The item is said to have left the old account's cart: nothing to add."
        )


def _reserve(new: VendorAccount, context: StepContext, add: Add) -> VendorAccount | Postpone:
    alerts.check_automation(new.vendor, bound=add.account_id)
    try:
        return pool.reserve_account(new.vendor, context.job_id, only=new.pk)
    except NoAccountFree as error:
        # What it comes again for is not a start of the account.
        set_key(context.claim, pool.ACCOUNT, None, of=pool.ADD)
        return Postpone(error.come_again_in, _describe_wait(new) or str(error))
    except NoUsableAccount as error:
        sentence = (
            f"{new} is blocked as well, before the item was found in its cart. Unblock it and run "
            "this again; or undo the migration, and migrate to another account."
        )
        add.leave_to_a_person(sentence)
        raise BusinessError(REPLACEMENT_BLOCKED, sentence, Becomes.MANUAL) from error


def _describe_wait(new: VendorAccount) -> str | None:
    standings = pool.find_standings(new.vendor, new.pk)
    if not standings:
        return None
    return f"The item moves to the cart of {new}, and no other. {standings[0].describe()}"


# ---- what becomes of the lines -------------------------------------------------------------------


def follow_move(change: Change) -> None:
    """Keeps the move and its lines in step with the job; in the transaction of each change."""
    if change.job_status == Status.COMPLETED and change.output:
        _arrive(change.job_id, change.output)
    elif change.step_status == Status.READY and change.attempt == 0:
        _begin_again(change.job_id)
    elif change.error:
        _note_error(change)
    pool.follow_job(change)


def _arrive(job_id: UUID, output: Mapping[str, Any]) -> None:
    """The item was seen in the new account's cart: its line is the active one from now on."""
    of_move = QueueItem.objects.filter(cart_lines__moves__job=job_id)
    items = QueueItem.objects.filter(pk__in=list(of_move.values_list("pk", flat=True)))
    items.update(assigned_account=output["account"])
    move = _lock_move(job_id)
    if move is None or move.status != Move.PENDING:
        return  # a job that was run again has added nothing
    rows = CartItem.objects.select_for_update(no_key=True, of=("self",))
    old = rows.get(pk=move.line_id)
    old.replaced_at = Now()
    old.save(update_fields=["replaced_at"])
    new = CartItem.objects.create(
        user_id=old.user_id,
        vendor_account_id=output["account"],
        queue_item_id=old.queue_item_id,
        item_id=old.item_id,
        product_url=old.product_url,
        product_name=old.product_name,
        quantity=output["quantity"],
    )
    _write(move, status=Move.MOVED, new_line=new, error_code="", error_message="")
    pool.count_use(output["account"])
    tell_if_finished(move.migration_id)


def _note_error(change: Change) -> None:
    """The line stays as it is. When the job has ended with this, a person looks."""
    move = _lock_move(change.job_id)
    if move is None or change.error is None or move.status not in (Move.PENDING, Move.FAILED):
        return
    _write(move, error_code=change.error["code"], error_message=change.error["message"])
    if move.status == Move.PENDING and change.job_status in FINISHED:
        _write(move, status=Move.FAILED)
        tell_if_finished(move.migration_id)


def _begin_again(job_id: UUID) -> None:
    """A person has the job of a failed move run again."""
    move = _lock_move(job_id)
    if move is None or move.status != Move.FAILED:
        return
    rows = CartItem.objects.select_for_update(no_key=True, of=("self",))
    line = rows.get(pk=move.line_id)
    if line.replaced_at or line.moves.filter(status=Move.PENDING).exists():
        raise NotPossible(
            "line_is_moved_elsewhere",
            f"“{line}” has been moved by another migration, or is about to be; see the account's "
            "migrations.",
        )
    if may_hold(move.migration.new_account_id, move):
        raise NotPossible(
            "item_may_be_there",
            f"“{line}” may be in the cart of {move.migration.new_account} already. Take it out "
            "there and mark that line as gone first.",
        )
    _write(move, status=Move.PENDING, error_code="", error_message="")


def _lock_move(job_id: UUID) -> CartMove | None:
    moves = CartMove.objects.select_for_update(no_key=True, of=("self",))
    return moves.filter(job=job_id).first()


def _write(move: CartMove, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(move, name, value)
    move.updated_at = Now()
    move.save(update_fields=[*fields, "updated_at"])


register_workflow(Workflow(CART_MOVE, 1, plan_cart_move, follow_move, CartMoveParams))


# ---- what its page says --------------------------------------------------------------------------


def find_what_it_waits_for(step: Step) -> str | None:
    need = pool.find_need(step.job_id)
    return _describe_wait(_get_move(step.job_id).migration.new_account) if need else None


def describe_move(job_id: UUID) -> Subject | None:
    moves = CartMove.objects.select_related("line", "migration__old_account__vendor")
    move = moves.select_related("migration__new_account").filter(job=job_id).first()
    if move is None:
        return None
    line, migration = move.line, move.migration
    vendor = migration.old_account.vendor
    return Subject(
        [
            Fact("Product", line.product_name or line.product_url, line.product_url),
            Fact("Quantity", str(line.quantity)),
            Fact("Vendor", vendor.name, _page_of("vendor", vendor.pk)),
            Fact("From", str(migration.old_account), _page_of_account(migration.old_account)),
            Fact("To", str(migration.new_account), _page_of_account(migration.new_account)),
            Fact("Migration", str(migration), _page_of("accountmigration", migration.pk)),
        ],
        decide_advice(move),
    )


def _page_of(model: str, pk: Any) -> str:
    return reverse(f"admin:vendors_{model}_change", args=[pk])


def _page_of_account(account: VendorAccount) -> str:
    return _page_of("vendoraccount", account.pk)


def decide_advice(move: CartMove) -> str:
    if move.status != Move.FAILED:
        return ""
    return (
        "The item is still recorded in the old account's cart. Run this again when the cause is "
        "gone, or undo the migration and have the item added to another account's cart."
    )


register_reason(HANDLER, find_what_it_waits_for)
register_subject(CART_MOVE, describe_move)
