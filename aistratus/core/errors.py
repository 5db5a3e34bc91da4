"""The errors that users see, distinguished by type, each one sentence.

Each is a `Failure`: what failed, on which resource, why, and what to do next. The command line prints the sentence and
exits with `exit_code`; the traceback shows only with `--verbose`. Code that must react differently to different
failures catches a subclass and never compares texts.
"""

from __future__ import annotations

from typing import ClassVar


class Failure(Exception):
    """Something failed in a way that the user can act on.

    Args:
        what: what failed and why, a sentence without a full stop.
        todo: what to do next, a sentence without a full stop; empty where there is nothing to say.
        reported: the command's own report (its JSON document) tells this already.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "failed"

    def __init__(self, what: str, *, todo: str = "", reported: bool = False) -> None:
        self.what = what
        self.todo = todo
        self.reported = reported
        super().__init__(f"{what}; {todo}" if todo else what)


class UsageError(Failure):
    """Bad input: an option, a setting, a file."""

    exit_code = 2
    kind = "usage"


class Denied(Failure):
    """The caller lacks a permission."""

    kind = "denied"


class LoginExpired(Failure):
    """There are no credentials, or they have expired."""

    kind = "login"


class Stranger(Failure):
    """Something carries our name but not our tags: never adopted, never deleted."""

    kind = "stranger"


class Occupied(Failure):
    """What somebody else has put into a resource keeps it from being deleted; waiting doesn't help."""

    kind = "occupied"


class NeedsReplacement(Failure):
    """A field has drifted that can only change by replacing the resource."""

    kind = "replace"


class Unsettled(Failure):
    """A named wait timed out."""

    kind = "unsettled"


class Locked(Failure):
    """Another `up` or `down` holds the env's lock."""

    kind = "locked"


class Absent(Failure):
    """What was asked for doesn't exist."""

    exit_code = 6
    kind = "absent"


class Interrupted(Failure):
    """Ctrl-C: running work has ended, the rest wasn't started."""

    exit_code = 130
    kind = "interrupted"


def error_code(error: BaseException) -> str:
    """The service's error code in `error`, or an empty string.

    Reads the shape that AWS's SDK gives its exceptions (`response["Error"]["Code"]`), so that the core needs no import
    of it.
    """
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return ""


def error_message(error: BaseException) -> str:
    """The service's message in `error`, or the exception's text."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Message", "") or error)
    return str(error)
