"""The JSON of webhooks over REST. A secret is in it only when it has just been made."""

from typing import Any

from rest_framework import serializers

from jobs.api.serializers import OneOf
from jobs.models import WebhookDelivery, WebhookEndpoint
from jobs.webhooks.endpoints import LONGEST_PATTERN, MOST_PATTERNS, OLD_SECRET_STAYS

LARGEST_PAGE = 100
LONGEST_KEPT_HOURS = 7 * 24


class WebhookSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    events = serializers.ListField(
        child=serializers.CharField(max_length=LONGEST_PATTERN),
        max_length=MOST_PATTERNS,
        help_text="`job.completed` for one kind, `job.*` for all of jobs, `*` for everything.",
    )
    enabled = serializers.SerializerMethodField()

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id",
            "url",
            "description",
            "events",
            "enabled",
            "disabled_at",
            "disabled_reason",
            "failing_since",
            "old_secret_expires_at",
            "created_at",
        ]
        read_only_fields = fields[5:]

    def get_enabled(self, endpoint: WebhookEndpoint) -> bool:
        return endpoint.disabled_at is None


class WebhookChangeSerializer(WebhookSerializer):
    enabled = serializers.BooleanField(  # type: ignore[assignment]  # written here, computed there
        required=False, help_text="true also starts anew what was disabled for its failures."
    )

    class Meta(WebhookSerializer.Meta):
        fields = ["url", "description", "events", "enabled"]
        read_only_fields = []


class NewWebhookSerializer(WebhookSerializer):
    secret = serializers.CharField(
        read_only=True, help_text="Shown here and never again. It signs what is sent."
    )

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]


class WebhookListSerializer(serializers.Serializer[Any]):
    webhooks = WebhookSerializer(many=True)


class DeletedSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField(default=True)


class RotationSerializer(serializers.Serializer[Any]):
    keep_old_hours = serializers.IntegerField(
        min_value=0,
        max_value=LONGEST_KEPT_HOURS,
        default=int(OLD_SECRET_STAYS.total_seconds() // 3600),
        help_text="How long messages are signed with the old secret as well; 0 if it has leaked.",
    )


class RotatedSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    secret = serializers.CharField(help_text="Shown here and never again.")

    class Meta:
        model = WebhookEndpoint
        fields = ["secret", "old_secret_expires_at"]


class AttemptSerializer(serializers.Serializer[Any]):
    attempt = serializers.IntegerField()
    at = serializers.DateTimeField(help_text="When it began.")
    seconds = serializers.FloatField(allow_null=True, help_text="null: nothing was sent.")
    status = serializers.IntegerField(allow_null=True, help_text="null: there was no answer.")
    body = serializers.CharField(help_text="The beginning of the answer.")
    error = serializers.CharField()


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    job = serializers.UUIDField(source="job_id", allow_null=True)
    history = AttemptSerializer(
        many=True,
        help_text="The newest 20 attempts, in order. One whose sender was stopped is not in it.",
    )

    class Meta:
        model = WebhookDelivery
        fields = [
            "id",
            "kind",
            "job",
            "event_number",
            "status",
            "attempt",
            "due_at",
            "response_status",
            "response_body",
            "error",
            "history",
            "created_at",
            "delivered_at",
        ]
        read_only_fields = fields


class DeliveryQuerySerializer(serializers.Serializer[Any]):
    status = OneOf(choices=WebhookDelivery.Status.choices, required=False)
    before = serializers.CharField(
        max_length=40,
        required=False,
        help_text="The `next` of the page before: what is older than this message.",
    )
    limit = serializers.IntegerField(min_value=1, max_value=LARGEST_PAGE, default=50)


class DeliveryListSerializer(serializers.Serializer[Any]):
    deliveries = DeliverySerializer(many=True)
    next = serializers.CharField(
        allow_null=True, help_text="Ask for older ones with `before=` this; null: there are none."
    )
