"""The Typer app: global options, exit codes, and the one place that chooses an env's cloud.

The env `local` is in the embedded cloud, which is started when a command needs it; every other env, and every env when
AWS_ENDPOINT_URL names an endpoint, is reached through the SDK's own chain. No other code distinguishes the two.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO
from urllib.parse import urlsplit

import typer

from aistratus.cli import (
    chat,
    cost,
    doctor,
    env,
    iam,
    init,
    lifecycle,
    local,
    login,
    logs,
    model,
    node_build,
    queue,
    secret,
    smoke,
    status,
    user,
)
from aistratus.cli.options import Embedded, Group, Options, in_order, truthy
from aistratus.core.errors import Absent, Failure, Interrupted, UsageError

if TYPE_CHECKING:
    from aistratus.cloud import Access
    from aistratus.settings import Settings

LOCAL_ENV = "local"
DEFAULT_REGION = "eu-central-1"

app = typer.Typer(
    name="aistratus",
    cls=Group,
    help="A private LLM on your own AWS account, or on an embedded cloud on this machine.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="The options above may stand before or after a command.",
)


@app.callback()
def options(
    context: typer.Context,
    env: Annotated[
        str | None, typer.Option("--env", "-e", help="Env: an isolated copy of the stack (default: local)")
    ] = None,
    output: Annotated[
        Literal["table", "json", "csv"],
        typer.Option(
            "--output", "-o", envvar="AISTRATUS_OUTPUT", help="Output for people or for programs (csv: `cost`)"
        ),
    ] = "table",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer yes to every question")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show tracebacks and AWS's own error messages")
    ] = False,
    region: Annotated[str | None, typer.Option(help="AWS region")] = None,
    profile: Annotated[str | None, typer.Option(help="AWS profile")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings file (default: the nearest aistratus.toml upwards)")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(envvar="AISTRATUS_TRACE", help="Write one JSON line for each AWS call to this file")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit")] = False,
) -> None:
    """Reads the global options."""
    if output == "csv" and context.invoked_subcommand not in ("cost", None):
        raise UsageError("only `aistratus cost` prints csv", todo="leave -o away, or take -o json")
    context.obj = made(
        env=env,
        output=output,
        yes=yes,
        quiet=quiet,
        verbose=verbose,
        region=region,
        profile=profile,
        config=config,
        trace=trace,
    )


def made(*, yes: bool = False, quiet: bool = False, verbose: bool = False, **given: Any) -> Options:
    """The options of a call, with the switches that variables turn on, and the cloud of each env."""
    return Options(
        **given,
        yes=yes or truthy("AISTRATUS_YES"),
        quiet=quiet or truthy("AISTRATUS_QUIET"),
        verbose=verbose or truthy("AISTRATUS_VERBOSE"),
        embedded=Embedded(
            defaults=_defaults,
            access=_access,
            ended=_ended,
            asks=lambda settings: not _embedded(settings),
            keeps_tokens=_keeps_tokens,
            mailbox=_mailbox,
        ),
    )


STACK, PROMPTS, NODE, MONEY = "The stack", "Prompts", "The node", "Money"
ACCESS, MACHINE = "Users, secrets and permissions", "The embedded cloud"
"""Headings under which `--help` shows the commands."""

app.command("up", rich_help_panel=STACK)(lifecycle.up)
app.command("plan", rich_help_panel=STACK)(lifecycle.plan)
app.command("down", rich_help_panel=STACK)(lifecycle.down)
app.command("status", rich_help_panel=STACK)(status.status)
app.command("doctor", rich_help_panel=STACK)(doctor.doctor)
app.command("init", rich_help_panel=STACK)(init.init)
app.add_typer(env.app, name="env", rich_help_panel=STACK)
app.add_typer(chat.app, name="chat", rich_help_panel=PROMPTS)
app.command("smoke", rich_help_panel=PROMPTS)(smoke.smoke)
app.command("logs", rich_help_panel=PROMPTS)(logs.logs)
app.add_typer(queue.app, name="queue", rich_help_panel=PROMPTS)
# The same as `node.app`, with what `node_reach` and this register there.
app.add_typer(node_build.app, name="node", rich_help_panel=NODE)
app.add_typer(model.app, name="model", rich_help_panel=NODE)
app.add_typer(cost.app, name="cost", rich_help_panel=MONEY)
app.command("login", rich_help_panel=ACCESS)(login.login)
app.command("logout", rich_help_panel=ACCESS)(login.logout)
app.command("whoami", rich_help_panel=ACCESS)(login.whoami)
app.command("token", rich_help_panel=ACCESS)(login.token)
app.add_typer(user.app, name="user", rich_help_panel=ACCESS)
app.add_typer(secret.app, name="secret", rich_help_panel=ACCESS)
app.add_typer(iam.app, name="iam", rich_help_panel=ACCESS)
app.add_typer(local.app, name="local", rich_help_panel=MACHINE)


def main() -> None:
    """Entry point: runs the command line, and turns errors into one sentence and an exit code."""
    arguments = in_order(sys.argv[1:])
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _say_no_more(sys.stdout, sys.stderr)  # the reader (`| head`) has seen enough
        code = 0
    except OSError as error:
        _say_no_more(sys.stdout)
        print(f"aistratus: standard output can't be written: {error.strerror}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Runs the command, reports an error, and returns the exit code.

    Raises:
        OSError: what is told can't be written; `BrokenPipeError` if because nobody reads it.
    """
    if "--version" in arguments:
        from aistratus import __version__

        print(f"aistratus {__version__}")
        return 0
    try:
        code = app(args=arguments, prog_name="aistratus", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return tell(Interrupted("interrupted"), arguments)
    except BrokenPipeError:
        raise
    except SystemExit as end:
        # Typer and rich each end the program themselves, with 1, when nobody reads what they print.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: a sentence instead of a traceback
        return tell(error, arguments)
    return code if isinstance(code, int) else 0


def _say_no_more(*streams: TextIO) -> None:
    """Whatever is left to be written is dropped; Python would complain of it at its own end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def tell(error: Exception, arguments: list[str]) -> int:
    """Prints the error, as JSON with `-o json`, and returns the exit code."""
    sys.stdout.flush()  # if even this can't be written, there is nothing else to tell
    if (usage := getattr(error, "format_message", None)) is not None:
        if not usage():
            return 2  # no command at all: the help was shown
        # The command line itself was wrong; the words of the library that checks values are left out.
        what, _, meant = usage().replace("Value error, ", "").partition(" Did you mean ")
        meant = f"did you mean {meant} " if meant else ""
        error = UsageError(what.rstrip("."), todo=f"{meant}--help tells what there is")
    if truthy("AISTRATUS_VERBOSE") or "--verbose" in arguments:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, Failure):
        failure = error
    else:
        from aistratus.explain import explain

        failure = explain(error, profile=_value(arguments, "--profile"))
    todo = _same_env(failure.todo, arguments)
    print(f"aistratus: {failure.what}{f'; {todo}' if todo else ''}", file=sys.stderr)
    asked_for_json = "json" in (_value(arguments, "--output"), os.environ.get("AISTRATUS_OUTPUT"))
    if asked_for_json and not failure.reported:
        import json

        content: dict[str, Any] = {
            "schema": 1,
            "error": {"kind": failure.kind, "what": failure.what, "todo": todo},
        }
        try:
            print(json.dumps(content), flush=True)
        except BrokenPipeError:
            raise
        except OSError:
            _say_no_more(sys.stdout)  # the sentence is out, and there is no place for the document
    return failure.exit_code


def _same_env(todo: str, arguments: list[str]) -> str:
    """Commands in a hint as they are to be typed for the env that this call has named."""
    env = _value(arguments, "--env")
    return todo.replace("`aistratus ", f"`aistratus --env {env} ") if env else todo


def _value(arguments: list[str], option: str) -> str | None:
    return next((value for name, value in pairwise(arguments) if name == option), None)


# --- which cloud ----------------------------------------------------------------------------------------------


def _defaults() -> dict[str, Any]:
    """The embedded cloud's env answers with the demo model unless the settings name another, and lets SSH in from here.

    Its node is a process of this machine, so the one address that is let in is the loopback interface's, which nobody
    else has. Without a rule SSH would have no way to a node that is meant to be reached like one on AWS.
    With AWS_ENDPOINT_URL the env isn't embedded, but whoever points `local` at an endpoint means such a cloud too.
    """
    from aistratus.local.sshd import PORT, user
    from aistratus.models import DEMO, demo_model

    node = {"ssh_cidr": "127.0.0.1", "ssh_user": user(), "ssh_port": PORT}
    model = {"path": str(demo_model()), "name": DEMO.name, "context_tokens": DEMO.context_tokens, "temperature": 0.0}
    return {LOCAL_ENV: {"model": model, "node": node}}


def _embedded(settings: Settings) -> bool:
    return settings.env == LOCAL_ENV and not os.environ.get("AWS_ENDPOINT_URL")


def _keeps_tokens(settings: Settings) -> str:
    if _embedded(settings):
        return ""
    return f"env {settings.env!r} lives in an AWS account, and whoever sees its token is you for as long as it lasts"


def _mailbox(settings: Settings) -> Path | None:
    if not _embedded(settings):
        return None
    from aistratus.local import process

    return process.state_directory() / process.MAILBOX


def _access(settings: Settings, start: bool) -> Access | None:
    from aistratus.cloud import Access

    if not _embedded(settings):
        if (host := urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname) in ("127.0.0.1", "localhost"):
            _bypass_proxies(str(host))
        return Access(region=settings.region or _sdk_region(settings.profile), profile=settings.profile)
    from aistratus.local import process

    with local.told():
        try:
            running = process.ensure() if start else process.require()
        except process.CloudAbsent:
            return None
        except process.CloudGone as gone:
            what, _, todo = str(gone).rpartition("; ")
            raise Absent(what, todo=todo) from None
    if running.lost:
        print("the embedded cloud had died and its state is gone; a new one begins", file=sys.stderr)
    _bypass_proxies("127.0.0.1")
    return Access(
        region=settings.region or DEFAULT_REGION,
        endpoint=running.endpoint,
        access_key="embedded",
        secret_key="embedded",  # noqa: S106 - the embedded cloud keeps no secrets
    )


def _bypass_proxies(host: str) -> None:
    """A proxy that the environment names for the internet can't reach this machine's loopback interface."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = os.environ.get(name, "")
        if host not in hosts.split(","):
            os.environ[name] = f"{hosts},{host}".lstrip(",")


def _sdk_region(profile: str | None) -> str:
    """The region that the AWS SDK would use here (environment, then profile)."""
    import botocore.session

    region: str | None = botocore.session.Session(profile=profile).get_config_variable("region")
    return region or DEFAULT_REGION


def _ended(settings: Settings) -> bool:
    if not _embedded(settings):
        return False
    from aistratus.local import process

    with local.told():
        return process.stop()
