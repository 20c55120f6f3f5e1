"""The JSON of the PRD's section 8: requests checked part by part, and rows as its answers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework import serializers

from automation.site import site_problems
from vendors.api.fields import (
    NumberField,
    SelectorsField,
    VariantField,
    VendorField,
    WholeNumberField,
)
from vendors.models import ArchivedQueueItem, QueueItem, Vendor, VendorAccount

LARGEST_QUANTITY = 1_000_000  # more is a slip of the hand, and soon more than the column holds
LARGEST_PAGE = 100
LARGEST_PRIORITY = 100


class ProductDataSerializer(serializers.Serializer[Any]):
    default_error_messages = {
        "invalid": 'product_data must be an object, such as {{"quantity": 1, "variant": "Large"}}.'
    }

    price = NumberField(min_value=0, required=False, allow_null=True)
    quantity = WholeNumberField(
        min_value=1,
        max_value=LARGEST_QUANTITY,
        required=False,
        error_messages=dict.fromkeys(
            ("invalid", "min_value", "max_value", "null"),
            f"product_data.quantity must be a whole number from 1 to {LARGEST_QUANTITY:,}.",
        ),
        help_text="1 if it is left out.",
    )
    variant = VariantField(required=False, allow_null=True)
    erpnext_item_id = serializers.CharField(max_length=255, required=False, allow_null=True)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Keys that are not ours are the caller's own, and kept."""
        known = super().to_internal_value(data)
        return {**data, **known}


class CartAddSerializer(serializers.Serializer[Any]):
    user_id = serializers.CharField(
        max_length=64, default="system", help_text="`system` for ERPNext's calls."
    )
    vendor_id = VendorField(source="vendor")
    product_url = serializers.CharField(
        help_text="http or https, on the vendor's domain, at most 1,000 characters."
    )
    product_name = serializers.CharField(
        max_length=500, required=False, allow_null=True, allow_blank=True
    )
    product_data = ProductDataSerializer(required=False, allow_null=True)
    priority = WholeNumberField(
        min_value=-LARGEST_PRIORITY,
        max_value=LARGEST_PRIORITY,
        default=0,
        help_text="Higher goes first; of the same priority, first in is first out.",
    )


_CART_ADD = CartAddSerializer()


def check_cart_add(data: Any) -> Mapping[str, Any]:
    """A request's parts. Raises ValidationError, for all that is wrong with them.

    By one serializer for all requests: checking leaves nothing in it, and DRF would copy each of
    its fields for every new one.
    """
    checked: Mapping[str, Any] = _CART_ADD.run_validation(data)
    return checked


class QueuedSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    queue_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=QueueItem.Status.choices)
    message = serializers.CharField()
    estimated_completion = serializers.DateTimeField(
        allow_null=True, help_text="Null for an item that a person adds."
    )


class CartStatusSerializer(serializers.ModelSerializer[QueueItem]):
    vendor_name = serializers.CharField(source="vendor.name")

    class Meta:
        model = QueueItem
        fields = [
            "id",
            "status",
            "product_name",
            "vendor_name",
            "attempts",
            "created_at",
            "completed_at",
            "error_message",
        ]
        read_only_fields = fields


class ArchivedStatusSerializer(serializers.ModelSerializer[ArchivedQueueItem]):
    """The same of an item that is in the archive."""

    class Meta:
        model = ArchivedQueueItem
        fields = CartStatusSerializer.Meta.fields
        read_only_fields = fields


