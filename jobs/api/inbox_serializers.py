"""What a person may say to what waits for one."""

from typing import Any

from rest_framework import serializers

from jobs.api.control_serializers import StrictSerializer


class SettleSerializer(StrictSerializer):
    happened = serializers.BooleanField(help_text="Whether the act took effect.")
    cancel = serializers.BooleanField(
        default=False, help_text="The job is not needed any more: it does not go on."
    )


class AssignSerializer(StrictSerializer):
    request = serializers.UUIDField(help_text="The request that the message is for.")
    code = serializers.CharField(
        max_length=100,
        default=None,
        allow_null=True,
        help_text="Needed where several numbers of the message may be the code.",
    )


class InboxSerializer(serializers.Serializer[Any]):
    waits = serializers.ListField(child=serializers.DictField())
    messages = serializers.ListField(child=serializers.DictField())
    effects = serializers.ListField(child=serializers.DictField())
    webhooks = serializers.ListField(
        child=serializers.DictField(), help_text="Disabled because what was sent did not arrive."
    )
