"""`aistratus node`: stops, starts, resizes and shows the machine that runs the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus import wire
from aistratus.cli.options import Group, Options
from aistratus.core.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.node.resize import Outcome
    from aistratus.node.states import Shapes
    from aistratus.resources.ec2 import Described

LEAST, MOST = wire.IDLE_MINUTES

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="The machine that runs the model: stop, start, resize, look at it."
)


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
    instance = lifecycle.look(session.cloud)
    before, console = state_of(instance), show.people(options)
    question = f"Stop the node of env {session.settings.env!r}? A job in hand is given back."
    if before in ("pending", "running"):
        if session.asks and not show.confirm(question, options):
            raise Interrupted("nothing was stopped")
        console.print("stopping the node …")
    with ending_gently(session):
        lifecycle.stop(session.cloud, instance["InstanceId"])
    already = {"stopped": "was stopped already", "stopping": "was stopping already, and has stopped"}
    show.results(options).print(f"the node {already.get(before, 'has stopped')}; the next prompt wakes it")
    _told(session, {**instance, "State": {"Name": "stopped"}})


@app.command()
def start(context: typer.Context) -> None:
    """Starts the machine as it is, and ends when it runs; `aistratus status` tells when its worker is ready.

    A prompt does the same, unless the budget's limit is reached, or node.wake_as names another type.
    """
    from aistratus.cli import show
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.node import lifecycle
    from aistratus.resources.instance_listing import state_of

    options: Options = context.obj
    session = open_session(options)
    instance = lifecycle.look(session.cloud)
    before, console = state_of(instance), show.people(options)
    if day := lifecycle.budget_until(session.cloud, session.settings.budget.kill_usd):
        console.print(f"the budget's limit is reached: until {day} (UTC) only you wake the node, no prompt does")
        console.print(
            "above what is metered the guard stops it again within minutes: `aistratus cost resume` lifts that"
        )
    if before != "running":
        console.print("starting the node …")
    with ending_gently(session):
        lifecycle.start(session.cloud, instance["InstanceId"])
    already = {"running": "was running already", "pending": "was starting already, and runs"}
    told = f"the node {already.get(before, 'runs')}; `aistratus status` tells when its worker is ready"
    show.results(options).print(told)
    _told(session, {**instance, "State": {"Name": "running"}})


@app.command()
def resize(
    context: typer.Context,
    type_: Annotated[
        str, typer.Argument(metavar="TYPE", help="cpu, gpu, or an EC2 type that settings allow (node.gpu_types)")
    ],
    asleep: Annotated[
        bool, typer.Option("--asleep", help="Change it and leave it asleep; the next prompt wakes it")
    ] = False,
) -> None:
    """Makes the machine another type: stops it, changes it, starts it, and ends when its worker and its GPU are ready.

    A job in hand is given back and answered afterwards. Where AWS has no room for the type, the next one of
    node.gpu_types is tried, in the end the CPU type, which answers slower; the machine stays in its zone. At a terminal
    it asks before it changes a machine on AWS.
    """
    from aistratus.cli import show
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.node import lifecycle
    from aistratus.node import resize as shape

    options: Options = context.obj
    shapes = _shapes(options)
    wanted = shape.chosen(shapes, type_)
    session = open_session(options)
    instance = lifecycle.look(session.cloud)
    console = show.people(options)
    question = f"Make the node of env {session.settings.env!r} {wanted} ({_price(session, wanted)})?"
    if instance["InstanceType"] != wanted and session.asks and not show.confirm(question, options):
        raise Interrupted("nothing was changed")
    with ending_gently(session):
        if session.settings.node.answer_on_cpu:
            _answer_first(session, instance["InstanceType"], wanted)
        outcome = shape.resize(
            session.cloud,
            wanted,
            shapes,
            by=session.cloud.identity.arn.rpartition("/")[2],
            wake=not asleep,
            tell=lambda text: console.print(text, markup=False),
        )
    show.results(options).print(_ended(outcome, wanted, shapes, asleep=asleep), markup=False)
    if asleep and (wakes_as := session.settings.node.wake_type) not in ("", outcome.type):
        console.print(f"a prompt wakes it as {wakes_as} (node.wake_as)", markup=False)
    _told(session, lifecycle.look(session.cloud))


@app.command(context_settings={"ignore_unknown_options": True})  # or -5 would be taken for an option
def idle(
    context: typer.Context,
    minutes: Annotated[
        str | None,
        typer.Argument(help=f"New limit, {LEAST} to {MOST}; without it the limit is shown", metavar="MINUTES"),
    ] = None,
) -> None:
    """Shows or sets after how many minutes without a job the machine switches itself off; there is always a limit.

    A machine that runs goes by it within a minute.
    """
    from aistratus.cli import show
    from aistratus.cli.session import open_session
    from aistratus.node import idle as limit

    options: Options = context.obj
    wanted = None if minutes is None else _limit_of(minutes)
    session = open_session(options)
    if wanted is not None:
        limit.write(session.cloud, wanted, by=session.cloud.identity.arn.rpartition("/")[2])
    live = limit.read(session.cloud)
    shown = session.settings.node.idle_minutes if live is None else live
    if options.json:
        show.emit({"env": session.settings.env, "idle_minutes": shown, "from_settings": live is None})
        return
    source = " (node.idle_minutes)" if live is None else ""
    show.results(options).print(f"the node switches itself off after {shown} minutes without a job{source}")


def _limit_of(word: str) -> int:
    """Parses minutes.

    Raises:
        UsageError: it is no number that is allowed.
    """
    if not (word.isascii() and word.isdigit() and len(word) < 5 and LEAST <= int(word) <= MOST):
        raise UsageError(f"{word!r} isn't an idle limit", todo=f"name a whole number of minutes from {LEAST} to {MOST}")
    return int(word)


def _answer_first(session: Session, now: str, wanted: str) -> None:
    """Lets the machine answer what waits before it makes way, where that is sooner."""
    from aistratus.cli import show
    from aistratus.cli.operator import ids_of
    from aistratus.node.drain import answer_first

    console = show.people(session.options)
    url = ids_of(session, ("jobs_queue",))["jobs_queue"]["url"]
    answer_first(session.cloud, url, now, wanted, lambda text: console.print(text, markup=False))


def _shapes(options: Options) -> Shapes:
    from aistratus.node.states import Shapes

    node = options.load().node
    return Shapes(cpu=node.cpu_type, gpus=node.gpu_types)


def _price(session: Session, type_: str) -> str:
    """What an hour costs, for a question."""
    from aistratus.cli.quotes import hourly
    from aistratus.costs.prices import packaged

    price = packaged().get("ec2", type_, session.cloud.region)
    return f"an hour costs {hourly(session.quotes.rate.euros(price.each if price else None))}"


def _ended(outcome: Outcome, wanted: str, shapes: Shapes, *, asleep: bool) -> str:
    """How a change of shape ended, for people."""
    from aistratus.node.gpu import WHAT_TO_DO

    stands = "sleeps" if asleep else "is ready"
    but = f", but {outcome.remark}; {WHAT_TO_DO}" if outcome.remark else ""
    if outcome.type == wanted:
        return f"the node {stands} as {wanted}{but}"
    slower = ", its CPU type, which answers slower" if outcome.type == shapes.cpu else ""
    return f"{outcome.why}: the node {stands} as {outcome.type}{slower}{but}"


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


def _told(session: Session, instance: Described) -> dict[str, Any]:
    """The node's JSON document, printed with `-o json`."""
    from aistratus.cli import show
    from aistratus.cli.env_state import describe_node
    from aistratus.resources.instance_listing import state_of

    node = describe_node(session, state_of(instance), instance["InstanceType"], instance["LaunchTime"])
    if session.options.json:
        show.emit({"env": session.settings.env, "node": node})
    return node
