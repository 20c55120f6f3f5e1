"""The queue's page."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from jobs.views import read_list, render_page, staff_page
from vendors.models import QueueItem, Vendor
from vendors.presentation import QueueListing

# The wireframe's cards (PRD 9.3.4), and what waits for a person.
CARDS = [
    ("pending", "Pending", "schedule", QueueItem.Status.PENDING),
    ("processing", "Processing", "progress_activity", QueueItem.Status.PROCESSING),
    ("manual_required", "Manual required", "front_hand", QueueItem.Status.MANUAL_REQUIRED),
    ("completed_today", "Completed today", "task_alt", QueueItem.Status.COMPLETED),
    ("failed_today", "Failed today", "error", QueueItem.Status.FAILED),
]


@staff_page
def queue(request: HttpRequest) -> HttpResponse:
    context = read_list(request, QueueListing())
    context |= {"title": "Queue", "socket": "/ws/queue/", "cards": CARDS}
    if not context["list"]["rows"]:
        context |= {
            "vendor": Vendor.objects.order_by("requires_captcha", "-can_automate", "name").first(),
            "site": settings.PUBLIC_URL.geturl(),
        }
    return render_page(request, "vendors/queue.html", context)
