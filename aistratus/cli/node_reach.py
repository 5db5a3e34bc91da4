"""`aistratus node launch|ssh|logs`: commands that connect to the machine, by Systems Manager or SSH."""

from __future__ import annotations

import shlex
import sys
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from aistratus.cli.node import app
from aistratus.cli.options import Options
from aistratus.core.errors import Absent, Failure, Interrupted, UsageError
from aistratus.core.settle import Wait

if TYPE_CHECKING:
    from rich.console import Console

    from aistratus.cli.session import Session
    from aistratus.node.launch import Step
    from aistratus.node.transport import Transport
    from aistratus.resources.ec2 import Described

__all__ = ["app"]

Way = Annotated[
    Literal["auto", "ssm", "ssh"] | None,
    typer.Option("--transport", help="How to reach the node (default: node.transport in the settings)"),
]

LOGS: Final = {"worker": "/var/log/aistratus/worker.log", "bootstrap": "/var/log/user-data.log"}

WORKER_READY: Final = Wait(what="the worker is ready", within=900, first=0.2, longest=2.0)
"""Checking and loading a model of some GB from a new volume takes minutes."""

COMMAND_WITHIN_S: Final = 86_400.0
"""A day: the user who types a command ends it."""

QUESTION: Final = "Are you there?"
ANSWER_TOKENS: Final = 16


@app.command()
def launch(context: typer.Context, transport: Way = None) -> None:
    """Gets the machine ready: worker, model and service; ends when the worker has answered a test job.

    It runs the script of the node's boot, shows each step with its seconds, and starts a machine that sleeps. What is
    there already is kept: a second run changes and restarts nothing.
    """
    import time

    from aistratus.cli import show
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.node.launch import bootstrap

    options: Options = context.obj
    session = open_session(options)
    console = show.people(options)
    began, steps = time.monotonic(), []
    with ending_gently(session):
        instance, woken = _awake(session, console)
        with closing(_way(session, instance, transport, console)) as way:
            console.print(f"launching {instance['InstanceId']} by {way.name}", markup=False)
            steps = bootstrap(way, bucket=_bucket(session), region=session.names.region, told=_teller(console))
            by = way.name
        beat = _ready(session, instance, console)
        answer = _ask(session, console)
    changed = woken or any(step.changed for step in steps)
    told = ended(steps, woken=woken)
    speed, seconds = f"{beat['tokens_per_second']:.0f} tokens a second", time.monotonic() - began
    show.results(options).print(
        f"{told}; its worker answers with {answer['model']} ({speed} in its self-test), {seconds:.1f} s",
        markup=False,
    )
    if options.json:
        show.emit(
            {
                "env": session.settings.env,
                "instance": instance["InstanceId"],
                "transport": by,
                "changed": changed,
                "steps": [
                    {"name": step.name, "changed": step.changed, "seconds": round(step.seconds, 3)} for step in steps
                ],
                "worker": {
                    "model": beat["model"],
                    "tokens_per_second": beat["tokens_per_second"],
                    "gpu": bool(beat.get("gpu")),
                },
                "answer": answer,
                "seconds": round(time.monotonic() - began, 3),
            }
        )


@app.command()
def ssh(
    context: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(help="What to run; nothing: an interactive shell")] = None,
    transport: Way = None,
) -> None:
    """Opens a shell on the machine, or runs one command there as root and exits with its status.

    Options of the command stand behind `--`: aistratus node ssh -- df -h. A command goes by Systems Manager, too; a
    shell needs SSH.
    """
    from aistratus.cli import node_shell, show
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.node.ssh import SshTransport

    options: Options = context.obj
    if not command and options.json:
        raise UsageError("-o json needs a command", todo="aistratus node ssh -o json -- uptime")
    if not command:
        node_shell.require_terminal()
    session = open_session(options)
    console = show.people(options)
    console.stderr = True  # the command's output is alone on standard output
    instance = _running(session)
    if not command:
        with closing(_reach(session, console).ssh(instance)) as opened:
            raise typer.Exit(node_shell.interact(opened))
    script = command[0] if len(command) == 1 else shlex.join(command)
    with ending_gently(session), closing(_way(session, instance, transport, console)) as way:
        if isinstance(way, SshTransport) and not options.json:
            raise typer.Exit(way.stream(script, _write, _warn, within=COMMAND_WITHIN_S))
        done = way.run(script, within=COMMAND_WITHIN_S)
    if options.json:
        told = {"transport": way.name, "code": done.code, "stdout": done.out, "stderr": done.err}
        show.emit({"env": session.settings.env, **told})
    else:
        _write(done.out)
        _warn(done.err)
    raise typer.Exit(done.code)


@app.command()
def logs(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C")] = False,
    lines: Annotated[int, typer.Option(min=1, max=100_000, help="How many lines from the end")] = 100,
    source: Annotated[
        Literal["worker", "bootstrap"], typer.Option(help="The worker's log, or that of the machine's last boot")
    ] = "worker",
    transport: Way = None,
) -> None:
    """Prints a log as it lies on the machine; `aistratus logs worker` shows what has arrived in CloudWatch."""
    from aistratus.cli import show
    from aistratus.cli.session import open_session

    options: Options = context.obj
    session = open_session(options)
    console = show.people(options)
    console.stderr = True
    with closing(_way(session, _running(session), transport, console)) as way:
        out = _Lines(options)
        try:
            for piece in way.tail(LOGS[source], lines=lines, follow=follow):
                out.add(piece)
        except (Interrupted, KeyboardInterrupt):
            if not follow:
                raise
        out.end()


# --- the machine ------------------------------------------------------------------------------------------------


def _running(session: Session) -> Described:
    """The node; its transport refuses it in the wrong state."""
    from aistratus.node import lifecycle

    return lifecycle.look(session.cloud)


