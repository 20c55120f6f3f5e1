"""The start screen's form. What makes sense together, `purchases.py` decides."""

import uuid
from typing import Any

from django import forms
from django.conf import settings

from accounts.models import User
from payments.errors import PurchaseRefused
from payments.models import Card

FIELDS = {"cardType": "card_type", "qty": "qty", "amount": "amount", "cvv": "cvv"}


class StartForm(forms.Form):
    card_type = forms.CharField(
        max_length=40, error_messages={"required": "Choose the card to pay with."}
    )
    qty = forms.IntegerField(
        initial=4, error_messages={"invalid": "Type how many vouchers to buy, such as 4."}
    )
    amount = forms.IntegerField(
        initial=1500,
        error_messages={
            "invalid": "Type the rupees of one voucher, without a point, such as 1500."
        },
    )
    cvv = forms.CharField(required=False, max_length=10)
    # The same form sent twice, by a double click or the back button, is one purchase.
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, user: User, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cards = list(
            Card.objects.filter(workspace=user.workspace_id, is_active=True).defer(
                "number", "expiry"
            )
        )
        self.most = settings.PURCHASE_MOST_TRANSACTIONS
        self.fields["key"].initial = uuid.uuid4
        if len(self.cards) == 1:
            self.fields["card_type"].initial = self.cards[0].card_type

    def show_refusal(self, error: PurchaseRefused) -> None:
        self.add_error(FIELDS.get(error.field), str(error))
