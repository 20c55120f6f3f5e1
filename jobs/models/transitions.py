"""Which changes of status the database allows."""

from collections.abc import Collection

import pgtrigger


def only_transitions(name: str, transitions: Collection[tuple[str, str]]) -> pgtrigger.FSM:
    """A trigger that refuses all others. It is called for those alone: a comparison costs a hot
    statement next to nothing, a call of a function for each row does not."""
    allowed = ",".join(f"{old}:{new}" for old, new in transitions)
    condition = pgtrigger.Condition(
        "OLD.status IS DISTINCT FROM NEW.status "
        f"AND OLD.status || ':' || NEW.status <> ALL ('{{{allowed}}}'::text[])"
    )
    return pgtrigger.FSM(
        name=name, field="status", transitions=list(transitions), condition=condition
    )
