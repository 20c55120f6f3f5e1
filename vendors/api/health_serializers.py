"""The JSON of the vendors' health."""

from typing import Any

from rest_framework import serializers

from vendors.models import Alert

MOST_DAYS = 90


class HealthQuerySerializer(serializers.Serializer[Any]):
    days = serializers.IntegerField(
        min_value=1, max_value=MOST_DAYS, default=1, help_text="The period: days back from now."
    )


class OutcomesSerializer(serializers.Serializer[Any]):
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()
    manual = serializers.IntegerField(help_text="With a person, of those that came there.")
    success_rate = serializers.FloatField(
        allow_null=True, help_text="Per cent: completed of completed and failed."
    )
    manual_share = serializers.FloatField(allow_null=True, help_text="Per cent of all that ended.")
    average_time_to_cart = serializers.FloatField(allow_null=True, help_text="Seconds.")


class DaySerializer(OutcomesSerializer):
    day = serializers.DateField(help_text="London's.")


class VendorHealthSerializer(OutcomesSerializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    is_prioritized = serializers.BooleanField()
    is_automated = serializers.BooleanField()
    p95_time_to_cart = serializers.FloatField(allow_null=True)
    pending = serializers.IntegerField()
    processing = serializers.IntegerField()
    healthy_accounts = serializers.IntegerField()
    blocked_accounts = serializers.IntegerField()
    days = DaySerializer(many=True)


class AlertSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(choices=Alert.Kind.choices)
    vendor_id = serializers.UUIDField()
    vendor_name = serializers.CharField()
    account_id = serializers.UUIDField(allow_null=True)
    queue_id = serializers.UUIDField(allow_null=True, help_text="The oldest item that is late.")
    message = serializers.CharField(help_text="What is the matter, and what to do.")
    details = serializers.JSONField()
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    closed_reason = serializers.CharField()


class HealthSerializer(OutcomesSerializer):
    since = serializers.DateTimeField()
    pending = serializers.IntegerField()
    processing = serializers.IntegerField()
    manual_waiting = serializers.IntegerField()
    ended_per_minute = serializers.FloatField(help_text="In the last hour.")
    block_rate = serializers.FloatField(
        allow_null=True, help_text="Per cent of the accounts that were blocked within 30 days."
    )
    vendor_coverage = serializers.FloatField(
        allow_null=True, help_text="Per cent of the prioritised vendors that are automated."
    )
    errors = serializers.DictField(  # type: ignore[assignment]  # DRF's metaclass takes it away
        child=serializers.IntegerField(), help_text="How many items by error code."
    )
    vendors = VendorHealthSerializer(many=True)
    alerts = AlertSerializer(many=True, help_text="Those that are open.")


class ResumedSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    resumed = serializers.BooleanField(
        help_text="False when the vendor was not turned off for its failures."
    )
