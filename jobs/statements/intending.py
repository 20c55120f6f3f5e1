"""Effects of a claimed step: the intent before the act, what is known after it, and the event.

Each is one statement that holds only while the step's fencing token is good, and waits for the
locks on the step and then on its job.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.statements.base import HELD, ClaimedStep, run

# Tells of a change to an effect `e`, in words.
TOLD = """
j AS (
    UPDATE jobs_job SET last_event = last_event + 1 FROM e WHERE jobs_job.id = e.job_id
    RETURNING jobs_job.id, jobs_job.last_event
), told AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id, j.last_event, 'effect.' || e.status, e.step_id, %(message)s, '{}' FROM j, e
)"""


# Whoever comes second under a key waits for the first one's commit, and then writes nothing.
INTEND = f"""{HELD}, e AS (
    INSERT INTO jobs_effect (
        id, workspace_id, job_id, step_id, key, title, intent, status, reason, tries
    )
    SELECT %(effect)s, held.workspace_id, held.id, s.id, %(key)s, %(title)s, %(intent)s::jsonb,
        'intended', '', 1
    FROM held, s
    ON CONFLICT (workspace_id, key) DO NOTHING
    RETURNING id, job_id, step_id, status
), {TOLD}
SELECT held.workspace_id, EXISTS (SELECT FROM e) FROM held
"""


CHANGE = f"""{HELD}, e AS (
    UPDATE jobs_effect SET
        status = %(status)s, result = %(result)s::jsonb, reason = coalesce(%(reason)s, reason),
        intent = coalesce(%(intent)s::jsonb, intent), tries = tries + %(again)s::int,
        settled_at = CASE WHEN %(again)s THEN NULL ELSE statement_timestamp() END
    FROM held WHERE jobs_effect.id = %(effect)s
    RETURNING jobs_effect.job_id, jobs_effect.step_id, jobs_effect.status
), {TOLD}
SELECT id FROM held
"""


@dataclass(frozen=True)
class Intended:
    workspace_id: uuid.UUID
    is_new: bool  # else the key is another intent's, whoever's that is


def intend(
    step: ClaimedStep,
    effect_id: uuid.UUID,
    key: str,
    *,
    title: str,
    intent: Mapping[str, Any],
    message: str,
) -> Intended | None:
    """None when the fencing token is no longer good."""
    rows = run(
        INTEND,
        step=step.id,
        fence=step.fence,
        effect=effect_id,
        key=key,
        title=title,
        intent=json.dumps(dict(intent)),
        message=message,
    )
    return Intended(*rows[0]) if rows else None


def change_effect(
    step: ClaimedStep,
    effect_id: uuid.UUID,
    status: str,
    *,
    message: str,
    result: Mapping[str, Any] | None = None,
    reason: str | None = None,
    intent: Mapping[str, Any] | None = None,
    again: bool = False,
) -> bool:
    """What is known of the act now; `again`: it is about to be tried once more. None keeps reason
    and intent. False when the fencing token is no longer good."""
    return bool(
        run(
            CHANGE,
            step=step.id,
            fence=step.fence,
            effect=effect_id,
            status=status,
            result=None if result is None else json.dumps(dict(result)),
            reason=reason,
            intent=None if intent is None else json.dumps(dict(intent)),
            again=again,
            message=message,
        )
    )
