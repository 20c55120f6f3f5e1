"""Flow keys that steps get while their job runs."""

import uuid
from typing import Any

from jobs.statements.base import HELD, ClaimedStep, run

# The step's keys with the given one, or with none, in place of any other of its kind.
KEYS = """ARRAY(
        SELECT key FROM unnest(flow_keys || %(keys)s::varchar[]) AS key
        WHERE key = ANY(%(keys)s) OR NOT starts_with(key, %(prefix)s)
        GROUP BY key ORDER BY key COLLATE "C"
    )"""
CHANGE = f"""
    UPDATE jobs_step SET flow_keys = {KEYS}
    WHERE job_id = %(job)s AND name = %(of)s AND flow_keys <> {KEYS}"""


SET_KEY = f"""{HELD}, changed AS ({CHANGE} AND EXISTS (SELECT FROM held)
    RETURNING id
)
SELECT EXISTS (SELECT FROM changed) FROM held
"""


REPLACE_KEY = f"{CHANGE} RETURNING id"


def set_key(claim: ClaimedStep, kind: str, name: str | None, *, of: str) -> bool | None:
    """Whether the key changed; None when the fencing token is no longer good."""
    values = _values(claim.job_id, kind, name, of)
    rows = run(SET_KEY, step=claim.id, fence=claim.fence, **values)
    return bool(rows[0][0]) if rows else None


def replace_key(job_id: uuid.UUID, kind: str, name: str | None, *, of: str) -> bool:
    """Whether the key changed. Needs the locks on the steps that run, and on the job."""
    return bool(run(REPLACE_KEY, **_values(job_id, kind, name, of)))


def _values(job_id: uuid.UUID, kind: str, name: str | None, of: str) -> dict[str, Any]:
    keys = [f"{kind}:{name}"] if name else []
    return {"job": job_id, "of": of, "prefix": f"{kind}:", "keys": keys}
