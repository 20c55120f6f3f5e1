"""Flow keys that a plan cannot name, such as that of the account which a job gets once it runs.

The claim reads the keys in a step's row, so what is written here holds from the step's next claim
on. What a key's limit lets start is decided in `flow.py`.
"""

from jobs import statements
from jobs.errors import LeaseLost
from jobs.statements import ClaimedStep, replace_key

__all__ = ["replace_key", "set_key"]


def set_key(claim: ClaimedStep, kind: str, name: str | None, *, of: str) -> bool:
    """Gives the step called `of` of the claim's job, itself or one of a later group, the flow key
    of this kind and name in place of any other of the kind; None: in place, none. False when that
    was so already. Raises LeaseLost."""
    changed = statements.set_key(claim, kind, name, of=of)
    if changed is None:
        raise LeaseLost(claim.title)
    return changed
