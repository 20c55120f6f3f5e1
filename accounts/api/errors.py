"""The shape of every refusal: `success`, `error` (a sentence), `code`, `fields` where they help."""

from contextlib import suppress
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.views.decorators.csrf import csrf_exempt
from django.views.defaults import server_error as html_server_error
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

CODES: dict[type[Exception], str] = {
    exceptions.NotAuthenticated: "NOT_AUTHENTICATED",
    exceptions.AuthenticationFailed: "AUTHENTICATION_FAILED",
    exceptions.PermissionDenied: "FORBIDDEN",
    PermissionDenied: "FORBIDDEN",
    exceptions.NotFound: "NOT_FOUND",
    Http404: "NOT_FOUND",
    exceptions.MethodNotAllowed: "METHOD_NOT_ALLOWED",
    exceptions.ParseError: "INVALID_JSON",
    exceptions.UnsupportedMediaType: "UNSUPPORTED_MEDIA_TYPE",
    exceptions.NotAcceptable: "NOT_ACCEPTABLE",
    exceptions.Throttled: "TOO_MANY_REQUESTS",
}


class Refusal(exceptions.APIException):
    """A 4xx with a stable code and a sentence that says what to do."""

    def __init__(
        self, code: str, sentence: str, status_code: int = status.HTTP_400_BAD_REQUEST
    ) -> None:
        super().__init__(detail=sentence, code=code)
        self.status_code = status_code


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    if isinstance(error, RequestDataTooBig):
        error = Refusal(
            "BODY_TOO_LARGE",
            "The body is too large; send each request alone, with no more than its own data.",
            status.HTTP_413_REQUEST_ENTITY_TOO_LARGE,
        )
    response = drf_exception_handler(error, context)
    if response is None:
        return None  # unexpected: Django logs it, and `server_error` answers
    if isinstance(error, exceptions.ValidationError):
        problems = _by_path(error.detail)
        path, sentence, code = problems[0]
        # A sentence that names its field stands alone, as the documents' "Invalid vendor_id" does.
        response.data = refusal(
            sentence if path in sentence else f"{path}: {sentence}", _api_code(code)
        )
        if fields := {path: sentence for path, sentence, _ in problems if path}:
            response.data["fields"] = fields
    elif isinstance(error, Refusal):
        response.data = refusal(str(error.detail), str(error.get_codes()))
    else:
        code = next((code for kind, code in CODES.items() if isinstance(error, kind)), "REFUSED")
        response.data = refusal(_what_to_do(error, context), code)
    return response


def refusal(sentence: str, code: str) -> dict[str, Any]:
    return {"success": False, "error": sentence, "code": code}


def _what_to_do(error: Exception, context: dict[str, Any]) -> str:
    """DRF says what was wrong; this says what to do about it."""
    match error:
        case exceptions.NotAuthenticated():
            return (
                'Say who calls: send the header "Authorization: token KEY:SECRET", or a token of '
                '/api/token as "Authorization: Bearer TOKEN".'
            )
        case exceptions.AuthenticationFailed(detail={"code": "no_active_account"}):
            return "No active user has this username and password; check both."
        case exceptions.AuthenticationFailed(detail=dict() as detail):  # simplejwt's
            return f"{detail['detail']}. Get a new token from /api/token."
        case exceptions.NotFound() | Http404():
            return f"There is nothing at {context['request'].path}; check the id."
        case exceptions.MethodNotAllowed():
            allowed = ", ".join(context["view"].allowed_methods)
            return f"{context['request'].method} is not possible here; use one of {allowed}."
        case exceptions.ParseError(detail=detail):
            return f"{detail}. Send one JSON object."
        case exceptions.UnsupportedMediaType():
            return "Send the body as JSON, with the header Content-Type: application/json."
        case exceptions.NotAcceptable():
            return "Every answer is JSON; send the header Accept: application/json."
    return str(getattr(error, "detail", "You may not do this."))


@csrf_exempt
def unknown_path(request: HttpRequest) -> HttpResponseBase:
    """What is under /api/ and is no route: forgives a slash at the end, which the documents' paths
    do not have, else answers in JSON, for the program that called it."""
    with suppress(Resolver404):
        view, args, kwargs = resolve(request.path_info.rstrip("/"))
        if view is not unknown_path:
            if iscoroutinefunction(view):
                view = async_to_sync(view)
            response: HttpResponseBase = view(request, *args, **kwargs)
            return response
    sentence = f"{request.path} is no address of this API; /api/docs/ lists all of them."
    return JsonResponse(refusal(sentence, "NOT_FOUND"), status=status.HTTP_404_NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    if not request.path.startswith("/api/"):
        return html_server_error(request)
    sentence = "Something went wrong here, not with your request; it was logged. Try again later."
    return JsonResponse(
        refusal(sentence, "INTERNAL_ERROR"), status=status.HTTP_500_INTERNAL_SERVER_ERROR
    )


def _by_path(detail: Any, path: str = "") -> list[tuple[str, str, str]]:
    """Every (path, sentence, code) of a ValidationError's nested detail, in order."""
    if isinstance(detail, dict):
        return [
            entry
            for name, inner in detail.items()
            for entry in _by_path(
                inner, path if name == "non_field_errors" else f"{path}.{name}".lstrip(".")
            )
        ]
    if isinstance(detail, list):
        return [entry for inner in detail for entry in _by_path(inner, path)]
    return [(path, str(detail), getattr(detail, "code", "invalid"))]


def _api_code(code: str) -> str:
    """DRF's own codes (`required`, `invalid`) are one thing to a caller; ours are upper case."""
    return code if code.isupper() else "INVALID_REQUEST"
