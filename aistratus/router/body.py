"""Parses and validates the body of a request.

No body may cause more than a 4xx: broken Base64, bytes that aren't UTF-8, JSON nested a hundred thousand levels deep,
numbers with a million digits, NaN, duplicate fields, a megabyte of text.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from aistratus import wire
from aistratus.router import validator
from aistratus.router.problems import Problem, invalid, too_large

_BASE64_CHARS: Final = 4 * -(-wire.BODY_BYTES // 3) + 4


class _NotJson(ValueError):
    """Python's JSON reader would let it through."""


def request_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The request in an event, with every default filled in.

    Raises:
        Problem: 400 naming each bad field, or 413.
    """
    data = parsed(event)
    refusals = validator.refusals(data)
    if refusals:
        raise invalid("The body has fields that are missing or wrong: see errors.", refusals)
    return dict(validator.with_defaults(data))


def parsed(event: Mapping[str, Any]) -> Any:
    """What the body says, whatever it is.

    Raises:
        Problem: 400 for what is no JSON, or 413.
    """
    return _parse(_text(event))


def _text(event: Mapping[str, Any]) -> str:
    body = event.get("body")
    if not isinstance(body, str) or not body:
        raise _bad_body("is required")
    if event.get("isBase64Encoded") is True:
        body = _decode(body)
    if len(body) > wire.BODY_BYTES or len(body.encode("utf-8", "surrogatepass")) > wire.BODY_BYTES:
        raise _too_large()
    return body


def _decode(body: str) -> str:
    if len(body) > _BASE64_CHARS:
        raise _too_large()
    try:
        return base64.b64decode(body, validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise _bad_body("must be UTF-8 text") from error


def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except _NotJson as error:
        raise _bad_body(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _bad_body("must be JSON") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. A name given twice means different things to different readers (RFC 8259, section 4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotJson("must not give a name twice")
    return found


def _no_constant(_: str) -> Any:
    raise _NotJson("must be JSON, which has no NaN and no Infinity")


def _bad_body(message: str) -> Problem:
    return invalid(f"The body {message}.", [{"field": "body", "message": message}])


def _too_large() -> Problem:
    return too_large(f"A body may have up to {wire.BODY_BYTES} bytes.")
