"""Submitting jobs: the plan is made here, once, and every step of it becomes a row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS
from uuid_utils.compat import uuid7

from accounts.models import FIRST_WORKSPACE, User
from jobs import live, statements
from jobs.models import Job, Status
from jobs.plans import (
    Chain,
    StepPlan,
    Workflow,
    check_chain,
    check_params,
    get_handler,
    get_workflow,
)


@dataclass(frozen=True)
class NewJob:
    """What a job is submitted with. The same idempotency key is the same job in its workspace."""

    params: Mapping[str, Any]
    title: str
    priority: int = 0
    idempotency_key: str | None = None
    created_by: User | None = None  # else whoever is said to have made all of them


@dataclass(frozen=True)
class PlannedJobs:
    """Jobs with their steps, as they are to be written."""

    jobs: Sequence[Job]
    steps: Sequence[Mapping[str, Any]]

    def announce(self, created: Mapping[UUID, datetime]) -> None:
        """Part of the transaction that has written those of them that are in `created`."""
        steps = [step for step in self.steps if step["job_id"] in created]
        live.wake(step["queue"] for step in steps if step["stage"] == 0)
        for job in self.jobs:
            if job.pk in created:
                job.created_at = created[job.pk]
                job._state.adding, job._state.db = False, DEFAULT_DB_ALIAS
                live.job_changed(job.pk)


def submit_job(
    workflow_name: str,
    params: Mapping[str, Any],
    *,
    title: str,
    created_by: User | None = None,
    priority: int = 0,
    idempotency_key: str | None = None,
) -> Job:
    """A job that will be carried out, or the one that this idempotency key stands for already in
    the workspace. As `submit_jobs`."""
    new = NewJob(params, title, priority, idempotency_key)
    (job,) = submit_jobs(workflow_name, [new], created_by=created_by)
    return job


def submit_jobs(
    workflow_name: str, new: Sequence[NewJob], *, created_by: User | None = None
) -> list[Job]:
    """Jobs that will be carried out, in the order given: all of them, or none.

    May be part of a larger transaction. Raises as `plan_jobs`; then nothing was written.
    """
    planned = plan_jobs(workflow_name, new, created_by=created_by)
    created = statements.create_jobs(planned.jobs, planned.steps)
    planned.announce(created)
    return [job if job.pk in created else _existing(job) for job in planned.jobs]


def plan_jobs(
    workflow_name: str, new: Sequence[NewJob], *, created_by: User | None = None
) -> PlannedJobs:
    """Raises UnknownWorkflow, UnknownHandler, InvalidPlan or InvalidParams. Writes nothing."""
    workflow = get_workflow(workflow_name)
    jobs: list[Job] = []
    steps: list[dict[str, Any]] = []
    for each in new:
        check_params(workflow, each.params)
        chain = workflow.plan(each.params)
        check_chain(chain)
        jobs.append(_job(workflow, each, chain, each.created_by or created_by))
        steps += _steps(jobs[-1], chain)
    return PlannedJobs(jobs, steps)


def _job(workflow: Workflow, new: NewJob, chain: Chain, created_by: User | None) -> Job:
    return Job(
        workflow=workflow.name,
        workflow_version=workflow.version,
        title=new.title[:300],
        params=dict(new.params),
        priority=new.priority,
        idempotency_key=new.idempotency_key,
        workspace_id=(created_by and created_by.workspace_id) or FIRST_WORKSPACE,
        created_by=created_by,
        stage_sizes=[len(group) for group in chain],
        stage_open=len(chain[0]),
        weight_total=sum(step.weight for group in chain for step in group),
        last_event=1,
    )


def _existing(job: Job) -> Job:
    """The job that its idempotency key stands for already."""
    return Job.objects.get(workspace=job.workspace_id, idempotency_key=job.idempotency_key)


def _steps(job: Job, chain: Chain) -> Iterator[dict[str, Any]]:
    for stage, group in enumerate(chain):
        for position, plan in enumerate(group):
            yield {
                "id": uuid7(),
                "job_id": job.pk,
                "stage": stage,
                "position": position,
                "priority": job.priority,
                "flow_keys": sorted({f"workflow:{job.workflow}", *plan.keys}),
                "status": Status.READY if stage == 0 else Status.PENDING,
                **_planned(plan),
            }


def _planned(plan: StepPlan) -> dict[str, Any]:
    """What the plan says of a step, as its row keeps it."""
    handler = get_handler(plan.handler)
    return {
        "name": plan.name,
        "title": plan.title,
        "handler": handler.name,
        "handler_version": handler.version,
        "queue": plan.queue,
        "weight": plan.weight,
        "params": dict(plan.params),
        "max_attempts": (plan.retry or handler.retry).max_attempts,
        "retry": plan.retry.to_data() if plan.retry else None,
    }
