"""Submitting jobs: the plan is made here, once, and every step of it becomes a row."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts.models import FIRST_WORKSPACE, User
from jobs import live
from jobs.models import Event, Job, Status, Step
from jobs.plans import StepPlan, check_chain, check_params, get_handler, get_workflow

STEPS_A_STATEMENT = 1000  # PostgreSQL takes 65,535 parameters, and a step has some thirty


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
    the workspace.

    May be part of a larger transaction. Raises UnknownWorkflow, UnknownHandler, InvalidPlan or
    InvalidParams; then nothing was written.
    """
    workflow = get_workflow(workflow_name)
    check_params(workflow, params)
    chain = workflow.plan(params)
    check_chain(chain)
    job = Job(
        workflow=workflow.name,
        workflow_version=workflow.version,
        title=title[:300],
        params=dict(params),
        priority=priority,
        idempotency_key=idempotency_key,
        workspace_id=(created_by and created_by.workspace_id) or FIRST_WORKSPACE,
        created_by=created_by,
        stage_sizes=[len(group) for group in chain],
        stage_open=len(chain[0]),
        weight_total=sum(step.weight for group in chain for step in group),
        last_event=1,
    )
    try:
        with transaction.atomic():
            job.save(force_insert=True)
            steps = Step.objects.bulk_create(
                [
                    Step(
                        job=job,
                        stage=stage,
                        position=position,
                        priority=priority,
                        flow_keys=sorted({f"workflow:{workflow.name}", *plan.keys}),
                        **_planned(plan),
                        status=Status.READY if stage == 0 else Status.PENDING,
                        due_at=Now() if stage == 0 else None,
                    )
                    for stage, group in enumerate(chain)
                    for position, plan in enumerate(group)
                ],
                batch_size=STEPS_A_STATEMENT,
            )
            Event.objects.create(job=job, number=1, kind="job.created", message=job.title)
            live.wake(step.queue for step in steps if step.stage == 0)
            live.job_changed(job.pk)
    except IntegrityError:
        same = Job.objects.filter(workspace=job.workspace_id, idempotency_key=idempotency_key)
        if idempotency_key is None or (existing := same.first()) is None:
            raise
        return existing
    return job


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
