"""The JSON of migrations."""

import difflib
from typing import Any

from rest_framework import serializers

from vendors.models import CartMove, VendorAccount


class NewMigrationSerializer(serializers.Serializer[Any]):
    new_account_id = serializers.PrimaryKeyRelatedField(
        queryset=VendorAccount.objects.defer("password", "session_data"),
        source="new_account",
        required=False,
        allow_null=True,
        help_text="The replacement; without it the account that suits best is chosen.",
    )

    def to_internal_value(self, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in self.fields:
                near = difflib.get_close_matches(str(key), list(self.fields), n=1)
                hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(self.fields)}."
                raise serializers.ValidationError({key: [f"{key} is not known here. {hint}"]})
        return super().to_internal_value(data)


class BegunMigrationSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    migrated_items = serializers.IntegerField(help_text="Lines that are being moved.")
    migration_id = serializers.UUIDField()


class CartMoveSerializer(serializers.Serializer[Any]):
    queue_id = serializers.UUIDField(help_text="The item's, though it is archived by now.")
    product_name = serializers.CharField(allow_null=True)
    product_url = serializers.CharField()
    quantity = serializers.IntegerField()
    status = serializers.ChoiceField(choices=CartMove.Status.choices)
    job_id = serializers.UUIDField(allow_null=True, help_text="Null once that job is archived.")
    error_code = serializers.CharField(allow_null=True)
    error_message = serializers.CharField(allow_null=True)


class MigrationSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    vendor_id = serializers.UUIDField()
    old_account_id = serializers.UUIDField()
    old_account_email = serializers.CharField()
    new_account_id = serializers.UUIDField()
    new_account_email = serializers.CharField()
    migrated_items = serializers.IntegerField()
    pending = serializers.IntegerField()
    moved = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Stay the old account's; a person looks at them.")
    undone = serializers.IntegerField()
    migrated_at = serializers.DateTimeField()
    started_by = serializers.CharField()
    is_automatic = serializers.BooleanField(help_text="By the vendor's switch migrate_on_block.")
    undone_at = serializers.DateTimeField(allow_null=True)
    undone_by = serializers.CharField(allow_blank=True)
    moves = CartMoveSerializer(many=True)


class KeptSerializer(serializers.Serializer[Any]):
    item = serializers.CharField()
    reason = serializers.CharField()


class UndoneSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    migration_id = serializers.UUIDField()
    restored = serializers.IntegerField(help_text="Lines that are the old account's again.")
    stopped = serializers.IntegerField(help_text="Moves that are not made any more.")
    kept = KeptSerializer(many=True, help_text="Lines that stay the new account's.")
    in_new_cart = serializers.ListField(
        child=serializers.CharField(), help_text="What stands in the new account's cart in reality."
    )
    maybe_in_new_cart = serializers.ListField(
        child=serializers.CharField(), help_text="What may: its move was stopped in the middle."
    )
    message = serializers.CharField()


class OrderedSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    marked = serializers.IntegerField(help_text="Lines that stood in the cart until now.")
    moving = serializers.IntegerField(
        help_text="Lines that are being moved to another account, and were left as they are."
    )
