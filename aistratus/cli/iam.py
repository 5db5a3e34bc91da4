"""`aistratus iam`: the permissions that the user or role running these commands needs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aistratus.cli.options import Group, Options
from aistratus.core.errors import Failure

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.policies import Document

app = typer.Typer(cls=Group, no_args_is_help=True, help="The permissions that these commands need.")

Command = Literal[
    "up", "down", "plan", "status", "chat", "login", "whoami", "logout", "user", "queue", "secret", "node", "model",
    "cost", "logs", "doctor",
]  # fmt: skip


@app.command()
def policy(
    context: typer.Context,
    command: Annotated[Command | None, typer.Option(help="Only what this command needs (default: all)")] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="Write the policy to files in this folder, each within IAM's size limit, and say how to use them"
        ),
    ] = None,
) -> None:
    """Prints the smallest IAM policy for whoever runs these commands on this env, as JSON.

    It is made from the calls that the commands make; `--command plan` is read-only. A whole policy is longer than the
    6,144 characters of a managed policy: use it as the inline policy of an IAM Identity Center permission set, or write
    it to files with `--into FOLDER` and attach all of them to one role.
    """
    from aistratus.cli import show
    from aistratus.cli.session import open_session
    from aistratus.permissions import MANAGED_POLICY_CHARACTERS, operator, parts, size

    options: Options = context.obj
    session = open_session(options, start=True)
    document = operator(session.names, session.stack, command=command)
    console = show.people(options)
    console.stderr = True
    for sentence in overlaps(session.settings.env, _envs_of_file(options)):
        console.print(sentence, markup=False)
    if into is not None:
        _write(session, options, parts(document), into, command)
        return
    print(json.dumps(document, indent=2))
    length = size(document)
    if length > MANAGED_POLICY_CHARACTERS:
        console.print(
            f"{length} characters, and a managed policy takes {MANAGED_POLICY_CHARACTERS}: --into FOLDER splits it"
        )


def overlaps(env: str, others: Iterable[str]) -> list[str]:
    """Where a policy reaches beyond its env: IAM's patterns tell envs apart by how their names begin, and no better.

    Args:
        others: further envs that are known.
    """
    said = []
    if beside := sorted(other for other in others if other.startswith(f"{env}-")):
        said.append(f"this policy also covers {', '.join(beside)}, whose names begin with {env}-; rename them or {env}")
    if "-" in env:
        shorter = env.rpartition("-")[0]
        said.append(f"the policy of an env {shorter}, if there is one in this account, also covers {env}")
    return said


def _envs_of_file(options: Options) -> list[str]:
    import os

    from aistratus.settings_file import find_file, read_file

    tables = read_file(find_file(options.config, os.environ, Path.cwd()))[1]
    return list(tables.get("envs", {}))


def _write(session: Session, options: Options, documents: list[Document], folder: Path, command: str | None) -> None:
    from aistratus.cli import show

    name = session.names.prefix + (command or "operator")
    files = {
        f"{name}-{number}" if len(documents) > 1 else name: document
        for number, document in enumerate(documents, start=1)
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stem, document in files.items():
            (folder / f"{stem}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise Failure(f"{folder} can't be written: {error.strerror}", todo="name another folder") from error
    if options.json:
        show.emit({"files": [str(folder / f"{stem}.json") for stem in files]})
        return
    console = show.results(options)
    account = f"arn:{session.names.partition}:iam::{session.names.account}:policy"
    console.print("[dim]# an administrator runs these, with the role that you sign in with:[/]")
    for stem in files:
        path = folder / f"{stem}.json"
        console.print(f"aws iam create-policy --policy-name {stem} --policy-document file://{path}", markup=False)
        console.print(f"aws iam attach-role-policy --role-name ROLE --policy-arn {account}/{stem}", markup=False)
