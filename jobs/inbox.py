"""What waits for a person: codes and approvals, messages nobody could place, acts whose outcome
nobody knows, and webhooks that were disabled because they failed."""

from typing import Any

from django.urls import reverse

from accounts.models import User
from jobs.models import Effect, InboundMessage, OtpRequest, Wait
from jobs.otp import requests
from jobs.snapshots import jobs_visible_to
from jobs.webhooks.notices import read_disabled

MOST = 200  # of each kind; who has more open needs no longer list

UNKNOWN = Effect.Status.UNKNOWN
LEFT_OPEN = (
    "Its job ended before anybody looked what came of it. Look at the site and say so here, or "
    "have the job run again: it looks by itself."
)

FOR_PEOPLE = (Wait.Kind.OTP, Wait.Kind.APPROVAL)


def read_inbox(user: User) -> dict[str, Any]:
    """What `user` may see and answer, oldest first. Shows no code and no message's text."""
    visible = jobs_visible_to(user)
    waits = Wait.objects.filter(status=Wait.Status.OPEN, kind__in=FOR_PEOPLE, job__in=visible)
    effects = Effect.objects.for_people().filter(job__in=visible)
    return {
        "waits": [
            {
                **wait.state(),
                "job": _job(wait),
                "answer_url": f"/api/jobs/{wait.job_id}/waits/{wait.pk}",
            }
            for wait in waits.select_related("job").order_by("id")[:MOST]
        ],
        "messages": _undecided_messages(user) if user.is_staff else [],
        "effects": [
            {
                "id": str(effect.pk),
                "title": effect.title,
                "reason": effect.reason if effect.status == UNKNOWN else LEFT_OPEN,
                "intent": [
                    {"label": name.replace("_", " ").capitalize(), "text": str(value)}
                    for name, value in effect.intent.items()
                    if not isinstance(value, dict)  # what is nested is for the next attempt
                ],
                "at": effect.settled_at or effect.created_at,
                "job": _job(effect),
                "answer_url": f"/api/effects/{effect.pk}/settle",
            }
            for effect in effects.select_related("job").order_by("id")[:MOST]
        ],
        "webhooks": read_disabled(user) if user.is_staff else [],
    }


def _undecided_messages(user: User) -> list[dict[str, Any]]:
    messages = InboundMessage.objects.filter(
        workspace=user.workspace_id, status=InboundMessage.Status.UNCLEAR, text__isnull=False
    )
    found = list(messages.defer("text").order_by("id")[:MOST])
    if not found:
        return []
    asking = OtpRequest.objects.filter(
        workspace=user.workspace_id, status=requests.WAITING, wait__status=Wait.Status.OPEN
    )
    choices = [
        {
            "id": str(request.pk),
            "title": f"{request.job.title}: {request.service}, {request.otp_type}",
        }
        for request in asking.select_related("job").order_by("id")[:MOST]
    ]
    return [
        {
            "id": str(message.pk),
            "sender": message.sender,
            "recipient": message.recipient,
            "reason": message.reason,
            "at": message.received_at,
            "has_code": message.code is not None,
            "requests": choices,
            "answer_url": f"/api/otp/messages/{message.pk}/assign",
        }
        for message in found
    ]


def _job(row: Wait | Effect) -> dict[str, str]:
    assert row.job  # that of an unsettled effect is not archived
    return {"title": row.job.title, "url": reverse("jobs:detail", args=[row.job_id])}
