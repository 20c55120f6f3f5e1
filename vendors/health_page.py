"""The page of the vendors' health: open alerts, the KPIs with their targets, a picture a vendor."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from accounts.models import User
from jobs.views import render_page, staff_page
from vendors import alerts, figures
from vendors.alerts import Kind
from vendors.figures import Day, Figures, Outcomes
from vendors.models import Alert, Vendor, vendors_today

PERIODS = (1, 7, 14, 30)
DEFAULT_DAYS = 14
BAR_WIDTH, CHART_HEIGHT = 14, 60
MOST_CLOSED = 20
TONES = (("completed", "green"), ("manual", "orange"), ("failed", "red"))


@dataclass(frozen=True)
class Kpi:
    """A figure of the PRD's section 11.1 and its target; `value` is None while there is none."""

    label: str
    value: float | None
    unit: str
    target: str
    is_good: bool | None


@dataclass(frozen=True)
class Bar:
    x: int
    y: float
    height: float
    tone: str


@dataclass(frozen=True)
class Column:
    """A day of a vendor's chart."""

    x: int
    title: str
    bars: Sequence[Bar]


@staff_page
def health(request: HttpRequest) -> HttpResponse:
    days = request.GET.get("days", "")
    period = int(days) if days in map(str, PERIODS) else DEFAULT_DAYS
    found = figures.read_figures(period)
    shown = _days(period)
    closed = Alert.objects.filter(closed_at__isnull=False).select_related("vendor", "account")
    context = {
        "title": "Vendor health",
        "figures": found,
        "period": period,
        "periods": PERIODS,
        "kpis": decide_kpis(found),
        "alerts": [(alert, _page_of(alert)) for alert in alerts.open_alerts()],
        "closed": closed.defer("vendor__selectors", "account__password", "account__session_data")[
            :MOST_CLOSED
        ],
        "failing": Kind.FAILURES,
        "vendors": [(vendor, draw(vendor.days, shown)) for vendor in found.vendors],
        "most_errors": max(found.errors.values(), default=1),
        "chart": {"width": BAR_WIDTH * len(shown), "height": CHART_HEIGHT, "bar": BAR_WIDTH - 3},
    }
    return render_page(request, "vendors/health.html", context)


@require_POST
@staff_member_required(login_url="admin:login")
def resume(request: HttpRequest, vendor_id: uuid.UUID) -> HttpResponse:
    assert isinstance(request.user, User)  # staff only
    try:
        resumed = alerts.turn_on(vendor_id, by=request.user)
    except Vendor.DoesNotExist:
        raise Http404 from None
    if resumed:
        messages.success(request, "The automation is on again. Items with a person stay there.")
    else:
        messages.info(request, "It was not turned off for its failures, so nothing was changed.")
    return redirect("vendors:health")


def decide_kpis(found: Figures) -> list[Kpi]:
    total = found.total
    return [
        _kpi("Success", total.success_rate, "%", "95 % or more", lambda value: value >= 95),
        _kpi("Time to cart", total.average_seconds, "s", "under 30 s", lambda value: value < 30),
        _kpi("With a person", total.manual_share, "%", "under 20 %", lambda value: value < 20),
        _kpi("Blocked", found.block_rate, "%", "under 5 % a month", lambda value: value < 5),
        _kpi(
            "Vendors automated",
            found.coverage,
            "%",
            "80 % of prioritised",
            lambda value: value >= 80,
        ),
    ]


def _kpi(label: str, value: float | None, unit: str, target: str, is_good: Any) -> Kpi:
    return Kpi(label, value, unit, target, None if value is None else is_good(value))


def draw(days: Sequence[Day], shown: Sequence[date]) -> list[Column]:
    """A column a day, each as high as its share of the vendor's busiest day."""
    found = {each.day: each.outcomes for each in days}
    most = max((each.outcomes.ended for each in days), default=0) or 1
    return [
        _column(place * BAR_WIDTH, day, found.get(day, Outcomes()), most)
        for place, day in enumerate(shown)
    ]


def _column(x: int, day: date, outcomes: Outcomes, most: int) -> Column:
    bars, bottom = [], float(CHART_HEIGHT)
    for name, tone in TONES:
        if count := getattr(outcomes, name):
            height = round(CHART_HEIGHT * count / most, 1)
            bottom = round(bottom - height, 1)
            bars.append(Bar(x, bottom, height, tone))
    title = (
        f"{day:%-d %b}: {outcomes.completed} completed, {outcomes.manual} with a person, "
        f"{outcomes.failed} failed"
    )
    return Column(x, title, bars)


def _days(period: int) -> list[date]:
    today: date = vendors_today()
    return [today - timedelta(days=back) for back in range(period, -1, -1)]


def _page_of(alert: Alert) -> str:
    """Where to put it right."""
    if alert.account_id:
        return reverse("admin:vendors_vendoraccount_change", args=[alert.account_id])
    if alert.item_id:
        return reverse("admin:vendors_queueitem_change", args=[alert.item_id])
    return reverse("admin:vendors_vendor_change", args=[alert.vendor_id])