def ended(steps: list[Step], *, woken: bool) -> str:
    """What a launch has changed, for people."""
    if any(step.changed for step in steps):
        return "the node is launched"
    if woken:
        return "the node was launched already: it was only started"
    return "the node was launched already: nothing was changed"


def _awake(session: Session, console: Console) -> tuple[Described, bool]:
    """The node, started if it sleeps; and whether it was."""
    from aistratus.node import lifecycle
    from aistratus.resources.instance_listing import state_of

    instance = lifecycle.look(session.cloud)
    state = state_of(instance)
    if state != "running":
        does = "waiting until it runs" if state == "pending" else "starting it"
        console.print(f"the node is {state}: {does} …")
        lifecycle.start(session.cloud, instance["InstanceId"])
        instance = lifecycle.look(session.cloud)
    return instance, state not in ("running", "pending")


def _reach(session: Session, console: Console) -> Any:
    from aistratus.node.reach import Reach

    def told(sentence: str) -> None:
        console.print(sentence, style="dim", markup=False)

    settings = session.settings
    return Reach(
        aws=session.cloud, settings=settings.node, bucket=_bucket(session), profile=settings.profile, told=told
    )


def _way(session: Session, instance: Described, chosen: str | None, console: Console) -> Transport:
    way: Transport = _reach(session, console).transport(instance, chosen or session.settings.node.transport)
    return way


def _bucket(session: Session) -> str:
    from aistratus.resources.storage import bucket_name

    return bucket_name(session.names, "data")


# --- what is told -----------------------------------------------------------------------------------------------


def _teller(console: Console) -> Any:
    def told(what: Step | str) -> None:
        if isinstance(what, str):
            console.print(f"  {what}", style="dim", markup=False)
        else:
            mark, style = ("~", "yellow") if what.changed else (" ", "dim")
            console.print(f"[{style}]{mark} {what.name:<10} {what.seconds:7.1f} s[/]")

    return told


def _write(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _warn(piece: str) -> None:
    sys.stderr.write(piece)
    sys.stderr.flush()


class _Lines:
    """A log's lines: as they are for people, one JSON document each for programs."""

    def __init__(self, options: Options) -> None:
        self._json, self._begun = options.json, ""

    def add(self, piece: str) -> None:
        if not self._json:
            _write(piece)
            return
        *lines, self._begun = (self._begun + piece).split("\n")
        for line in lines:
            self._emit(line)

    def end(self) -> None:
        """A last line that hasn't ended yet."""
        if self._begun:
            self._emit(self._begun)

    @staticmethod
    def _emit(line: str) -> None:
        from aistratus.cli import show

        show.emit({"line": line})
        sys.stdout.flush()


# --- the worker -------------------------------------------------------------------------------------------------


def _ready(session: Session, instance: Described, console: Console) -> dict[str, Any]:
    """The worker's heartbeat once it has a model, and uses the GPU if the machine has one that will be used.

    Raises:
        Failure: the worker says that it can't get ready.
        Unsettled: it didn't come.
    """
    import time

    from aistratus.cli.env_state import worker_state
    from aistratus.core.settle import until
    from aistratus.node import gpu

    began, told = time.monotonic(), ""

    def probe() -> dict[str, Any] | None:
        nonlocal told
        beat = worker_state(session)
        mine = beat.get("fresh") and beat.get("instance_id") == instance["InstanceId"]
        if mine and beat.get("reason"):
            raise Failure(
                f"the worker can't get ready: {beat['reason']}", todo="`aistratus node logs` shows what it wrote"
            )
        state = str(beat["state"]) if mine else "starting"
        if state in ("ready", "busy"):
            return beat
        if state != told:
            console.print(f"  the worker is {state} …", style="dim")
            told = state
        return None

    def tell(text: str) -> None:
        console.print(f"  {text}", style="dim", markup=False)

    beat = until(WORKER_READY, probe, clock=session.clock)
    remark = gpu.settled(beat, instance["InstanceType"], probe, tell=tell, clock=session.clock)
    if remark:
        tell(f"{remark}; {gpu.WHAT_TO_DO}")
    beat = probe() or beat
    console.print(f"  {'ready':<10} {time.monotonic() - began:7.1f} s", style="dim", markup=False)
    return beat


def _ask(session: Session, console: Console) -> dict[str, Any]:
    """A job through the whole chain, as anybody's: model, job, and seconds until the whole reply was there."""
    import time

    from aistratus.cli.operator import open_door
    from aistratus.client import events
    from aistratus.client.api import Api
    from aistratus.client.conversation import Conversation
    from aistratus.client.errors import ClientError

    began = time.monotonic()
    door = open_door(session)
    request = Conversation().ask(QUESTION, max_tokens=ANSWER_TOKENS, temperature=0.0)
    with Api(door.url, door.signed_in) as api:
        key = uuid.uuid4().hex
        try:
            for event in api.stream(api.submit(request, key)):
                session.clock.wait(0)  # Ctrl-C ends it here
                match event:
                    case events.Done(text=text, model=model):
                        seconds = time.monotonic() - began
                        console.print(f"  {'answer':<10} {seconds:7.1f} s", style="dim", markup=False)
                        return {"job_id": key, "model": model, "text": text, "seconds": round(seconds, 3)}
                    case events.Failed(reason=reason):
                        raise Failure(f"the test job failed: {reason.rstrip('.')}")
                    case events.Cancelled():
                        raise Failure("the test job was cancelled")
        except ClientError as error:
            raise Failure(f"the test job couldn't be asked: {str(error).rstrip('.')}") from error
        except Interrupted:
            api.cancel(key)
            raise
    raise Absent("the test job ended without an end", todo="run the command again")
