"""One exchange with the API: retried while that can help, with typed errors when it can't.

Every operation of the API is safe to retry: a prompt carries an idempotency key, so that a lost answer never creates a
second job. So connection errors, throttling and transient failures are retried within the caller's time limit, with
exponential backoff, and `Retry-After` is obeyed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import httpx

from aistratus.client.clock import Clock
from aistratus.client.errors import ApiError, ApiUnreachable, ClientError

PATIENCE_S: Final = 60.0
"""Time limit (seconds) of all tries of a request together."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
"""First backoff without `Retry-After` (seconds); it doubles, with jitter so that clients spread out."""
LONGEST_RETRY_AFTER_S: Final = 30.0
"""A longer `Retry-After` (seconds) isn't waited for: the error is raised instead."""

TIMEOUT: Final = httpx.Timeout(35.0, connect=10.0)
"""Read time-out: an HTTP API ends every request after 30 s, so a longer wait is pointless."""

PASSING: Final = frozenset({429, 500, 502, 503, 504})
"""Transient statuses; 500 is API Gateway's for a function that couldn't be run."""

BLANK: Final = "about:blank"


@runtime_checkable
class Renewing(Protocol):
    """A source of tokens that can replace a refused one: `signin.Session`."""

    def instead_of(self, refused: str) -> str: ...


@dataclass(frozen=True)
class Transport:
    """HTTP to one API, with a bearer token where the operation needs one.

    Args:
        token: gives an access token that is valid now; asked before every request. If it is `Renewing`, a token that
            the API refuses is replaced once, so that one that expires in the middle of a conversation isn't noticed.
        patience: time limit (seconds) of all tries of a request together.
        longest_wait: seconds; a server that wants more gets its answer shown instead.
        on_wait: told before each pause what went wrong and how long the pause is, for whoever shows a countdown, and
            told `None` when there is an answer after all. What it raises ends the request.
    """

    http: httpx.Client
    token: Callable[[], str]
    clock: Clock
    patience: float = PATIENCE_S
    longest_wait: float = LONGEST_RETRY_AFTER_S
    on_wait: Callable[[ClientError | None, float], None] | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        signed_in: bool = True,
    ) -> dict[str, Any]:
        """One operation and its JSON answer.

        Raises:
            ApiError: the API refused for good, or until the time limit.
            ApiUnreachable: no answer came.
        """
        call = _Call(method, path, body, query, headers or {}, signed_in)
        gives_up = self.clock.monotonic() + self.patience
        pause = FIRST_PAUSE_S
        while True:
            try:
                answer = self._once(call)
                if pause > FIRST_PAUSE_S and self.on_wait is not None:
                    self.on_wait(None, 0.0)
                return answer
            except _Transient as transient:
                wait = pause * random.uniform(0.5, 1) if transient.wait is None else transient.wait  # noqa: S311 (spreads clients, hides nothing)
                if wait > self.longest_wait or self.clock.monotonic() + wait > gives_up:
                    raise transient.failure from transient
                if self.on_wait is not None:
                    self.on_wait(transient.failure, wait)
            self.clock.wait(wait)
            pause = min(LONGEST_PAUSE_S, pause * 2)

    def _once(self, call: _Call) -> dict[str, Any]:
        token = self.token() if call.signed_in else None
        response = self._send(call, token)
        if response.status_code == 401 and token is not None:
            # It may have expired on the way, and been renewed meanwhile; or this machine's clock is wrong.
            renewed = self.token.instead_of(token) if isinstance(self.token, Renewing) else self.token()
            if renewed != token:
                response = self._send(call, renewed)
        if response.is_success:
            return _content(response)
        if response.status_code in PASSING:
            raise _Transient(_refusal(response), _retry_after(response))
        raise _refusal(response)

    def _send(self, call: _Call, token: str | None) -> httpx.Response:
        headers = {**call.headers, **({"authorization": f"Bearer {token}"} if token else {})}
        try:
            return self.http.request(call.method, call.path, json=call.body, params=call.query, headers=headers)
        except httpx.TransportError as error:
            what = f"{self.http.base_url} can't be reached: {str(error) or type(error).__name__}"
            raise _Transient(ApiUnreachable(what), None) from error


@dataclass(frozen=True)
class _Call:
    """The request, built anew for each try."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    query: Mapping[str, Any] | None
    headers: Mapping[str, str]
    signed_in: bool


class _Transient(Exception):
    """A transient failure; `wait` is the server's `Retry-After` in seconds, if it sent one."""

    def __init__(self, failure: ApiError | ApiUnreachable, wait: float | None) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.wait = wait


def _content(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; anything else didn't come from our router."""
    try:
        content = response.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ApiError(BLANK, response.status_code, f"{response.request.url} answered something that isn't this API's")
    return content


def _refusal(response: httpx.Response) -> ApiError:
    """From problem+json, or from the edge's `{"message": …}`."""
    try:
        content = response.json()
    except ValueError:
        content = {}
    if not isinstance(content, dict):
        content = {}
    detail = content.get("detail") or content.get("message") or f"HTTP {response.status_code}"
    return ApiError(
        type=str(content.get("type", BLANK)),
        status=response.status_code,
        detail=str(detail),
        request_id=str(content.get("request_id") or response.headers.get("apigw-requestid", "")),
        errors=_bad_fields(content.get("errors")),
    )


def _bad_fields(errors: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(errors, list):
        return ()
    return tuple((str(e.get("field", "")), str(e.get("message", ""))) for e in errors if isinstance(e, dict))


def _retry_after(response: httpx.Response) -> float | None:
    """`Retry-After` in seconds; its other form, a date, isn't used by this API."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None
