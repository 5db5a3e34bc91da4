"""The API's errors: `application/problem+json` (RFC 9457) with a stable `type`.

Each expected error is raised as a `Problem`, of which the handler makes the answer. Its text is a sentence for a
person and never repeats what the caller sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aistratus import wire

TITLES: Final[Mapping[int, str]] = {
    400: "The request is not valid",
    401: "A valid access token is needed",
    403: "This is for operators",
    404: "There is no such thing",
    409: "The key was used for another request",
    413: "The request is too large",
    429: "Too many requests",
    500: "The router failed",
    503: "Not available right now",
}

UNEXPECTED: Final = "about:blank"
"""RFC 9457's type for a problem that says no more than its status: a defect of ours."""


class Unsupported(RuntimeError):
    """Code was reached that this function leaves out."""


@dataclass(eq=False)  # not frozen: Python itself sets attributes of an exception on its way up
class Problem(Exception):
    """An answer that isn't a success.

    `errors` names bad fields (`{"field", "message"}`); `retry_after` is in seconds and becomes a header.
    """

    status: int
    type: str
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    retry_after: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, request_id: str) -> dict[str, Any]:
        """The Lambda's result for it, in payload format 2.0."""
        body: dict[str, Any] = {
            "type": self.type,
            "title": TITLES[self.status],
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = list(self.errors)
        headers = {"content-type": "application/problem+json", "cache-control": "no-store", **self.headers}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        return {"statusCode": self.status, "headers": headers, "body": json.dumps(body)}


def invalid(detail: str, errors: Sequence[Mapping[str, str]] = ()) -> Problem:
    return Problem(400, wire.INVALID_REQUEST, detail, errors)


def bad_field(field_name: str, message: str) -> Problem:
    return invalid(f"{field_name} {message}.", [{"field": field_name, "message": message}])


def unauthorized(detail: str) -> Problem:
    return Problem(401, wire.UNAUTHORIZED, detail, headers={"www-authenticate": "Bearer"})


def forbidden(detail: str) -> Problem:
    return Problem(403, wire.FORBIDDEN, detail)


def not_found(detail: str) -> Problem:
    return Problem(404, wire.NOT_FOUND, detail)


def conflict(detail: str) -> Problem:
    return Problem(409, wire.CONFLICT, detail)


def too_large(detail: str) -> Problem:
    return Problem(413, wire.TOO_LARGE, detail)


def rate_limited(detail: str, retry_after: int) -> Problem:
    return Problem(429, wire.RATE_LIMITED, detail, retry_after=retry_after)


def node_unavailable(detail: str, retry_after: int) -> Problem:
    return Problem(503, wire.NODE_UNAVAILABLE, detail, retry_after=retry_after)


def service_unavailable(detail: str, retry_after: int = 2) -> Problem:
    return Problem(503, wire.SERVICE_UNAVAILABLE, detail, retry_after=retry_after)


def unexpected() -> Problem:
    return Problem(500, UNEXPECTED, "Something went wrong in the router; its log has the details under request_id.")
