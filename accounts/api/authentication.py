"""Who calls: an API key in Frappe's form."""

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Model
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.models import ApiKey, User

KEYWORD = "token"
REFUSED = "The API key is unknown, revoked, or its secret is wrong. Make one with create_api_key."


def _columns(model: type[Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


KEY_COLUMNS, USER_COLUMNS = _columns(ApiKey), _columns(User)
_SELECTED = [*(f'k."{name}"' for name in KEY_COLUMNS), *(f'u."{name}"' for name in USER_COLUMNS)]
# Each request begins with it, and the ORM takes longer to write it than PostgreSQL to answer it.
FIND = f"""
SELECT {", ".join(_SELECTED)}
FROM {ApiKey._meta.db_table} k JOIN {User._meta.db_table} u ON u.id = k.user_id WHERE k.key = %s
"""  # noqa: S608  our own names


def find_api_key(credentials: str) -> ApiKey | None:
    """The usable key that `KEY:SECRET` stands for."""
    key, _, secret = credentials.partition(":")
    with connection.cursor() as cursor:
        cursor.execute(FIND, [key])
        row = cursor.fetchone()
    if row is None:
        return None
    size = len(KEY_COLUMNS)
    found = ApiKey.from_db(DEFAULT_DB_ALIAS, KEY_COLUMNS, row[:size])
    found.user = User.from_db(DEFAULT_DB_ALIAS, USER_COLUMNS, row[size:])
    return found if found.user.is_active and found.accepts(secret) else None


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
