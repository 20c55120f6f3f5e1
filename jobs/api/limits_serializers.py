"""What a call may ask of limits, and what is told of them."""

from typing import Any

from rest_framework import serializers

from jobs.api.control_serializers import StrictSerializer
from jobs.models.limits import LONGEST_PERIOD, MOST_RATE


class LimitSerializer(StrictSerializer):
    """The whole of a limit: what is left out is no limit."""

    concurrency = serializers.IntegerField(
        min_value=1,
        default=None,
        allow_null=True,
        help_text="At most so many of its steps run at once.",
    )
    rate = serializers.IntegerField(
        min_value=1,
        max_value=MOST_RATE,
        default=None,
        allow_null=True,
        help_text="At most so many of its steps start in any period.",
    )
    period_seconds = serializers.IntegerField(min_value=1, max_value=LONGEST_PERIOD, default=60)


class PauseSerializer(StrictSerializer):
    reason = serializers.CharField(
        max_length=300, default="", allow_blank=True, help_text="Shown with each job that waits."
    )


class LimitStateSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    concurrency = serializers.IntegerField(allow_null=True)
    rate = serializers.IntegerField(allow_null=True)
    period_seconds = serializers.IntegerField()
    paused = serializers.BooleanField()
    paused_at = serializers.DateTimeField(allow_null=True)
    paused_by = serializers.CharField()
    pause_reason = serializers.CharField()
    running = serializers.IntegerField(help_text="Its steps that run now.")
    waiting = serializers.IntegerField(help_text="Its steps that are ready but for the limit.")


class LimitAnswerSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    limit = LimitStateSerializer()


class LimitListSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    limits = LimitStateSerializer(many=True)


class ReasonSerializer(serializers.Serializer[Any]):
    step = serializers.UUIDField()
    name = serializers.CharField()
    code = serializers.CharField(
        help_text="earlier_steps, answer, retry, postponed, waiting, paused, concurrency, rate, "
        "turn, no_worker, workers_busy, next or job_ended."
    )
    sentence = serializers.CharField()
    data = serializers.DictField(  # type: ignore[assignment]  # a field; DRF's `data` is for values
        help_text="By the code: due_at, key, running, limit, ahead, jobs."
    )


class WhySerializer(serializers.Serializer[Any]):
    job = serializers.UUIDField()
    steps = ReasonSerializer(many=True, help_text="Those that have not started.")
