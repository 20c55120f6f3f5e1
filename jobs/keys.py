"""Flow keys that a plan cannot name, such as that of the account which a job gets once it runs.

The claim reads the keys in a step's row, so what is written here holds from the step's next claim
on. What a key's limit lets start is decided in `flow.py`.
"""

import uuid
from collections.abc import Sequence

from django.db import transaction

from jobs import steps
from jobs.models import Step
from jobs.statements import ClaimedStep


def set_key(claim: ClaimedStep, kind: str, name: str | None, *, of: str) -> bool:
    """Gives the step called `of` of the claim's job, itself or one of a later group, the flow key
    of this kind and name in place of any other of the kind; None: in place, none. False when that
    was so already. Raises LeaseLost."""
    if not _differ(claim.job_id, kind, name, of):
        return False
    with transaction.atomic():
        steps.lock_step(claim)
        steps.lock_job(claim.job_id)
        return replace_key(claim.job_id, kind, name, of=of)


def replace_key(job_id: uuid.UUID, kind: str, name: str | None, *, of: str) -> bool:
    """The same for who has the locks on the steps that run, and on the job."""
    changed = _differ(job_id, kind, name, of)
    for step in changed:
        step.flow_keys = _with_key(step.flow_keys, kind, name)
        step.save(update_fields=["flow_keys"])
    return bool(changed)


def _differ(job_id: uuid.UUID, kind: str, name: str | None, of: str) -> list[Step]:
    found = Step.objects.filter(job=job_id, name=of).only("flow_keys")
    return [step for step in found if step.flow_keys != _with_key(step.flow_keys, kind, name)]


def _with_key(keys: Sequence[str], kind: str, name: str | None) -> list[str]:
    others = [key for key in keys if not key.startswith(f"{kind}:")]
    return sorted([*others, f"{kind}:{name}"] if name else others)
