"""The JSON of jobs over REST: what a query may ask, and the parts of docs/live-protocol.md.

The parts are written by `jobs/snapshots.py` and `jobs/events.py`; here they are only described.
"""

from typing import Any, NoReturn

from rest_framework import serializers

from jobs.models import JOB_STATUSES, STEP_STATUSES, Artifact, Wait

LARGEST_PAGE = 200


class OneOf(serializers.ChoiceField):
    """Says which there are, where DRF says only that this is none."""

    def fail(self, key: str, **values: Any) -> NoReturn:
        if key == "invalid_choice":
            known = ", ".join(map(str, self.choices))
            raise serializers.ValidationError(f"{values['input']!r} is none of: {known}.")
        super().fail(key, **values)


class JobQuerySerializer(serializers.Serializer[Any]):
    status = OneOf(choices=JOB_STATUSES, required=False)
    workflow = serializers.CharField(max_length=100, required=False)
    created_after = serializers.DateTimeField(required=False, help_text="This moment, or later.")
    created_before = serializers.DateTimeField(required=False, help_text="Before this moment.")
    before = serializers.UUIDField(
        required=False, help_text="The `next` of the page before: what is older than this job."
    )
    limit = serializers.IntegerField(min_value=1, max_value=LARGEST_PAGE, default=50)


class EventQuerySerializer(serializers.Serializer[Any]):
    after = serializers.IntegerField(
        min_value=0, default=0, help_text="The number of the last event that you have."
    )


class ErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()


class JobSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    workflow = serializers.CharField()
    title = serializers.CharField()
    status = serializers.ChoiceField(choices=JOB_STATUSES)
    progress = serializers.IntegerField(help_text="0 to 100.")
    error = ErrorSerializer(allow_null=True)
    result = serializers.JSONField(allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class JobRowSerializer(JobSerializer):
    phase = serializers.CharField(help_text="What is being done, in words.")
    due_at = serializers.DateTimeField(allow_null=True, help_text="When a waiting job goes on.")
    url = serializers.CharField(help_text="Its page.")


class JobListSerializer(serializers.Serializer[Any]):
    jobs = JobRowSerializer(many=True)
    next = serializers.UUIDField(
        allow_null=True, help_text="Ask for older jobs with `before=` this; null: there are none."
    )


class WaitSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=Wait.Kind.choices)
    question = serializers.CharField(help_text="For people.")
    choices = serializers.ListField(
        child=serializers.JSONField(), help_text="What a person may answer."
    )
    deadline_at = serializers.DateTimeField(allow_null=True)


class StepSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    stage = serializers.IntegerField()
    position = serializers.IntegerField()
    name = serializers.CharField()
    title = serializers.CharField()
    status = serializers.ChoiceField(choices=STEP_STATUSES)
    attempt = serializers.IntegerField()
    max_attempts = serializers.IntegerField()
    progress = serializers.IntegerField()
    phase = serializers.CharField()
    error = ErrorSerializer(allow_null=True)
    due_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    waits = WaitSerializer(many=True, help_text="What it waits for now.")


class EventSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField(help_text="From 1, without gaps in each job.")
    kind = serializers.CharField()
    at = serializers.DateTimeField()
    step = serializers.UUIDField(allow_null=True)
    message = serializers.CharField()
    data = serializers.JSONField(  # type: ignore[assignment]  # DRF's metaclass takes it away
        help_text="Changed fields, to be merged into `job` and into the step."
    )


class EventListSerializer(serializers.Serializer[Any]):
    events = EventSerializer(many=True)
    next = serializers.IntegerField(help_text="Ask for later events with `after=` this.")
    last = serializers.IntegerField(help_text="The number of the job's newest event.")


class ArtifactSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    step = serializers.UUIDField()
    attempt = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=Artifact.Kind.choices)
    title = serializers.CharField()
    url = serializers.CharField(help_text="The file, for staff with a session.")
    created_at = serializers.DateTimeField()


class FactSerializer(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]  # DRF's metaclass takes it away
    text = serializers.CharField()
    url = serializers.CharField()


class SubjectSerializer(serializers.Serializer[Any]):
    facts = FactSerializer(many=True)
    advice = serializers.CharField(help_text="What a person can do now.")


class SnapshotSerializer(serializers.Serializer[Any]):
    type = serializers.CharField(help_text="`snapshot`")
    at = serializers.DateTimeField(help_text="The server's clock.")
    number = serializers.IntegerField(help_text="Of the last event that it contains.")
    job = JobSerializer()
    steps = StepSerializer(many=True)
    events = EventSerializer(many=True, help_text="The newest 200.")
    artifacts = ArtifactSerializer(many=True)
    subject = SubjectSerializer(allow_null=True)
