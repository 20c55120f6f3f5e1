"""Cards, sites and log-ins as admins send and see them. What is secret goes in and never comes out.

What is not sent to a PUT stays as it is: nobody can send back what is never given out.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework import serializers

from payments.errors import InvalidCard
from payments.models import Card, PaymentSite, SiteAccount


class SetupSerializer(serializers.ModelSerializer[Any]):
    """Checks as the admin's forms do, with the model's own `clean`."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := set(data) - set(self.fields)):
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {name: f"{name} is not known here; use {known}." for name in sorted(unknown)}
            )
        return super().to_internal_value(data)

    def create(self, validated_data: dict[str, Any]) -> Any:
        model: Any = self.Meta.model
        return self._save(model(), validated_data)

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        return self._save(instance, validated_data)

    def write(self, row: Any, name: str, value: Any) -> None:
        setattr(row, name, value)

    def _save(self, row: Any, data: Mapping[str, Any]) -> Any:
        for name, value in data.items():
            self.write(row, name, value)
        try:
            row.clean()
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.message_dict) from error
        row.save()
        return row


class SiteSerializer(SetupSerializer):
    class Meta:
        model = PaymentSite
        fields = ["id", "kind", "name", "domain", "data", "is_active", "created_at"]
        validators: list[Any] = []  # the database's own constraint decides

    def validate_kind(self, kind: str) -> str:
        if self.instance is not None and kind != self.instance.kind:
            raise serializers.ValidationError("A site's kind stays; set another site up.")
        return kind


class SitesSerializer(serializers.Serializer[Any]):
    sites = SiteSerializer(many=True)


class SiteAccountSerializer(SetupSerializer):
    site_id = serializers.PrimaryKeyRelatedField(
        source="site", queryset=PaymentSite.objects.exclude(kind=PaymentSite.Kind.CARD_PAGE)
    )
    password = serializers.CharField(write_only=True, max_length=1000, trim_whitespace=False)

    class Meta:
        model = SiteAccount
        fields = [
            "id",
            "site_id",
            "email",
            "password",
            "phone_number",
            "is_active",
            "created_at",
        ]
        validators: list[Any] = []


class SiteAccountsSerializer(serializers.Serializer[Any]):
    accounts = SiteAccountSerializer(many=True)


class CardSerializer(SetupSerializer):
    number = serializers.CharField(write_only=True, max_length=40, help_text="Passes Luhn.")
    expiry = serializers.CharField(write_only=True, max_length=10, help_text="MM/YY.")
    portal_account_id = serializers.PrimaryKeyRelatedField(
        source="portal_account",
        queryset=SiteAccount.objects.filter(site__kind="portal").defer("password"),
    )
    redeemer_account_id = serializers.PrimaryKeyRelatedField(
        source="redeemer_account",
        queryset=SiteAccount.objects.filter(site__kind="redeemer").defer("password"),
    )
    transaction_limit = serializers.DecimalField(
        max_digits=12,
        decimal_places=2,
        min_value=1,
        required=False,
        allow_null=True,
        coerce_to_string=False,
    )

    class Meta:
        model = Card
        fields = [
            "id",
            "card_type",
            "label",
            "holder",
            "number",
            "expiry",
            "last4",
            "phone_number",
            "otp_service",
            "portal_account_id",
            "redeemer_account_id",
            "transaction_limit",
            "currency",
            "is_active",
            "created_at",
        ]
        validators: list[Any] = []

    def validate_number(self, number: str) -> str:
        return self._checked(Card().write_number, number)

    def validate_expiry(self, expiry: str) -> str:
        return self._checked(Card().write_expiry, expiry)

    def _checked(self, write: Callable[[str], None], typed: str) -> str:
        try:
            write(typed)
        except InvalidCard as error:
            raise serializers.ValidationError(str(error), code=error.code) from error
        return typed

    SEALED: ClassVar[Mapping[str, str]] = {"number": "write_number", "expiry": "write_expiry"}

    def write(self, row: Any, name: str, value: Any) -> None:
        if name in self.SEALED:
            getattr(row, self.SEALED[name])(value)
        else:
            super().write(row, name, value)


class CardsSerializer(serializers.Serializer[Any]):
    cards = CardSerializer(many=True)
