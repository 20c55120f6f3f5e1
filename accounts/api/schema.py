"""How every refusal is described in the OpenAPI document, for the schemas of all apps."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers


class RefusalSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField(default=False)
    error = serializers.CharField(help_text="What is wrong, and what to do.")
    code = serializers.CharField(help_text="Stable: for programs.")
    fields = serializers.DictField(  # type: ignore[assignment]  # DRF's metaclass takes it away
        child=serializers.CharField(), required=False, help_text="Every field's sentence."
    )


def refused(description: str, *examples: tuple[str, str]) -> OpenApiResponse:
    return OpenApiResponse(
        RefusalSerializer,
        description,
        examples=[
            OpenApiExample(code, {"success": False, "error": sentence, "code": code})
            for code, sentence in examples
        ],
    )


UNAUTHENTICATED = {
    401: refused(
        "Nobody, or nobody known.",
        (
            "NOT_AUTHENTICATED",
            'Say who calls: send the header "Authorization: token KEY:SECRET", or a token of '
            '/api/token as "Authorization: Bearer TOKEN".',
        ),
    )
}
ADMINS_ONLY = {
    **UNAUTHENTICATED,
    403: refused(
        "Not an admin.",
        (
            "FORBIDDEN",
            "This needs the admin role: call with a key made by create_api_key --admin, or as a "
            "staff user.",
        ),
    ),
}


def request(value: Any, name: str = "Request") -> OpenApiExample:
    return OpenApiExample(name, value, request_only=True)


def response(value: Any, name: str = "Response") -> OpenApiExample:
    return OpenApiExample(name, value, response_only=True)
