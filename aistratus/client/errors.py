"""Errors between a client and the API; the text of each is one sentence for the user."""

from __future__ import annotations

from dataclasses import dataclass


class ClientError(Exception):
    """Base of all errors here; `str()` of it is a sentence for the user."""


class ApiUnreachable(ClientError):
    """No answer came in all tries."""


class NodeAbsent(ClientError):
    """The job waits for a node that doesn't start."""


class SignInError(ClientError):
    """There is no usable token; the text says what to do."""


@dataclass(eq=False)  # not frozen: Python itself sets attributes of an exception on its way up
class ApiError(ClientError):
    """The API refused.

    Attributes:
        type: a problem type of `wire`, or `about:blank` when the edge answered and not the router.
        status: of HTTP.
        detail: a sentence.
        request_id: finds the request in the logs; empty when the answer named none.
        errors: bad fields and what is wrong with them, for 400.
    """

    type: str
    status: int
    detail: str
    request_id: str = ""
    errors: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        fields = "; ".join(f"{name} {message}" for name, message in self.errors)
        return f"{self.detail} ({fields})" if fields else self.detail
