"""Signing in to an account is one step's at a time, also while it waits for the code: a second one
would have another code sent, and the first would be worth nothing.

The hold stands in the step's checkpoint, so it ends with the step, however that ends.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db import transaction

from jobs import steps
from jobs.context import StepContext
from jobs.models import Status, Step
from jobs.waits import lock_topics
from payments.models import SiteAccount

HOLD = "signing_in"


def is_held(context: StepContext, account: SiteAccount) -> bool:
    """Whether this step was signing in when it was last here."""
    return _hold_in(context.checkpoint).get("account") == str(account.pk)


def hold(context: StepContext, account: SiteAccount) -> bool:
    """Takes the hold on the account's sign-in; False while another step has it. Committed on
    return. Raises LeaseLost."""
    with transaction.atomic():
        lock_topics([f"sign_in:{account.pk}"])
        step = steps.lock_step(context.claim)
        rivals = Step.objects.filter(
            status__in=[Status.READY, Status.RUNNING, Status.WAITING],
            checkpoint__contains={HOLD: {"account": str(account.pk)}},
        ).exclude(pk=step.pk)
        if any(_is_of_this_run(rival) for rival in rivals):
            _write(context, {})
            return False
        _write(context, {HOLD: {"account": str(account.pk), "run": _run_of(step)}})
    return True


def release(context: StepContext) -> None:
    """Committed on return. Raises LeaseLost."""
    if _hold_in(context.checkpoint):
        with transaction.atomic():
            steps.lock_step(context.claim)
            _write(context, {})


def _write(context: StepContext, held: Mapping[str, Any]) -> None:
    """Needs the lock on the step."""
    rest = {name: value for name, value in (context.checkpoint or {}).items() if name != HOLD}
    checkpoint = {**rest, **held}
    Step.objects.filter(pk=context.claim.id).update(checkpoint=checkpoint)
    context.claim = replace(context.claim, checkpoint=checkpoint)


def _is_of_this_run(step: Step) -> bool:
    """A step that was run again holds nothing until it takes it anew."""
    return bool(_hold_in(step.checkpoint).get("run") == _run_of(step))


def _run_of(step: Step) -> str:
    return step.reset_at.isoformat() if step.reset_at else ""


def _hold_in(checkpoint: Mapping[str, Any] | None) -> Mapping[str, Any]:
    held: Mapping[str, Any] = (checkpoint or {}).get(HOLD) or {}
    return held
