"""What the body of a request may be: one JSON object, of values that every part of us can keep."""

import sys
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import JSONParser

DEEPEST = 32  # beyond any request of ours, far below what Python and PostgreSQL bear


class JSONObjectParser(JSONParser):
    """Refuses what DRF's parser lets through and what then fails later, as a 500: values nested
    beyond Python's stack, and the texts and numbers that PostgreSQL's jsonb cannot hold."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        try:
            body = super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The body is nested too deeply") from error
        if not isinstance(body, dict):
            raise ValidationError('The body must be a JSON object: {"name": value}.')
        _refuse_unstorable(body)
        return body


def _refuse_unstorable(body: dict[str, Any]) -> None:
    todo: list[tuple[str, Any, int]] = [("", body, 1)]
    while todo:
        path, value, depth = todo.pop()
        if depth > DEEPEST:
            raise ParseError("The body is nested too deeply")
        match value:
            case dict():
                todo += ((path, key, depth) for key in value)
                todo += (
                    (f"{path}.{key}".lstrip("."), inner, depth + 1) for key, inner in value.items()
                )
            case list():
                todo += ((path, inner, depth + 1) for inner in value)
            case str() if not _is_storable(value):
                sentence = "No text may hold a NUL, or half of a surrogate pair; leave it out."
                raise ValidationError({_printable(path): sentence})
            case int() | float() if not abs(value) <= sys.float_info.max:
                raise ValidationError({_printable(path): "This number is too large."})


def _is_storable(text: str) -> bool:
    return "\0" not in text and (text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text))


def _printable(path: str) -> str:
    """The path is the caller's own text, and may be what is wrong."""
    return path.encode(errors="replace").decode().replace("\0", "?")[:200]
