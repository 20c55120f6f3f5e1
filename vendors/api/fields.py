"""Serializer fields that mean exactly one JSON type, or one of our rows."""

from typing import Any, get_args
from uuid import UUID

from django.db import connection
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from automation.site import SELECTOR_KEYS, VARIANT_KEYS, VariantKind
from vendors.models import Vendor


class _NumberOnly:
    """DRF reads numbers out of texts and booleans as well; a caller who sends those is mistaken."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")  # type: ignore[attr-defined]
        return super().to_internal_value(data)  # type: ignore[misc]


class WholeNumberField(_NumberOnly, serializers.IntegerField):
    """3 and 3.0, which is how ERPNext writes its quantities, but not 3.5."""


class NumberField(_NumberOnly, serializers.FloatField):
    pass


_known: dict[UUID, tuple[str, Vendor]] = {}
# Changes whenever any process writes the row.
VERSION = "SELECT xmin::text FROM vendors WHERE id = %s"


def find_vendor(pk: UUID) -> Vendor | None:
    """As the vendor is now. What was read before is given out again while its row is the same: it
    has all of the vendor's data, and each request needs it. Not to be changed."""
    with connection.cursor() as cursor:
        cursor.execute(VERSION, [pk])
        version = cursor.fetchone()
    known = _known.get(pk)
    if version is None or known is None or known[0] != version[0]:
        # Should it change between the two statements, its version differs the next time.
        vendor = Vendor.objects.filter(pk=pk).first()
        if version is None or vendor is None:
            _known.pop(pk, None)
            return vendor
        known = _known[pk] = (version[0], vendor)
    return known[1]


@extend_schema_field(OpenApiTypes.UUID)
class VendorField(serializers.Field[Vendor, Any, str, Any]):
    """A vendor by its id. Whatever is none is the documents' INVALID_VENDOR."""

    def to_internal_value(self, data: Any) -> Vendor:
        if isinstance(data, Vendor):  # a caller inside has found it already
            return data
        try:
            found = find_vendor(data if isinstance(data, UUID) else UUID(data))
        except (AttributeError, TypeError, ValueError):
            found = None
        if found is None:
            raise serializers.ValidationError(
                "Invalid vendor_id: there is no such vendor. GET /api/admin/vendors lists them.",
                code="INVALID_VENDOR",
            )
        return found

    def to_representation(self, value: Vendor) -> str:
        return str(value.pk)


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": {"type": "string"}},
        ],
        "example": {"Colour": "Black", "Size": "L"},
    }
)
class VariantField(serializers.Field[str | dict[str, str], Any, Any, Any]):
    """A text where the product has one option, else an object of option to value."""

    default_error_messages = {
        "invalid": "product_data.variant must be a text, or an object such as "
        '{{"Colour": "Black"}} with a text for each option.'
    }

    def to_internal_value(self, data: Any) -> str | dict[str, str]:
        values = data.values() if isinstance(data, dict) else [data]
        if not all(isinstance(value, str) for value in values):
            self.fail("invalid")
        variant: str | dict[str, str] = data
        return variant

    def to_representation(self, value: Any) -> Any:
        return value


_SELECTOR = {"type": "string", "nullable": True}


@extend_schema_field(
    {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **dict.fromkeys(SELECTOR_KEYS, _SELECTOR),
            "logged_in_indicator_is_hidden": {"type": "boolean"},
            "variants": {
                "type": "object",
                "nullable": True,
                "description": "How each option of a product is chosen, by the option's name.",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["kind", "selector"],
                    "properties": {
                        **dict.fromkeys(VARIANT_KEYS, _SELECTOR),
                        "kind": {"type": "string", "enum": list(get_args(VariantKind))},
                        "selector": {"type": "string"},
                    },
                },
            },
        },
    }
)
class SelectorsField(serializers.JSONField):
    """`automation.site` says what is wrong with them; this only says what they may be."""
