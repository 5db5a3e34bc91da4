"""`aistratus user`: manages the env's users. For operators with AWS credentials."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from aistratus.cli.options import Group, Options
from aistratus.core.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.users import Member

app = typer.Typer(cls=Group, no_args_is_help=True, help="Who may use the env: invite, list, promote, remove.")

Name = Annotated[str, typer.Argument(help="The name to sign in with", show_default=False)]


@app.command("list")
def list_users(context: typer.Context) -> None:
    """Shows who may sign in, and who of them is an operator."""
    from aistratus import users
    from aistratus.cli import show

    options: Options = context.obj
    session, pool = _opened(options)
    there = users.members(session.cloud, pool)
    if options.json:
        show.emit({"env": session.settings.env, "users": [asdict(one) for one in there]})
        return
    console = show.results(options)
    width = max([12, *(len(one.name) for one in there)])
    for one in there:
        told = f"{one.name:<{width}}  {'operator' if one.operator else 'user':<8}  {one.state:<10}  {one.email}"
        console.print(told.rstrip(), markup=False)


@app.command()
def add(
    context: typer.Context,
    name: Name,
    email: Annotated[
        str | None, typer.Option(help="Address for the invitation (default: the name, if it is an address)")
    ] = None,
    no_mail: Annotated[
        bool, typer.Option("--no-mail", help="Send no mail; a first password is asked for, or read from a pipe")
    ] = False,
    operator: Annotated[bool, typer.Option("--operator", help="Also allow stopping and resizing the node")] = False,
    again: Annotated[bool, typer.Option("--again", help="Send an existing user another first password")] = False,
) -> None:
    """Adds a user, who is mailed a first password and replaces it when they first sign in."""
    from aistratus import users
    from aistratus.cli import show
    from aistratus.cli.hidden import new_password
    from aistratus.cli.operator import open_door

    options: Options = context.obj
    address = email or (name if "@" in name else None)
    if address is None and not (no_mail or again):
        raise UsageError(
            "the invitation needs an address", todo="give --email, or --no-mail and tell them a first password yourself"
        )
    session, pool = _opened(options)
    password = new_password(f"First password of {name}") if no_mail else None
    if not again:
        users.invite(session.cloud, pool, name, address, password)
    elif password is None:
        users.invite_again(session.cloud, pool, name)
    else:
        users.give_first_password(session.cloud, pool, name, password)
    if operator:
        users.promote(session.cloud, pool, name)
    member = users.find(users.members(session.cloud, pool), name)
    invitation = open_door(session).place.invitation
    unsent = options.embedded.mailbox(session.settings) if options.embedded and not no_mail else None
    if options.json:
        content = {"user": asdict(member), "mailed": not no_mail and not unsent, "invitation": invitation}
        show.emit({"env": session.settings.env, **content})
        return
    how = "has the first password that you have just given" if no_mail else f"gets a mail at {member.email}"
    how = f"has a first password, in a mail to {member.email} that isn't sent but lies in {unsent}" if unsent else how
    console = show.results(options)
    console.print(f"{member.name} {how}; it is good for seven days", markup=False)
    console.print("what they type, with or without an AWS account; it holds no secret:", markup=False)
    console.print(f"    aistratus login --invitation {invitation}", markup=False)


@app.command()
def invitation(context: typer.Context) -> None:
    """Prints the command with which users without an AWS account sign in; it holds no secret."""
    from aistratus.cli import show
    from aistratus.cli.operator import open_door
    from aistratus.cli.session import open_session

    options: Options = context.obj
    session = open_session(options)
    word = open_door(session).place.invitation
    if options.json:
        show.emit({"env": session.settings.env, "invitation": word})
        return
    show.results(options).print(f"aistratus login --invitation {word}", markup=False)


@app.command()
def promote(context: typer.Context, name: Name) -> None:
    """Makes a user an operator, who may stop and resize the node."""
    from aistratus import users
    from aistratus.cli import show

    options: Options = context.obj
    session, pool = _opened(options)
    member = users.find(users.members(session.cloud, pool), name)
    if not member.operator:
        users.promote(session.cloud, pool, member.name)
    if options.json:
        show.emit({"env": session.settings.env, "user": {**asdict(member), "operator": True}})
        return
    minutes = session.settings.auth.access_token_minutes
    told = "was an operator already" if member.operator else f"is an operator, within {minutes} minutes everywhere"
    show.results(options).print(f"{member.name} {told}", markup=False)


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Removes a user; yourself or the last operator only with --yes."""
    from aistratus import users
    from aistratus.cli import show

    options: Options = context.obj
    session, pool = _opened(options)
    there = users.members(session.cloud, pool)
    member = users.find(there, name)
    why = _why_not(session, member, there)
    if why and not options.yes:
        raise UsageError(f"{member.name} isn't removed: {why}", todo="--yes removes them all the same")
    if not why and not show.confirm(f"Remove {member.name} from env {session.settings.env!r}?", options):
        raise Interrupted("nothing was removed")
    users.remove(session.cloud, pool, member.name)
    if options.json:
        show.emit({"env": session.settings.env, "removed": member.name})
        return
    minutes = session.settings.auth.access_token_minutes
    show.results(options).print(
        f"{member.name} is removed; a token that they have is good for {minutes} more minutes at most", markup=False
    )


def _opened(options: Options) -> tuple[Session, str]:
    from aistratus.cli.operator import ids_of
    from aistratus.cli.session import open_session

    session = open_session(options)
    return session, ids_of(session, ("user_pool",))["user_pool"]["id"]


def _why_not(session: Session, member: Member, there: list[Member]) -> str:
    """What speaks against removing this one; empty if nothing does."""
    from aistratus.cli.operator import open_door

    if member.name == open_door(session).username:
        return "this is who you are"
    if member.operator and sum(one.operator for one in there) == 1:
        return "this is the last operator"
    return ""
