"""What a call may say to a job that waits."""

from typing import Any

from rest_framework import serializers

from jobs.api.control_serializers import StrictSerializer

MOST_SIGNALS = 500  # in one call


class CodeSerializer(StrictSerializer):
    # The names are the document's.
    otpRequestId = serializers.UUIDField(help_text="Of the open request.")  # noqa: N815
    otpValue = serializers.CharField(max_length=100, help_text="The code.")  # noqa: N815


class AnswerSerializer(StrictSerializer):
    """One of the two: an approval takes a choice, a one-time password a code."""

    choice = serializers.CharField(
        max_length=100, required=False, help_text="One of the wait's `choices`."
    )
    code = serializers.CharField(max_length=100, required=False, help_text="A one-time password.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise serializers.ValidationError("Send either choice or code.")
        return attrs


class SignalSerializer(StrictSerializer):
    topic = serializers.CharField(max_length=200)
    fields = serializers.DictField(  # type: ignore[assignment]  # DRF's metaclass takes it away
        default=dict, help_text="What the wait asks for must be in here."
    )
    key = serializers.CharField(
        max_length=200,
        default=None,
        allow_null=True,
        help_text="The sender's name for it: the same topic and key again changes nothing.",
    )


class SignalsSerializer(StrictSerializer):
    signals = serializers.ListField(
        child=SignalSerializer(), allow_empty=False, max_length=MOST_SIGNALS
    )


class ReceivedSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    status = serializers.ChoiceField(["given", "kept", "unclear", "no_code", "ignored"])
    message_id = serializers.UUIDField(required=False)


class AcceptedSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()


class SentSignalSerializer(serializers.Serializer[Any]):
    signal_id = serializers.UUIDField()
    job_id = serializers.UUIDField(allow_null=True, help_text="The job that went on, if one did.")


class SentSerializer(SentSignalSerializer):
    success = serializers.BooleanField()


class SentSignalsSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    signals = SentSignalSerializer(many=True, help_text="In the order of the call.")
