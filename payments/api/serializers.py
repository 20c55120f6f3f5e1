"""The documents' JSON: requests checked part by part, and the shapes of answers.

What is asked is read here; answers are made in `payments/runs.py`, and only described here.
"""

from typing import Any

from rest_framework import serializers

from jobs.api.control_serializers import StrictSerializer
from jobs.api.serializers import OneOf
from jobs.models import OtpRequest
from payments.models import Transaction, VoucherCode, VoucherPurchase
from vendors.api.fields import WholeNumberField
from vendors.api.serializers import LARGEST_PAGE

STEP_STATUSES = [
    (name, name) for name in ("pending", "in_progress", "completed", "failed", "waiting_otp")
]
CARD_TYPE_LENGTH = 40


class CvvField(serializers.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            write_only=True,
            max_length=10,
            help_text="Kept sealed, in memory alone and for the time of this purchase. Without it "
            "the purchase asks for it when it pays.",
            **options,
        )


class StartJobSerializer(StrictSerializer):
    cardType = serializers.CharField(  # noqa: N815  the document's name
        max_length=CARD_TYPE_LENGTH, help_text="A card's type, such as MRCC or Gold."
    )
    qty = WholeNumberField(help_text="How many vouchers, from 1 to 20.")
    amount = WholeNumberField(help_text="Of each voucher, in rupees.")
    cvv = CvvField(required=False)


class JobStartedSerializer(serializers.Serializer[Any]):
    jobId = serializers.UUIDField()  # noqa: N815


class PaymentConfigSerializer(StrictSerializer):
    transactionAmount = WholeNumberField(help_text="In rupees.")  # noqa: N815
    transactionCount = WholeNumberField(help_text="From 1 to 20.")  # noqa: N815
    cardType = serializers.CharField(  # noqa: N815
        max_length=CARD_TYPE_LENGTH,
        required=False,
        help_text="Needed where the workspace has several cards.",
    )
    cvv = CvvField(required=False)


class UserIdField(serializers.CharField):
    """The documents' user ids are texts; ours are numbers, and may be sent as such."""

    def to_internal_value(self, data: Any) -> str:
        is_number = isinstance(data, int) and not isinstance(data, bool)
        return str(super().to_internal_value(str(data) if is_number else data))


class StartPaymentSerializer(StrictSerializer):
    userId = UserIdField(  # noqa: N815
        max_length=150,
        help_text="Your own id or user name; admins may name anybody of their workspace.",
    )
    config = PaymentConfigSerializer()


class PaymentStartedSerializer(JobStartedSerializer):
    message = serializers.CharField()


class PurchaseQuerySerializer(serializers.Serializer[Any]):
    status = OneOf(choices=VoucherPurchase.Status.choices, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=LARGEST_PAGE, default=50)
    after = serializers.UUIDField(
        required=False, help_text="The `next` of the page before: what is older than that."
    )


class MetadataSerializer(serializers.Serializer[Any]):
    cardType = serializers.CharField()  # noqa: N815
    card = serializers.CharField(help_text="Its name, and its last four digits.")
    currency = serializers.CharField()
    started_by = serializers.CharField(allow_null=True)
    error_code = serializers.CharField()


class RunRowSerializer(serializers.Serializer[Any]):
    """The columns of `job_runs`."""

    id = serializers.UUIDField(help_text="The `jobId` that was answered when it was started.")
    purchase_id = serializers.UUIDField()
    user_id = serializers.CharField(allow_null=True)
    job_type = serializers.CharField()
    status = serializers.ChoiceField(choices=VoucherPurchase.Status.choices)
    current_phase = serializers.ChoiceField(choices=VoucherPurchase.Phase.choices)
    progress_percentage = serializers.IntegerField()
    total_transactions = serializers.IntegerField()
    completed_transactions = serializers.IntegerField(help_text="Whose voucher is redeemed.")
    transaction_amount = serializers.FloatField()
    transaction_count = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)
    error_message = serializers.CharField(allow_null=True)
    metadata = MetadataSerializer()


class PurchaseListSerializer(serializers.Serializer[Any]):
    purchases = RunRowSerializer(many=True)
    next = serializers.UUIDField(allow_null=True)


