"""What vendors_check and accounts_check share: they wait for their jobs and say what was found.

Exit codes: 0 all fits, 1 a mistake in what was asked, 3 something failed, 4 nothing is known yet.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobs.models import FINISHED, Job
from vendors import check

FAILED, UNKNOWN = 3, 4
POLL_SECONDS = 0.5


def add_waiting_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "--no-wait", action="store_true", help="Only ask for it; the job's page has the result."
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="How long to wait for the result (%(default)s).",
    )
    parser.add_argument("--json", action="store_true", help="Print the results as JSON alone.")


def finished_in_order(jobs: Sequence[Job], timeout: float) -> Iterator[Job]:
    """Each job once it has finished, in their order. Raises CommandError when time is up."""
    end = time.monotonic() + timeout
    for job in jobs:
        while not _is_finished(job):
            if time.monotonic() > end:
                raise CommandError(
                    f"{job} has not finished in {timeout:g} s. It goes on: look at "
                    f"{job.get_absolute_url()}, where it also says what it waits for.",
                    returncode=UNKNOWN,
                )
            time.sleep(POLL_SECONDS)
        yield job


def _is_finished(job: Job) -> bool:
    job.refresh_from_db()
    return job.status in FINISHED


def as_json(job: Job) -> dict[str, Any]:
    return {
        "job_id": str(job.pk),
        "status": job.status,
        "url": job.get_absolute_url(),
        "result": check.result_of(job),
        "error": job.error,
    }
