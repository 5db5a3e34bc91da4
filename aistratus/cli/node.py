"""`aistratus node`: stop, start and look at the machine that runs the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from aistratus.cli.options import Group, Options
from aistratus.core.errors import Interrupted

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.resources.ec2 import Thing

app = typer.Typer(cls=Group, no_args_is_help=True, help="The machine that runs the model: stop, start, look at it.")


@app.command()
def stop(context: typer.Context) -> None:
    """Stops the machine, so that it costs nothing by the hour; the next prompt wakes it.

    A job in hand is given back and answered when the node is awake again. At a terminal it asks before it stops a
    machine on AWS (`--yes` doesn't).
    """
    from aistratus.cli import show
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.node import lifecycle
    from aistratus.resources.instance_listing import state_of

    options: Options = context.obj
    session = open_session(options)
    thing = lifecycle.look(session.cloud)
    before, console = state_of(thing), show.people(options)
    question = f"Stop the node of env {session.settings.env!r}? A job in hand is given back."
    if before in ("pending", "running"):
        if session.asks and not show.confirm(question, options):
            raise Interrupted("nothing was stopped")
        console.print("stopping the node …")
    with ending_gently(session):
        lifecycle.stop(session.cloud, thing["InstanceId"])
    already = {"stopped": "was stopped already", "stopping": "was stopping already, and has stopped"}
    show.results(options).print(f"the node {already.get(before, 'has stopped')}; the next prompt wakes it")
    _told(session, {**thing, "State": {"Name": "stopped"}})


@app.command()
def start(context: typer.Context) -> None:
    """Starts the machine, and ends when it runs; `aistratus status` tells when its worker is ready.

    A prompt does the same, unless the budget's limit is reached.
    """
    from aistratus.cli import show
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.node import lifecycle
    from aistratus.resources.instance_listing import state_of

    options: Options = context.obj
    session = open_session(options)
    thing = lifecycle.look(session.cloud)
    before, console = state_of(thing), show.people(options)
    if day := lifecycle.budget_until(session.cloud, session.settings.budget.kill_usd):
        console.print(f"the budget's limit is reached: until {day} (UTC) only you wake the node, no prompt does")
        console.print(
            "above what is metered the guard stops it again within minutes: `aistratus cost resume` lifts that"
        )
    if before != "running":
        console.print("starting the node …")
    with ending_gently(session):
        lifecycle.start(session.cloud, thing["InstanceId"])
    already = {"running": "was running already", "pending": "was starting already, and runs"}
    told = f"the node {already.get(before, 'runs')}; `aistratus status` tells when its worker is ready"
    show.results(options).print(told)
    _told(session, {**thing, "State": {"Name": "running"}})


@app.command("status")
def status(context: typer.Context) -> None:
    """Shows the machine's state and type, and its worker's last sign of life; exits with 6 when there is none."""
    from aistratus.cli import show
    from aistratus.cli.session import open_session
    from aistratus.cli.status import node_line
    from aistratus.node import lifecycle

    options: Options = context.obj
    session = open_session(options)
    node = _told(session, lifecycle.look(session.cloud))
    if not options.json:
        show.results(options).print(node_line(node), markup=False)


def _told(session: Session, thing: Thing) -> dict[str, Any]:
    """What programs are told of the node; printed if a program asks."""
    from aistratus.cli import show
    from aistratus.cli.status import describe_node
    from aistratus.resources.instance_listing import state_of

    node = describe_node(session, state_of(thing), thing["InstanceType"])
    if session.options.json:
        show.emit({"env": session.settings.env, "node": node})
    return node