class VendorSerializer(serializers.ModelSerializer[Vendor]):
    selectors = SelectorsField(required=False)

    class Meta:
        model = Vendor
        fields = [
            "id",
            "name",
            "domain",
            "login_url",
            "cart_url",
            "is_prioritized",
            "can_automate",
            "requires_captcha",
            "selectors",
            "rate_limit_daily",
            "seconds_between_adds",
            "cart_scope",
            "login_required",
            "allow_private_network",
            "allowed_domains",
            "migrate_on_block",
            "created_at",
        ]
        # The database's own constraint decides, for two requests at once too.
        extra_kwargs: ClassVar[dict[str, Any]] = {"domain": {"validators": []}}

    def to_internal_value(self, data: Any) -> Any:
        """Null is the default: the shop has none, or the caller does not say."""
        if isinstance(data, Mapping):
            data = {key: value for key, value in data.items() if value is not None}
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if problems := site_problems(attrs):
            raise serializers.ValidationError(problems)
        return attrs

    def update(self, instance: Vendor, validated_data: dict[str, Any]) -> Vendor:
        """PUT replaces the whole: what is not sent has its default again."""
        defaults = {
            field.name: field.get_default()
            for field in Vendor._meta.concrete_fields
            if field.name in self.fields and not self.fields[field.name].read_only
        }
        return super().update(instance, defaults | validated_data)


class VendorRowSerializer(serializers.ModelSerializer[Vendor]):
    account_count = serializers.IntegerField()
    healthy_accounts = serializers.IntegerField()
    blocked_accounts = serializers.IntegerField()

    class Meta:
        model = Vendor
        fields = [
            "id",
            "name",
            "domain",
            "is_prioritized",
            "requires_captcha",
            "can_automate",
            "account_count",
            "healthy_accounts",
            "blocked_accounts",
        ]
        read_only_fields = fields


class VendorListSerializer(serializers.Serializer[Any]):
    vendors = VendorRowSerializer(many=True)


class NewAccountSerializer(serializers.ModelSerializer[VendorAccount]):
    vendor_id = VendorField(source="vendor")
    password = serializers.CharField(write_only=True, max_length=1000, trim_whitespace=False)

    class Meta:
        model = VendorAccount
        fields = [
            "id",
            "vendor_id",
            "email",
            "password",
            "rate_limit_daily",
            "is_blocked",
            "created_at",
        ]
        read_only_fields = ["is_blocked"]
        extra_kwargs: ClassVar[dict[str, Any]] = {"rate_limit_daily": {"write_only": True}}
        validators: list[Any] = []  # as for the vendor's domain


class AccountSerializer(serializers.ModelSerializer[VendorAccount]):
    vendor_name = serializers.CharField(source="vendor.name")
    daily_items_added = serializers.IntegerField()

    class Meta:
        model = VendorAccount
        fields = [
            "id",
            "vendor_id",
            "vendor_name",
            "email",
            "is_blocked",
            "daily_items_added",
            "total_items_added",
            "last_used_at",
            "created_at",
        ]
        read_only_fields = fields


class ChangedAccountSerializer(serializers.ModelSerializer[VendorAccount]):
    """What is not sent stays as it is: nobody can send a password back that is never given out."""

    password = serializers.CharField(
        write_only=True, required=False, max_length=1000, trim_whitespace=False
    )

    class Meta:
        model = VendorAccount
        fields = ["email", "password", "rate_limit_daily", "is_blocked"]
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "email": {"required": False},
            "rate_limit_daily": {"write_only": True},
        }
        validators: list[Any] = []  # as for the vendor's domain

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := set(data) - set(self.fields)):
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {name: f"{name} is not known here; use {known}." for name in sorted(unknown)}
            )
        return super().to_internal_value(data)


class AccountQuerySerializer(serializers.Serializer[Any]):
    vendor_id = serializers.UUIDField(required=False)
    is_blocked = serializers.BooleanField(required=False)
    page = serializers.IntegerField(min_value=1, max_value=1_000_000, default=1)
    limit = serializers.IntegerField(min_value=1, max_value=LARGEST_PAGE, default=50)


class AccountListSerializer(serializers.Serializer[Any]):
    accounts = AccountSerializer(many=True)
    total = serializers.IntegerField()
    page = serializers.IntegerField()
    limit = serializers.IntegerField()
