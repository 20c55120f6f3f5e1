"""The pages of jobs, and the files that their steps left behind."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.decorators import staff_member_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import User
from jobs.inbox import read_inbox
from jobs.listing import MOST_COUNTED, PAGE_SIZE, JobListing, Listing, read_page
from jobs.models import Artifact
from jobs.snapshots import jobs_visible_to, read_snapshot

View = Callable[..., HttpResponse]


def staff_page(view: View) -> View:
    """A page to look at, for staff; others get the log-in page of the admin."""
    page: View = never_cache(require_safe(staff_member_required(view, login_url="admin:login")))
    return page


@staff_page
def detail(request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
    job = get_object_or_404(jobs_visible_to(request.user), pk=job_id)
    return render_page(
        request,
        "jobs/detail.html",
        {"title": job.title, "job": job, "snapshot": read_snapshot(job_id)},
    )


@staff_page
def job_list(request: HttpRequest) -> HttpResponse:
    listing = JobListing()
    context = {"title": "Jobs", "socket": "/ws/jobs/", **read_list(request, listing)}
    return render_page(request, "jobs/list.html", context)


@staff_page
def inbox(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)  # staff_page lets nobody else in
    waiting = read_inbox(request.user)
    return render_page(request, "jobs/inbox.html", {"title": "Inbox", "inbox": waiting})


@staff_page
def artifact(request: HttpRequest, job_id: uuid.UUID, artifact_id: uuid.UUID) -> HttpResponse:
    """A file of a step. Only pictures are shown: the rest is a stranger's page or quotes one, so it
    is plain text to be saved, never something that a browser would run."""
    found = get_object_or_404(
        Artifact.objects.select_related("step"),
        pk=artifact_id,
        job__in=jobs_visible_to(request.user).filter(pk=job_id),
    )
    try:
        with found.file.open("rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise Http404("The file was kept for its time and is deleted.") from None
    is_picture = found.kind == Artifact.Kind.SCREENSHOT
    name = f"{found.step.name}-attempt-{found.attempt}-{found.kind}"
    filename = f"{name}.png" if is_picture else f"{name}.txt"
    return HttpResponse(
        content,
        content_type="image/png" if is_picture else "text/plain; charset=utf-8",
        headers={
            "Content-Disposition": content_disposition_header(not is_picture, filename) or "",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
        },
    )


def read_list(request: HttpRequest, listing: Listing) -> dict[str, Any]:
    """The part of a list that the query string asks for, for `live_list.html`."""
    status = request.GET.get("status", "")
    if status not in dict(listing.statuses):
        status = ""
    before, after = (parse_id(request.GET.get(name, "")) for name in ("before", "after"))
    page = read_page(listing, request.user, status=status, before=before, after=after)
    ids = [row["id"] for row in page.rows]
    return {
        "status": status,
        "statuses": [("", "All"), *listing.statuses],
        "newest_url": query(status=status),
        "newer_url": query(status=status, after=ids[0]) if page.newer and ids else "",
        "older_url": query(status=status, before=ids[-1]) if page.older else "",
        "list": {
            "rows": page.rows,
            "stats": listing.stats(),
            "status": status,
            "is_newest": not page.newer,
            "page_size": PAGE_SIZE,
            "most_counted": MOST_COUNTED,
            "at": timezone.now(),
        },
    }


def query(**parameters: Any) -> str:
    return "?" + urlencode({name: value for name, value in parameters.items() if value})


def parse_id(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def render_page(request: HttpRequest, template: str, context: Mapping[str, Any]) -> HttpResponse:
    """A page in the admin's frame: side bar, theme, user menu."""
    return render(request, template, {**admin.site.each_context(request), **context})
