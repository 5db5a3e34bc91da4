"""`aistratus login`, `logout`, `whoami` and `token`: the signed-in user of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import UsageError

if TYPE_CHECKING:
    from aistratus.cli.operator import Door
    from aistratus.client.tokens import Tokens

WAYS = {
    "credentials": "by your AWS credentials",
    "browser": "in a browser",
    "password": "with a password",
}


def login(
    context: typer.Context,
    username: Annotated[
        str | None, typer.Option(help="Sign in at the terminal; asks for the password (default: in a browser)")
    ] = None,
    no_browser: Annotated[
        bool,
        typer.Option("--no-browser", help="Print the address to open, and ask for what the browser shows at the end"),
    ] = False,
    invitation: Annotated[
        str | None, typer.Option(help="The invitation that an operator sent you: says where the env is")
    ] = None,
) -> None:
    """Signs you in, in a browser or, with --username, at the terminal.

    Whoever has AWS credentials for the account doesn't need this: they are the operator already.
    """
    from aistratus.cli import show
    from aistratus.cli.door import door_at, knock, places

    options: Options = context.obj
    place = _invited(invitation, options) if invitation is not None else None
    door = door_at(place) if place else knock(options)
    tokens = _with_password(door, username) if username else _in_browser(door, by_hand=no_browser)
    earlier = door.signed_in.replace(tokens)
    if place:
        places().save(place)
    if earlier is not None and earlier.refresh != tokens.refresh:
        _end(door, earlier)
    me = _me(door, tokens)
    if options.json:
        show.emit({"env": door.env, **me})
        return
    show.results(options).print(f"signed in to {door.env} as {me['user']}", markup=False)


def whoami(context: typer.Context) -> None:
    """Shows who you are for the API: user, groups, and how long the token is valid."""
    from aistratus.cli import show
    from aistratus.cli.door import knock

    options: Options = context.obj
    door = knock(options)
    tokens = door.signed_in.tokens()
    me = _me(door, tokens)
    if options.json:
        show.emit({"env": door.env, **me})
        return
    console = show.results(options)
    console.print(f"{me['user']} in {door.env}, signed in {WAYS[tokens.way]}", markup=False)
    console.print(f"groups   {', '.join(me['groups']) or 'none'}", markup=False)
    console.print(f"e-mail   {me['email'] or 'none'}", markup=False)
    console.print(f"token    good until {me['expires_at']}, renewed by itself", markup=False)


def logout(
    context: typer.Context,
    forget: Annotated[bool, typer.Option("--forget", help="Also forget the invitation")] = False,
) -> None:
    """Ends your session: revokes it at Cognito and forgets it here."""
    from aistratus.cli import show
    from aistratus.cli.door import knock, places

    options: Options = context.obj
    door = knock(options)
    tokens = door.signed_in.kept()
    if forget:
        places().forget(door.env)
    door.signed_in.sign_out()
    if options.json:
        show.emit({"env": door.env, "signed_out": tokens is not None})
        return
    if tokens is None:
        show.results(options).print(f"nobody was signed in to {door.env}", markup=False)
        return
    show.results(options).print(f"signed out of {door.env}", markup=False)
    if door.signed_in.way_in is not None:
        show.people(options).print("your AWS credentials sign the operator in again with the next command")


def token(context: typer.Context) -> None:
    """Prints an API token for tests and scripts on this machine; only in the embedded cloud."""
    from aistratus.cli import show
    from aistratus.cli.door import knock

    options: Options = context.obj
    assert options.embedded is not None
    if why := options.embedded.keeps_tokens(options.load()):
        raise UsageError(
            f"no token is printed: {why}", todo="`aistratus chat` and other clients get theirs by themselves"
        )
    door = knock(options)
    tokens = door.signed_in.tokens()
    if options.json:
        show.emit({"env": door.env, "token": tokens.access, "expires_at": _moment(tokens)})
        return
    print(tokens.access)


def _invited(word: str, options: Options) -> Any:
    from aistratus.client.place import NotAnInvitation, invited

    try:
        place = invited(word)
    except NotAnInvitation as error:
        raise UsageError(str(error), todo="have an operator send it again: `aistratus user invitation`") from None
    env = options.load().env if options.env else place.env
    if env != place.env:
        raise UsageError(f"this invitation is for env {place.env!r}", todo=f"leave out `--env {env}`")
    return place


# --- ways in --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Typed:
    """A `password.Asks` at a terminal, or behind a pipe with one line for each answer."""

    username: str

    def password(self) -> str:
        from aistratus.cli.hidden import hidden_line

        return hidden_line(f"Password of {self.username}")

    def new_password(self) -> str:
        from aistratus.cli.hidden import new_password

        return new_password("A new password")

    def code(self, source: str) -> str:
        from aistratus.cli.hidden import line

        return line(f"Code from {source}")

    def remark(self, text: str) -> None:
        print(text, file=sys.stderr)


def _with_password(door: Door, username: str) -> Tokens:
    from aistratus.client.password import PasswordSignIn

    return PasswordSignIn(door.cognito, door.pool, door.signed_in.client_id, username, Typed(username)).sign_in()


def _in_browser(door: Door, *, by_hand: bool) -> Tokens:
    import httpx

    from aistratus.client.hosted import TIMEOUT_S, HostedSignIn, discover
    from aistratus.client.loopback import Loopback

    with httpx.Client(timeout=TIMEOUT_S) as http:
        pages = discover(http, door.place.cognito, door.pool)
        if by_hand or not _has_browser():
            return HostedSignIn(http, pages, door.signed_in.client_id, Pasted()).sign_in()
        with Loopback(_open) as loopback:
            return HostedSignIn(http, pages, door.signed_in.client_id, loopback).sign_in()


def _has_browser() -> bool:
    """A terminal on another machine has none, and one that runs in the terminal would take it over."""
    if sys.platform in ("win32", "darwin") or os.environ.get("BROWSER"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(address: str) -> None:
    import webbrowser

    print(f"your browser opens the sign-in page; if it doesn't, open this:\n{address}", file=sys.stderr, flush=True)
    webbrowser.open(address)


class Pasted:
    """A `hosted.Visit` by a browser elsewhere: what it shows in the end is pasted here."""

    by_hand = True

    @property
    def redirect_uri(self) -> str:
        from aistratus.callbacks import CALLBACKS

        return CALLBACKS[0]

    def __call__(self, address: str) -> Mapping[str, str]:
        from aistratus.cli.hidden import line
        from aistratus.client.hosted import returned

        print(
            f"open this in a browser:\n{address}\n"
            "after the sign-in it goes to an address on localhost that it can't show: copy that address",
            file=sys.stderr,
            flush=True,
        )
        return returned(line("The address, or the code in it"))


def _end(door: Door, earlier: Tokens) -> None:
    """Revokes a session that another one has replaced; if that fails it expires by itself."""
    from aistratus.client.errors import SignInError
    from aistratus.client.signin import asked

    try:
        asked(lambda: door.cognito.revoke_token(ClientId=door.signed_in.client_id, Token=earlier.refresh), "revoked")
    except SignInError as error:
        print(f"the session before this one goes on until it expires: {error}", file=sys.stderr)


def _me(door: Door, tokens: Tokens) -> dict[str, Any]:
    from aistratus.client.signin import claims

    access, identity = claims(tokens.access), claims(tokens.id)
    return {
        "user": access.get("username", ""),
        "email": identity.get("email"),
        "groups": sorted(access.get("cognito:groups", [])),
        "expires_at": _moment(tokens),
        "way": tokens.way,
        "api_url": door.url,
    }


def _moment(tokens: Tokens) -> str:
    return datetime.fromtimestamp(tokens.expires_at, UTC).isoformat(timespec="seconds")