class RunStepSerializer(serializers.Serializer[Any]):
    """The columns of `job_steps`."""

    id = serializers.UUIDField()
    job_run_id = serializers.UUIDField()
    step_name = serializers.CharField()
    step_type = serializers.ChoiceField(choices=["validation", "payment", "redemption"])
    status = serializers.ChoiceField(choices=STEP_STATUSES)
    transaction_index = serializers.IntegerField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    timeout_at = serializers.DateTimeField(allow_null=True, help_text="Of the code it waits for.")
    step_data = serializers.DictField()
    error_message = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()


class CodeRequestSerializer(serializers.Serializer[Any]):
    """The columns of `otp_requests`, but for the code."""

    id = serializers.UUIDField()
    job_run_id = serializers.UUIDField()
    job_step_id = serializers.UUIDField()
    otp_type = serializers.ChoiceField(choices=["gyftr_login", "amazon_login", "payment"])
    service = serializers.CharField()
    phone_number = serializers.CharField(help_text="Its last four digits.")
    requested_at = serializers.DateTimeField()
    received_at = serializers.DateTimeField(allow_null=True)
    verified_at = serializers.DateTimeField(allow_null=True)
    timeout_at = serializers.DateTimeField()
    attempts_count = serializers.IntegerField()
    max_attempts = serializers.IntegerField()
    status = serializers.ChoiceField(choices=OtpRequest.Status.choices)


class MoneySerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    amount = serializers.FloatField()


class SummarySerializer(serializers.Serializer[Any]):
    total = MoneySerializer()
    paid = MoneySerializer(help_text="With what went further.")
    awaiting_voucher = MoneySerializer()
    issued = MoneySerializer(help_text="With what was redeemed.")
    redeemed = MoneySerializer()
    pending_redemption = MoneySerializer()
    unknown = MoneySerializer()
    not_paid = MoneySerializer()


class VoucherSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    tail = serializers.CharField(help_text="The code's last four characters.")
    amount = serializers.FloatField()
    status = serializers.ChoiceField(choices=VoucherCode.Status.choices)
    expires_on = serializers.DateField(allow_null=True)
    issued_at = serializers.DateTimeField()
    redeemed_at = serializers.DateTimeField(allow_null=True)
    redeemed_by = serializers.CharField(
        allow_null=True, help_text="Who marked it; null: we redeemed it."
    )
    error_message = serializers.CharField()
    job_id = serializers.UUIDField(allow_null=True, help_text="The job that redeems it later.")
    can_redeem = serializers.BooleanField()
    can_mark_redeemed = serializers.BooleanField()


class TransactionSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    index = serializers.IntegerField()
    status = serializers.ChoiceField(choices=Transaction.Status.choices)
    status_label = serializers.CharField()
    amount = serializers.FloatField()
    reference = serializers.CharField()
    order = serializers.CharField()
    link = serializers.CharField(help_text="While it can be paid.")
    link_expires_at = serializers.DateTimeField(allow_null=True)
    payment_reference = serializers.CharField()
    paid_at = serializers.DateTimeField(allow_null=True)
    issued_at = serializers.DateTimeField(allow_null=True)
    redeemed_at = serializers.DateTimeField(allow_null=True)
    error_code = serializers.CharField()
    error_message = serializers.CharField()
    voucher = VoucherSerializer(allow_null=True)


class RunSerializer(RunRowSerializer):
    retry_count = serializers.IntegerField()
    progress = serializers.IntegerField(help_text="The same as progress_percentage.")
    message = serializers.CharField(help_text="What it does now, or how it ended.")
    advice = serializers.CharField(help_text="What a person can do about it; empty: nothing.")
    summary = SummarySerializer()
    waiting_for_cvv = serializers.BooleanField()
    job_steps = RunStepSerializer(many=True)
    otp_requests = CodeRequestSerializer(many=True)
    transactions = TransactionSerializer(many=True)


class CvvSerializer(StrictSerializer):
    cvv = CvvField()


class DoneSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()


class RedeemedSerializer(StrictSerializer):
    reason = serializers.CharField(
        max_length=500, default="", allow_blank=True, help_text="Kept in the audit trail."
    )


class RevealedSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    pin = serializers.CharField(allow_null=True)
