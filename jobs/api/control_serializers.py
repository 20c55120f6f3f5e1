"""What a call may ask of jobs. A name that is not known is refused: a filter that lost a part by a
typing mistake would mean more jobs than its writer did."""

from typing import Any

from rest_framework import serializers

from jobs.api.serializers import JobSerializer, OneOf
from jobs.bulk import Action
from jobs.models import JOB_STATUSES, Status

MOST_IDS = 1000


class StrictSerializer(serializers.Serializer[Any]):
    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := set(data) - set(self.fields)):
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {name: f"{name} is not known here; use {known}." for name in sorted(unknown)}
            )
        return super().to_internal_value(data)


class CancelSerializer(StrictSerializer):
    reason = serializers.CharField(
        max_length=500, default="", allow_blank=True, help_text="Shown with the job."
    )


class RerunSerializer(StrictSerializer):
    from_step = serializers.CharField(
        max_length=100,
        default=None,
        allow_null=True,
        help_text="The name of a step; without it, the first that is not done.",
    )


class ParamsField(serializers.DictField):
    """Names and plain values."""

    def to_internal_value(self, data: Any) -> dict[Any, Any]:
        params = super().to_internal_value(data)
        for name, value in params.items():
            if isinstance(value, dict | list):
                raise serializers.ValidationError(
                    {name: f"params.{name} must be a text, a number, true, false or null."}
                )
        return params


class FilterSerializer(StrictSerializer):
    ids = serializers.ListField(child=serializers.UUIDField(), max_length=MOST_IDS, required=False)
    workflow = serializers.CharField(max_length=100, required=False)
    status = serializers.ListField(child=OneOf(choices=JOB_STATUSES), required=False)
    error_code = serializers.CharField(max_length=100, required=False)
    created_after = serializers.DateTimeField(required=False, help_text="This moment, or later.")
    created_before = serializers.DateTimeField(required=False, help_text="Before this moment.")
    params = ParamsField(required=False, help_text="Parameters of the job, such as its vendor.")

    def validate_status(self, statuses: list[str]) -> list[Status]:
        return [Status(status) for status in statuses]


class BulkSerializer(StrictSerializer):
    action = OneOf(choices=[(each.value, each.value) for each in Action])
    filter = FilterSerializer(help_text="Jobs for which all of it holds.")
    dry_run = serializers.BooleanField(default=False, help_text="Only count, and show the first.")
    from_step = RerunSerializer().fields["from_step"]
    reason = CancelSerializer().fields["reason"]
    after = serializers.UUIDField(
        default=None, allow_null=True, help_text="The `next` of the call before."
    )


class ControlledSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    job = JobSerializer()


class SkippedSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    title = serializers.CharField()
    reason = serializers.CharField()


class BulkAnswerSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    action = serializers.ChoiceField(choices=[(each.value, each.value) for each in Action])
    count = serializers.IntegerField(help_text="How many jobs the filter means.")
    dry_run = serializers.BooleanField()
    first = JobSerializer(many=True, required=False, help_text="Of a dry run.")
    done = serializers.IntegerField(required=False)
    skipped = serializers.IntegerField(required=False)
    skipped_first = SkippedSerializer(many=True, required=False)
    next = serializers.UUIDField(
        required=False,
        allow_null=True,
        help_text="There are more: send the same again with this as `after`.",
    )
