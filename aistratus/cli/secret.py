"""`aistratus secret`: sets the values of secrets, which `up` creates empty.

A value is typed without echo, or comes through a pipe. It is never taken from the command line, which every process of
the machine can read, and never shown again: not by `status`, not in an error, not in a trace.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from aistratus.cli.options import Group, Options
from aistratus.core.errors import Absent, Failure, UsageError

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.core.resource import Found

app = typer.Typer(cls=Group, no_args_is_help=True, help="Secret values: set them, and see whether they are set.")

NAMES = {"openai": "openai_api_key"}
"""What people call a secret, and its key in the stack."""

LONGEST = 65_536
"""Bytes of a value. Source: Secrets Manager's quotas."""

NO_TEXT = "the value isn't UTF-8 text, and nothing was changed"

WHATEVER = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Typer would quote what it doesn't know in its error, and that may be the value."""

Name = Annotated[str, typer.Argument(help="Which secret: openai", show_default=False)]


@app.command("set", context_settings=WHATEVER)
def set_secret(context: typer.Context, name: Name) -> None:
    """Sets a secret: asks for its value without showing it, or reads it from a pipe.

    A line break at the end is dropped.
    """
    from aistratus.cli import show
    from aistratus.cli.session import open_session
    from aistratus.resources.secrets import put_value

    options: Options = context.obj
    key = _key(name, context.args)
    session = open_session(options)
    found = _found(session, key)
    put_value(session.cloud, found, _value(name))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if options.json:
        show.emit(_document(session, name, found, now))
    show.results(options).print(f"{name} is set ({found.id})", markup=False)


@app.command("status", context_settings=WHATEVER)
def status(context: typer.Context, name: Name = "openai") -> None:
    """Says whether a secret is set and since when; never its value."""
    from aistratus.cli import show
    from aistratus.cli.session import open_session
    from aistratus.resources.secrets import value_set_at

    options: Options = context.obj
    key = _key(name, context.args)
    session = open_session(options)
    found = _found(session, key)
    moment = value_set_at(session.cloud, found)
    since = moment.astimezone(UTC).isoformat(timespec="seconds") if moment else None
    if options.json:
        show.emit(_document(session, name, found, since))
    told = f"set since {since}" if since else f"unset; `aistratus secret set {name}` sets it"
    show.results(options).print(f"{name} is {told} ({found.id})", markup=False)


def _key(name: str, more: list[str]) -> str:
    """The secret's key in the stack; further arguments are refused, without repeating them."""
    if name not in NAMES:
        raise UsageError("there is no secret of this name", todo=f"there is: {', '.join(NAMES)}")
    if more:
        raise UsageError(
            "a secret's value isn't taken from the command line, where every process can read it",
            todo=f"`aistratus secret set {name}` asks for it or reads it from a pipe; change what you have just shown",
        )
    return NAMES[name]


def _found(session: Session, key: str) -> Found:
    from aistratus.resources.secrets import Secret, find_secret

    wanted = session.stack.by_key[key]
    assert isinstance(wanted, Secret)
    found = find_secret(session.cloud, wanted)
    if found is None:
        raise Absent(f"env {session.settings.env!r} has no place for this secret", todo="`aistratus up` makes it")
    if getattr(found.state, "scheduled_for_deletion", False):
        raise Failure(f"the secret {found.id} is scheduled for deletion", todo="`aistratus up` restores it")
    return found


def _value(name: str) -> str:
    """What was typed or piped, without the line break that ends it.

    Raises:
        UsageError: it is empty, too long, or no text.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        from getpass import getpass

        try:
            value = getpass(f"Value of {name} (not shown): ")
        except EOFError:
            value = ""
    else:
        value = _piped()
    if not value.strip():
        raise UsageError("the value is empty, and nothing was changed", todo="type it, or pipe it in")
    try:
        length = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise UsageError(NO_TEXT) from None  # its error quotes the value
    if length > LONGEST:
        raise UsageError(f"the value is longer than {LONGEST} bytes, and nothing was changed")
    return value


def _piped() -> str:
    content = b"" if sys.stdin is None else sys.stdin.buffer.read(LONGEST + 3)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(NO_TEXT) from None  # as above
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")


def _document(session: Session, name: str, found: Found, since: str | None) -> dict[str, object]:
    state = "set" if since else "unset"
    return {"env": session.settings.env, "name": name, "secret": found.id, "state": state, "set_at": since}
