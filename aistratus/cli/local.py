"""`aistratus local`: starts, stops and inspects the embedded cloud, for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from aistratus.cli.options import Group, Options
from aistratus.core.errors import Absent, Failure


@contextmanager
def told() -> Iterator[None]:
    """What the embedded cloud can't do, as a sentence like every other."""
    from aistratus.local.process import CloudError

    try:
        yield
    except CloudError as error:
        what, _, todo = str(error).partition("; ")
        raise Failure(what, todo=todo) from error


app = typer.Typer(
    cls=Group, no_args_is_help=True, help="The embedded cloud: AWS's APIs on this machine, without an account."
)


@app.command()
def start(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the AWS endpoint; 0 takes a free one")] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Enforce the rules of real AWS that emulators forgive")
    ] = False,
) -> None:
    """Starts the embedded cloud, or joins the one that is running."""
    from aistratus.cli import show
    from aistratus.local import process

    options: Options = context.obj
    with told():
        running = process.ensure(port=port, strict=strict)
    if options.json:
        show.emit({"endpoint": running.endpoint, "gateway": running.gateway, "pid": running.pid})
        return
    console = show.people(options)
    console.print(f"{'started' if running.started else 'running already'}, process {running.pid}")
    if options.quiet:
        print(running.endpoint)
    console.print(f"endpoint {running.endpoint}\ngateway  {running.gateway}")
    console.print(f"Next: export AWS_ENDPOINT_URL={running.endpoint} AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x")


@app.command()
def stop(context: typer.Context) -> None:
    """Stops the embedded cloud; its state is lost."""
    from aistratus.cli import show
    from aistratus.local import process

    options: Options = context.obj
    with told():
        stopped = process.stop()
    if options.json:
        show.emit({"stopped": stopped})
        return
    show.people(options).print("stopped" if stopped else "it wasn't running")


@app.command()
def logs(
    context: typer.Context,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines from the end")] = 50,
) -> None:
    """Prints the last lines of the embedded cloud's own log."""
    from aistratus.cli import show
    from aistratus.local import process

    options: Options = context.obj

    path = process.log_path()
    if not path.exists():
        raise Absent("the embedded cloud has never run here", todo="`aistratus local start` starts it")
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file.readlines()[-lines:]:
            if options.json:
                show.emit({"message": line.rstrip("\n")})
            else:
                print(line, end="")
