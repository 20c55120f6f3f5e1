"""Who calls: an API key in Frappe's form."""

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import ApiKey, User

KEYWORD = "token"
REFUSED = "The API key is unknown, revoked, or its secret is wrong. Make one with create_api_key."


def find_api_key(credentials: str) -> ApiKey | None:
    """The usable key that `KEY:SECRET` stands for."""
    key, _, secret = credentials.partition(":")
    found = ApiKey.objects.select_related("user").filter(key=key).first()
    return found if found and found.user.is_active and found.accepts(secret) else None


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: token KEY:SECRET`, as Frappe writes it."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        keyword, _, credentials = get_authorization_header(request).decode("latin1").partition(" ")
        if keyword.lower() != KEYWORD:
            return None
        api_key = find_api_key(credentials.strip())
        if api_key is None:
            raise AuthenticationFailed(REFUSED)
        api_key.note_use()
        return api_key.user, api_key

    def authenticate_header(self, request: Request) -> str:
        return KEYWORD


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`token KEY:SECRET`, made with `./manage.py create_api_key NAME`.",
        }
