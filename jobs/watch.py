"""The doors for who watches over the processes: health for probes and people, metrics."""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.utils.text import capfirst
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import User
from jobs.health import reader
from jobs.metrics import write_metrics
from jobs.processes import find_processes
from jobs.views import render_page, staff_page
from jobs.webhooks.notices import read_disabled

FORBIDDEN = (
    "Metrics are for scrapers of this machine or its private network that come without a proxy, "
    'and for who sends the header "Authorization: Bearer TOKEN" with the setting METRICS_TOKEN.\n'
)
PROXIES = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")  # what each of them adds


@never_cache
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """For alarms: what is wrong, and 503 if anything is."""
    found = reader.read()
    return JsonResponse(found.described(), status=200 if found.ok else 503)


@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """For who restarts a process that hangs, or sends it no requests: whether this one answers."""
    return JsonResponse({"status": "ok"})


@staff_page
def health_page(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)  # staff_page lets nobody else in
    found = reader.read()
    checks = [(name, capfirst(name.replace("_", " ")), one) for name, one in found.checks.items()]
    context = {
        "title": "Health",
        "ok": found.ok,
        "checks": checks,
        # Not a check: a receiver of somebody else's is no reason for this installation's alarm.
        "webhooks": read_disabled(request.user),
        "processes": find_processes(),
    }
    return render_page(request, "jobs/health.html", context)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    if not may_scrape(request):
        return HttpResponse(FORBIDDEN, status=403, content_type="text/plain; charset=utf-8")
    content, content_type = write_metrics(request.headers.get("Accept", ""))
    return HttpResponse(content, content_type=content_type)


def may_scrape(request: HttpRequest) -> bool:
    keyword, _, token = request.headers.get("Authorization", "").partition(" ")
    if keyword.lower() == "bearer" and settings.METRICS_TOKEN:
        return constant_time_compare(token.strip(), settings.METRICS_TOKEN)
    # Behind a proxy the address is the proxy's own, or one that a stranger may have written.
    if any(header in request.headers for header in PROXIES):
        return False
    try:
        address = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_private  # loopback is
