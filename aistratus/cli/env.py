"""`aistratus env`: lists envs, and exports their ids for other programs."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from aistratus.cli.options import Group, Options
from aistratus.cli.promote import promote
from aistratus.core.errors import Absent, UsageError
from aistratus.wire import variable

app = typer.Typer(cls=Group, no_args_is_help=True, help="Envs of this account and region, their ids and settings.")
app.command("promote")(promote)


@app.command("list")
def list_envs(context: typer.Context) -> None:
    """Lists the envs that have a ledger in this account and region."""
    from aistratus.cli import show
    from aistratus.cli.session import open_session

    options: Options = context.obj
    try:
        session = open_session(options)
    except Absent:
        names: list[str] = []
    else:
        paths = session.ledger.store.below("/tinyllama")
        names = sorted({path.split("/")[2] for path in paths if path.count("/") >= 3})
    if options.json:
        show.emit({"envs": names})
        return
    for name in names:
        print(name)
    if not names:
        show.people(options).print("there is none here; `aistratus up` builds one", markup=False)


@app.command("show")
def show_env(context: typer.Context) -> None:
    """Shows the env's ids from the ledger."""
    from aistratus.cli import show

    options: Options = context.obj
    env, ids = _ids(options)
    if options.json:
        show.emit({"env": env, "ids": ids})
        return
    for key, entries in ids.items():
        for name, value in entries.items():
            print(f"{key}.{name} = {value}")


@app.command("export")
def export(
    context: typer.Context,
    format: Annotated[
        Literal["dotenv", "github", "json"] | None,
        typer.Option(help="Form of the output (default: dotenv, or json with -o json)"),
    ] = None,
) -> None:
    """Prints the env's ids as variables: `TINYLLAMA_<KEY>_<ID>`.

    `dotenv` is read by bash (`set -a; . FILE`) and python-dotenv; `github` goes into a workflow's $GITHUB_ENV file.
    """
    import json

    options: Options = context.obj
    if options.json and format not in (None, "json"):
        raise UsageError(f"--format {format} isn't JSON, which -o json asks for", todo="leave one of them out")
    env, ids = _ids(options)
    variables = {"TINYLLAMA_ENV": env}
    for key, entries in ids.items():
        for name, value in entries.items():
            variables[variable(key, name)] = value
    format = format or ("json" if options.json else "dotenv")
    if format == "json":
        print(json.dumps({"schema": 1, "env": env, "variables": variables}))
        return
    for name, value in variables.items():
        print(dotenv(name, value) if format == "dotenv" else github(name, value))


def _ids(options: Options) -> tuple[str, dict[str, dict[str, str]]]:
    from aistratus.cli.session import open_session

    session = open_session(options)
    declared = session.stack.whole.by_key
    ids = session.ledger.read(declared)
    if not ids:
        raise Absent(f"env {session.settings.env!r} has no ledger", todo="`aistratus up` writes it")
    return session.settings.env, {key: ids[key] for key in declared if key in ids}


UNSET = "TINYLLAMA_UNSET"
"""Stands for a variable that isn't set."""


def dotenv(name: str, value: str) -> str:
    """An assignment that bash and python-dotenv (as it is by default: it expands `${…}`) read as the same value.

    Both take plain characters as they are, and single quotes around anything but quotes and backslashes. Where there
    is more, double quotes with backslashes before quotes and backslashes are common to both. What bash would expand
    there is had from an expansion that both know: a dollar sign is the default of a variable that nobody sets. A
    backtick is the value that the variable itself gets in a line before.
    """
    if re.fullmatch(r"[A-Za-z0-9_./:@+-]*", value):
        return f"{name}={value}"
    if not re.search(r"['\\]|\$\{", value):
        return f"{name}='{value}'"
    quoted = re.sub(r'(["\\])', r"\\\1", value).replace("$", f"${{{UNSET}:-$}}")
    if "`" not in value:
        return f'{name}="{quoted}"'
    return f"{name}='`'\n{name}=\"" + quoted.replace("`", f"${{{name}}}") + '"'


def github(name: str, value: str) -> str:
    """One variable of a workflow's $GITHUB_ENV file.

    Source: GitHub's "Workflow commands", "Setting an environment variable": a value of many lines stands between two
    delimiters that don't occur in it. Everything behind the first `=` of a single line is the value, as it is.
    """
    if not re.search(r"[\r\n]", value):
        return f"{name}={value}"
    end = "AISTRATUS_END"
    while end in value:
        end += "_"
    return f"{name}<<{end}\n{value}\n{end}"
