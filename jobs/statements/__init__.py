"""The hot path, in SQL: claim steps, complete them and open what follows, keep leases.

One statement each, so that each is one round trip and one commit: it is what makes a step cost
about a millisecond. Everything colder goes through the ORM in `steps.py`. Locks are taken in one
order everywhere: steps by id, then the limits of their flow keys by key, then their jobs by id,
then the steps of the next stage. Whoever holds a limit or a job takes further steps only with SKIP
LOCKED, so that nobody waits against the order. The time is the statement's, as Django's Now() is.

PostgreSQL plans each of them once a connection. A row found by its id must be found by the index,
though the tables were small or never analysed when the plan was made. Where a statement takes a
LIMIT as a parameter, also one that limits nothing, the planner counts on a tenth of the rows, and
so on few.
"""

from jobs.statements.base import ClaimedStep
from jobs.statements.claiming import (
    Candidate,
    Claim,
    Orphan,
    claim_limited,
    claim_next,
    renew_leases,
    report_progress,
)
from jobs.statements.completing import Completion, complete_steps
from jobs.statements.creating import as_json, create_jobs, creating, job_values
from jobs.statements.intending import Intended, change_effect, intend
from jobs.statements.keying import replace_key, set_key
from jobs.statements.limits import (
    Limit,
    age_steps,
    count_unanswered,
    find_held_keys,
    hold_back,
    lock_limits,
    read_limits,
    set_due_of_held,
)
from jobs.statements.waiting import (
    EndedWait,
    WaitAnswer,
    answer_waits,
    find_answer,
    find_waits,
    make_due_ready,
    make_held_ready,
    make_job_ready,
)

__all__ = [
    "Candidate",
    "Claim",
    "ClaimedStep",
    "Completion",
    "EndedWait",
    "Intended",
    "Limit",
    "Orphan",
    "WaitAnswer",
    "age_steps",
    "answer_waits",
    "as_json",
    "change_effect",
    "claim_limited",
    "claim_next",
    "complete_steps",
    "count_unanswered",
    "create_jobs",
    "creating",
    "find_answer",
    "find_held_keys",
    "find_waits",
    "hold_back",
    "intend",
    "job_values",
    "lock_limits",
    "make_due_ready",
    "make_held_ready",
    "make_job_ready",
    "read_limits",
    "renew_leases",
    "replace_key",
    "report_progress",
    "set_due_of_held",
    "set_key",
]
