"""What may be asked of the queue, and its rows as answers. Names that are not known are refused in
bodies: a filter that lost a part by a typing mistake would mean more items than its writer did."""

from datetime import datetime, time, timedelta
from typing import Any

from django.utils.dateparse import parse_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from jobs.api.control_serializers import StrictSerializer
from jobs.api.serializers import OneOf
from vendors.api.serializers import LARGEST_PAGE
from vendors.models import VENDORS_DAY, CartItem, QueueItem
from vendors.queue_bulk import Action

MOST_IDS = 1000
LARGEST_OFFSET = 10_000_000


@extend_schema_field(OpenApiTypes.STR)
class MomentField(serializers.DateTimeField):
    """A moment, or a day: then its midnight in London, its first one or its last."""

    default_error_messages = {
        "invalid": "Write a day, such as 2025-12-02, or a moment, such as 2025-12-02T10:30:00Z."
    }

    def __init__(self, *, is_end: bool = False, **options: Any) -> None:
        self._is_end = is_end
        super().__init__(**options)

    def to_internal_value(self, value: Any) -> datetime:
        try:
            day = parse_date(value) if isinstance(value, str) else None
            if day is not None:
                day += timedelta(days=int(self._is_end))
                return datetime.combine(day, time.min, VENDORS_DAY)
        except (ValueError, OverflowError):
            self.fail("invalid", format="")
        return super().to_internal_value(value)


class RangeSerializer(serializers.Serializer[Any]):
    date_from = MomentField(
        required=False, help_text="Asked for at this moment or later. A day: from its start."
    )
    date_to = MomentField(
        is_end=True,
        required=False,
        help_text="Asked for before this moment. A day: to its end, in London.",
    )


class PageQuerySerializer(serializers.Serializer[Any]):
    limit = serializers.IntegerField(min_value=1, max_value=LARGEST_PAGE, default=50)
    offset = serializers.IntegerField(min_value=0, max_value=LARGEST_OFFSET, default=0)
    after = serializers.UUIDField(
        default=None,
        help_text="The `next` of the page before: costs the same however far down it is, and no "
        "item that comes meanwhile moves what is left. Instead of `offset`.",
    )


class QueueQuerySerializer(RangeSerializer, PageQuerySerializer):
    status = OneOf(choices=QueueItem.Status.choices, required=False)
    vendor_id = serializers.UUIDField(required=False)


class QueueRowSerializer(serializers.ModelSerializer[QueueItem]):
    vendor_name = serializers.CharField(source="vendor.name")
    account_email = serializers.SerializerMethodField()

    class Meta:
        model = QueueItem
        fields = [
            "id",
            "product_name",
            "product_url",
            "vendor_name",
            "status",
            "created_at",
            "account_email",
        ]
        read_only_fields = fields

    def get_account_email(self, item: QueueItem) -> str | None:
        return item.assigned_account.email if item.assigned_account else None


class QueueListSerializer(serializers.Serializer[Any]):
    items = QueueRowSerializer(many=True)
    total = serializers.IntegerField()
    total_is_exact = serializers.BooleanField(help_text="False: about so many, over 10,000.")
    limit = serializers.IntegerField()
    offset = serializers.IntegerField()
    next = serializers.UUIDField(
        allow_null=True, help_text="There are more: send the same again with this as `after`."
    )


class StatisticsSerializer(serializers.Serializer[Any]):
    pending = serializers.IntegerField()
    processing = serializers.IntegerField()
    completed_today = serializers.IntegerField(help_text="Since midnight in London.")
    failed_today = serializers.IntegerField()
    manual_required = serializers.IntegerField()
    average_completion_time_seconds = serializers.FloatField(
        allow_null=True, help_text="Of those completed today; null while there are none."
    )


class CartItemSerializer(serializers.ModelSerializer[CartItem]):
    queue_id = serializers.UUIDField(
        source="queue_item_id", allow_null=True, help_text="Null once that item is in the archive."
    )
    vendor_name = serializers.CharField(source="vendor_account.vendor.name")

    class Meta:
        model = CartItem
        fields = [
            "id",
            "queue_id",
            "user_id",
            "vendor_account_id",
            "vendor_name",
            "product_url",
            "product_name",
            "quantity",
            "added_at",
        ]
        read_only_fields = fields


class CartItemListSerializer(serializers.Serializer[Any]):
    items = CartItemSerializer(many=True)
    total = serializers.IntegerField()
    limit = serializers.IntegerField()
    offset = serializers.IntegerField()
    next = serializers.UUIDField(allow_null=True)


class ItemReasonSerializer(StrictSerializer):
    reason = serializers.CharField(
        max_length=500, default="", allow_blank=True, help_text="Shown with the item."
    )


class RouteSerializer(StrictSerializer):
    reason = serializers.CharField(max_length=500, help_text="What the person reads who adds it.")


class ItemFilterSerializer(StrictSerializer):
    ids = serializers.ListField(child=serializers.UUIDField(), max_length=MOST_IDS, required=False)
    status = serializers.ListField(child=OneOf(choices=QueueItem.Status.choices), required=False)
    vendor_id = serializers.UUIDField(required=False)
    error_code = serializers.CharField(max_length=50, required=False)
    date_from = MomentField(required=False)
    date_to = MomentField(is_end=True, required=False)


class QueueBulkSerializer(StrictSerializer):
    action = OneOf(choices=[(each.value, each.value) for each in Action])
    filter = ItemFilterSerializer(help_text="Items for which all of it holds.")
    dry_run = serializers.BooleanField(default=False, help_text="Only count, and show the first.")
    reason = ItemReasonSerializer().fields["reason"]
    after = serializers.UUIDField(
        default=None, allow_null=True, help_text="The `next` of the call before."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["action"] == Action.MANUAL and not attrs["reason"] and not attrs["dry_run"]:
            raise serializers.ValidationError(
                {"reason": "Say in reason why a person must add these items; that person reads it."}
            )
        return attrs


class ChangedSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    queue_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=QueueItem.Status.choices)
    message = serializers.CharField()


class SkippedItemSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    reason = serializers.CharField()


class QueueBulkAnswerSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    action = serializers.ChoiceField(choices=[(each.value, each.value) for each in Action])
    count = serializers.IntegerField(help_text="How many items the filter means.")
    dry_run = serializers.BooleanField()
    first = QueueRowSerializer(many=True, required=False, help_text="Of a dry run.")
    done = serializers.IntegerField(required=False)
    skipped = serializers.IntegerField(required=False)
    skipped_first = SkippedItemSerializer(many=True, required=False)
    next = serializers.UUIDField(
        required=False,
        allow_null=True,
        help_text="There are more: send the same again with this as `after`.",
    )
