"""Submitting jobs: the plan is made here, once, and every step of it becomes a row."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from accounts.models import FIRST_WORKSPACE, User
from jobs import live
from jobs.models import Event, Job, Status, Step
from jobs.plans import check_chain, get_handler, get_workflow


def submit_job(
    workflow_name: str,
    params: Mapping[str, Any],
    *,
    title: str,
    created_by: User | None = None,
    priority: int = 0,
    idempotency_key: str | None = None,
) -> Job:
    """A job that will be carried out, or the one that this idempotency key stands for already.

    May be part of a larger transaction. Raises UnknownWorkflow, UnknownHandler or InvalidPlan;
    then nothing was written.
    """
    workflow = get_workflow(workflow_name)
    chain = workflow.plan(params)
    check_chain(chain)
    job = Job(
        workflow=workflow.name,
        workflow_version=workflow.version,
        title=title[:300],
        params=dict(params),
        priority=priority,
        idempotency_key=idempotency_key,
        workspace_id=created_by.workspace_id if created_by else FIRST_WORKSPACE,
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
                Step(
                    job=job,
                    stage=stage,
                    position=position,
                    name=plan.name,
                    title=plan.title,
                    handler=plan.handler,
                    queue=plan.queue,
                    priority=priority,
                    weight=plan.weight,
                    params=dict(plan.params),
                    max_attempts=get_handler(plan.handler).retry.max_attempts,
                    status=Status.READY if stage == 0 else Status.PENDING,
                    due_at=Now() if stage == 0 else None,
                )
                for stage, group in enumerate(chain)
                for position, plan in enumerate(group)
            )
            Event.objects.create(job=job, number=1, kind="job.created", message=job.title)
            live.wake(step.queue for step in steps if step.stage == 0)
            live.job_changed(job.pk)
    except IntegrityError:
        existing = Job.objects.filter(idempotency_key=idempotency_key).first()
        if idempotency_key is None or existing is None:
            raise
        return existing
    return job
