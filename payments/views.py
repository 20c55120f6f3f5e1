"""The pages of purchases: the list, the start screen, and a purchase as it goes."""

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from accounts.models import User
from jobs.views import read_list, render_page
from payments import runs
from payments.errors import KeyReused, PurchaseRefused
from payments.forms import StartForm
from payments.models import Card, VoucherPurchase
from payments.presentation import PurchaseListing
from payments.purchases import start_purchase

View = Callable[..., HttpResponse]


def member_page(view: View) -> View:
    """For everybody of a workspace; others get the log-in page of the admin."""
    page: View = never_cache(login_required(view, login_url="admin:login"))
    return page


@member_page
@require_safe
def purchases(request: HttpRequest) -> HttpResponse:
    context = read_list(request, PurchaseListing(user_of(request).workspace_id))
    context |= {"title": "Vouchers", "socket": "/ws/purchases/", "has_card": has_card(request)}
    return render_page(request, "payments/list.html", context)


@member_page
@sensitive_post_parameters("cvv")
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    form = StartForm(request.POST or None, user=user_of(request))
    if request.method == "POST" and form.is_valid() and (purchase := _start(request, form)):
        return redirect("payments:detail", purchase.pk)
    context: dict[str, Any] = {
        "title": "Buy vouchers",
        "form": form,
        "cards": form.cards,
        "most": settings.PURCHASE_MOST_TRANSACTIONS,
    }
    return render_page(request, "payments/new.html", context)


@member_page
@require_safe
def detail(request: HttpRequest, purchase_id: uuid.UUID) -> HttpResponse:
    visible = VoucherPurchase.objects.visible_to(request.user)
    purchase = get_object_or_404(runs.purchases_to_show(visible), pk=purchase_id)
    context = {
        "title": f"Buy {purchase}",
        "purchase": purchase,
        "account": purchase.card.redeemer_account,
        "run": {**runs.read_run(purchase), "at": timezone.now()},
    }
    return render_page(request, "payments/detail.html", context)


def _start(request: HttpRequest, form: StartForm) -> VoucherPurchase | None:
    """None where it was refused: the form says why then."""
    asked = form.cleaned_data
    try:
        return start_purchase(
            user_of(request),
            asked["card_type"],
            asked["qty"],
            Decimal(asked["amount"]),
            cvv=asked["cvv"] or None,
            idempotency_key=f"page:{asked['key']}",
        )
    except PurchaseRefused as error:
        form.show_refusal(error)
    except KeyReused as error:
        form.add_error(None, f"{error} Load this page again for a new purchase.")
    return None


def user_of(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # member_page lets nobody else in
    return request.user


def has_card(request: HttpRequest) -> bool:
    return Card.objects.filter(workspace=user_of(request).workspace_id, is_active=True).exists()
