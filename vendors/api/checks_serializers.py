"""The JSON of checks: what one may be asked with, and what it answers."""

import difflib
from typing import Any

from rest_framework import serializers

from jobs.models import JOB_STATUSES
from vendors.api.fields import VariantField
from vendors.models import VendorAccount


class NewCheckSerializer(serializers.Serializer[Any]):
    product_url = serializers.URLField(
        max_length=1000,
        required=False,
        allow_null=True,
        help_text="A product's page at the vendor; without one no product page is looked at.",
    )
    variant = VariantField(required=False, allow_null=True)
    account_id = serializers.PrimaryKeyRelatedField(
        queryset=VendorAccount.objects.all(),
        source="account",
        required=False,
        allow_null=True,
        help_text="Whose log-in is tried; without it whichever account is free.",
    )

    def to_internal_value(self, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in self.fields:
                near = difflib.get_close_matches(str(key), list(self.fields), n=1)
                hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(self.fields)}."
                raise serializers.ValidationError({key: [f"{key} is no part of a check. {hint}"]})
        return super().to_internal_value(data)


class FindingSerializer(serializers.Serializer[Any]):
    step = serializers.CharField()
    outcome = serializers.ChoiceField(choices=["passed", "failed", "doubtful", "skipped"])
    message = serializers.CharField()
    key = serializers.CharField(allow_null=True, help_text="The part of the vendor data.")
    selector = serializers.CharField(allow_null=True)


class CheckResultSerializer(serializers.Serializer[Any]):
    passed = serializers.BooleanField()
    failed_keys = serializers.ListField(child=serializers.CharField())
    findings = FindingSerializer(many=True)
    account = serializers.EmailField(allow_null=True)


class TestResultSerializer(serializers.Serializer[Any]):
    account = serializers.EmailField()
    logged_in = serializers.BooleanField()
    session_saved = serializers.BooleanField(
        help_text="False where the shop's cart is the saved session's, and would be lost with it."
    )
    is_blocked = serializers.BooleanField(help_text="Set aside here, whatever the shop says now.")


class CheckJobSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    job_id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=JOB_STATUSES)
    url = serializers.CharField(help_text="The job's page, with its progress and screenshots.")
    error_message = serializers.CharField(allow_null=True)
    error_code = serializers.CharField(allow_null=True)


class VendorCheckSerializer(CheckJobSerializer):
    result = CheckResultSerializer(allow_null=True, help_text="Null until the job is completed.")


class AccountTestSerializer(CheckJobSerializer):
    result = TestResultSerializer(allow_null=True, help_text="Null until the job is completed.")
