"""The vendors' part of `/metrics`: a day's figures in Prometheus' words."""

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Count
from django.utils import timezone
from prometheus_client.core import Metric

from jobs.metrics import gauge, register_reader
from vendors import figures
from vendors.figures import Outcomes
from vendors.models import Alert, QueueItem, Vendor

Status = QueueItem.Status
PERIOD = timedelta(days=1)


def read_items() -> Iterator[Metric]:
    items = gauge("cart_items", "Items that ended within a day.", "vendor", "status")
    depth = gauge("cart_queue", "Items that are not done.", "vendor", "status")
    seconds = gauge("time_to_cart_seconds", "Average of a day.", "vendor")
    accounts = gauge("vendor_accounts", "Accounts of a vendor.", "vendor", "state")
    automated = gauge("vendor_automated", "Whether a browser adds its items.", "vendor")
    ended = figures.read_by_vendor(timezone.now() - PERIOD)
    waiting = figures.read_depth()
    for vendor in Vendor.objects.with_account_counts().order_by("name", "pk"):
        outcomes = ended.get(vendor.pk, Outcomes())
        items.add_metric([vendor.name, Status.COMPLETED], outcomes.completed)
        items.add_metric([vendor.name, Status.FAILED], outcomes.failed)
        items.add_metric([vendor.name, Status.MANUAL_REQUIRED], outcomes.manual)
        for status in (Status.PENDING, Status.PROCESSING):
            depth.add_metric([vendor.name, status], waiting.get((vendor.pk, status), 0))
        if outcomes.average_seconds is not None:
            seconds.add_metric([vendor.name], outcomes.average_seconds)
        accounts.add_metric([vendor.name, "healthy"], vendor.healthy_accounts)
        accounts.add_metric([vendor.name, "blocked"], vendor.blocked_accounts)
        automated.add_metric([vendor.name], int(vendor.why_manual() is None))
    yield from (items, depth, seconds, accounts, automated)


def read_errors() -> Iterator[Metric]:
    errors = gauge("cart_errors", "Items that failed or went to a person within a day.", "code")
    for code, count in figures.read_errors(timezone.now() - PERIOD).items():
        errors.add_metric([code], count)
    yield errors


def read_alerts() -> Iterator[Metric]:
    alerts = gauge("vendor_alerts", "Open alerts.", "kind")
    rows = Alert.objects.filter(closed_at=None).values_list("kind")
    counts = dict(rows.annotate(count=Count("pk")).order_by())
    for kind in Alert.Kind.values:  # none is a number too
        alerts.add_metric([kind], counts.get(kind, 0))
    yield alerts


register_reader(read_items)
register_reader(read_errors)
register_reader(read_alerts)
