"""A request, read from a Lambda event whose shape isn't trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aistratus.router import problems
from aistratus.router.clock import Deadline

_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9=_-]{1,64}")
_COUNT: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Request:
    """A Lambda event and its context."""

    event: Mapping[str, Any]
    context: Any
    deadline: Deadline
    about: dict[str, str] = field(default_factory=dict)
    """More fields for the log line: the job that this is about."""

    @property
    def route_key(self) -> str:
        """API Gateway's route key, such as `GET /jobs/{id}`; empty when the event has none."""
        key = self.event.get("routeKey")
        return key if isinstance(key, str) else ""

    @property
    def id(self) -> str:
        """The API's request id, or Lambda's for a direct invoke."""
        at_edge = self._mapping("requestContext").get("requestId")
        for candidate in (at_edge, self.invocation):
            if isinstance(candidate, str) and _REQUEST_ID.fullmatch(candidate):
                return candidate
        return "unknown"

    @property
    def invocation(self) -> str | None:
        """Lambda's own id, which its lines about duration and memory carry."""
        at_lambda = getattr(self.context, "aws_request_id", None)
        return at_lambda if isinstance(at_lambda, str) else None

    def header(self, name: str) -> str | None:
        """A header by its name in lower case."""
        for key, value in self._mapping("headers").items():
            if isinstance(key, str) and key.lower() == name and isinstance(value, str):
                return value
        return None

    def job_id(self) -> str:
        """The path's `{id}`.

        Raises:
            Problem: 404 when no job can have it.
        """
        value = self._mapping("pathParameters").get("id")
        if not isinstance(value, str) or not _JOB_ID.fullmatch(value):
            raise problems.not_found("You have no job with this id.")
        self.about["job"] = value
        return value

    def count(self, name: str) -> int | None:
        """A query parameter that is a number of things.

        Raises:
            Problem: 400.
        """
        value = self._mapping("queryStringParameters").get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _COUNT.fullmatch(value):
            raise problems.bad_field(name, "must be a whole number of up to 9 digits")
        return int(value)

    def flag(self, name: str) -> bool:
        """A query parameter that is 1 or 0, or not there.

        Raises:
            Problem: 400.
        """
        value = self._mapping("queryStringParameters").get(name, "0")
        if value not in ("0", "1"):
            raise problems.bad_field(name, "must be 0 or 1")
        return bool(value == "1")

    def idempotency_key(self) -> str | None:
        """The header's value.

        Raises:
            Problem: 400.
        """
        value = self.header("idempotency-key")
        if value is not None and not _JOB_ID.fullmatch(value):
            raise problems.bad_field("Idempotency-Key", "must be 1 to 64 letters, digits, - or _")
        return value

    def _mapping(self, name: str) -> Mapping[str, Any]:
        value = self.event.get(name)
        return value if isinstance(value, dict) else {}
