"""Reads secrets: typed without echo, or from a pipe; never from the command line."""

from __future__ import annotations

import sys

from aistratus.core.errors import UsageError

LONGEST = 4_096
"""Characters of a line; Cognito's passwords have at most 256, an address with a code a few hundred."""


def hidden_line(what: str) -> str:
    """One line, without its end.

    Args:
        what: what is asked for, as `Password of ann`.

    Raises:
        UsageError: nothing came.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        from getpass import getpass

        try:
            line = getpass(f"{what} (not shown): ")
        except EOFError:
            line = ""
    else:
        line = _piped(what)
    if not line:
        raise UsageError(f"{what} is needed, and none came", todo="type it, or pipe it in as one line")
    return line


def new_password(what: str) -> str:
    """The same for a new value: at a terminal, where typing errors aren't seen, it is typed twice."""
    while True:
        value = hidden_line(what)
        if not sys.stdin.isatty() or hidden_line("The same once more") == value:
            return value
        print("the two differ", file=sys.stderr)


def line(what: str) -> str:
    """The same, shown while it is typed."""
    if sys.stdin is not None and sys.stdin.isatty():
        print(f"{what}: ", end="", file=sys.stderr, flush=True)
    text = _piped(what).strip()
    if not text:
        raise UsageError(f"{what} is needed, and none came", todo="type it, or pipe it in as one line")
    return text


def _piped(what: str) -> str:
    try:
        text = "" if sys.stdin is None else sys.stdin.readline(LONGEST).rstrip("\r\n")
        text.encode()  # Python lets through what isn't text where the locale says nothing about it
        return text
    except UnicodeError:
        raise UsageError(f"{what} isn't UTF-8 text") from None  # its error quotes what was typed
