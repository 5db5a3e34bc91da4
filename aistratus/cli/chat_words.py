"""The error messages of `chat`: what failed, why, what to do next, and how to find it in the logs."""

from __future__ import annotations

from http import HTTPStatus

from aistratus import wire
from aistratus.client.errors import ApiError, ApiUnreachable, ClientError, SignInError
from aistratus.core.errors import Failure, LoginExpired, UsageError

LIFT = "`aistratus cost resume` lifts it for this month"
SMALLER = "`aistratus node resize cpu` (in a conversation /resize cpu) takes the CPU type, which answers slower"


def failure_of(error: ClientError) -> Failure:
    """A failure to talk to the API, for a person at the command line."""
    if isinstance(error, SignInError):
        return LoginExpired(_sentence(error))
    if not isinstance(error, ApiError):
        return Failure(_sentence(error))
    return Failure(_sentence(error) + found_by(error.request_id), todo=_todo(error))


def job_failed(reason: str, request_id: str) -> Failure:
    """A job that has ended without a reply."""
    return Failure(reason.rstrip(".") + found_by(request_id), todo=_capacity(reason))


def passing(error: ClientError) -> str:
    """A transient error, in a few words."""
    if isinstance(error, ApiUnreachable):
        return "no connection"
    if isinstance(error, ApiError) and error.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "too many questions at once"
    return _sentence(error)


def found_by(request_id: str) -> str:
    """The id under which API, router and worker have logged it."""
    return f" (request {request_id})" if request_id else ""


def cannot_ask(error: ValueError) -> UsageError:
    """A question that the API wouldn't take, from Pydantic's `ValidationError`."""
    problems = error.errors()  # type: ignore[attr-defined] # so that Pydantic is imported only where it is used
    told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in problems)
    return UsageError(f"this can't be asked: {told}")


def _todo(error: ApiError) -> str:
    if error.type == wire.NODE_UNAVAILABLE and "budget" in error.detail:
        return LIFT
    if error.type == wire.NODE_UNAVAILABLE:
        return _capacity(error.detail)
    if error.type == wire.FORBIDDEN:
        return "an operator may do this; `aistratus whoami` shows your groups"
    return ""


def _capacity(text: str) -> str:
    return SMALLER if "capacity" in text.lower() else ""


def _sentence(error: ClientError) -> str:
    return str(error).rstrip(".")
