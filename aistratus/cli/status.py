"""`aistratus status`: the actual state of an env, and its health."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus.cli.env_state import FAILED, WAITING, describe, nothing_there
from aistratus.cli.options import Options
from aistratus.core.errors import Absent, UsageError
from aistratus.private import make_private

if TYPE_CHECKING:
    from aistratus.cli.session import Session

WATCH_EVERY_S = 2.0

EXIT = {"ready": 0, "starting": 0, "degraded": 5, "drifted": 5, "absent": 6}

NAMED = 3
"""So many resources at most are named in a sentence; below it each has a line anyway."""

QUEUE = ("depth", "in_flight", "dead")
NO_DASHBOARD = (
    "no dashboard: `watch.dashboard` is off; set it to true and run `aistratus up` (AWS gives an account three, every "
    "further one costs $3 a month)"
)


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until Ctrl-C")] = False,
    cached: Annotated[
        bool, typer.Option("--cached", help="Show the last answer and its age, without calling AWS")
    ] = False,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the env's dashboard, or print its address if there is no browser")
    ] = False,
) -> None:
    """Shows what is really there and whether it works; exits with 5 if degraded or drifted, 6 if absent."""
    from aistratus.core.errors import Interrupted

    options: Options = context.obj
    env = options.load().env
    if cached:
        if open_:
            raise UsageError("--cached makes no call, and --open needs one", todo="leave one of them out")
        document = _remembered(env)
        _show(options, document)
        raise typer.Exit(EXIT[document["state"]])
    document, session = _ask(options, env)
    _show(options, document, told=session is None)
    if open_ and session is not None:
        _open_dashboard(options, session)
    while watch and session is not None:
        try:
            session.clock.wait(WATCH_EVERY_S)
        except (KeyboardInterrupt, Interrupted):
            break
        document = describe(session)
        _show(options, document)
    _remember(env, document)
    raise typer.Exit(EXIT[document["state"]])


def _ask(options: Options, env: str) -> tuple[dict[str, Any], Session | None]:
    from aistratus.cli.session import open_session

    try:
        session = open_session(options)
    except Absent as absent:
        _show_why(options, absent)
        return nothing_there(env), None
    return describe(session), session


def _show_why(options: Options, absent: Absent) -> None:
    """Why nothing can be there, beside the answer that nothing is."""
    from aistratus.cli import show

    console = show.people(options)
    console.stderr = True
    console.print(str(absent), markup=False)


def _open_dashboard(options: Options, session: Session) -> None:
    """Opens the dashboard in a browser, if there is one, a user and a real AWS account; shows its address anyway.

    Where settings have switched it off: how it is switched on.
    """
    import webbrowser
    from urllib.parse import urlsplit

    from aistratus.cli import show
    from aistratus.resources.dashboards import Dashboard, console_url

    dashboard = session.stack.by_key.get("dashboard")
    if not isinstance(dashboard, Dashboard):
        show.results(options).print(NO_DASHBOARD, markup=False)
        return
    url = console_url(session.cloud, session.cloud.name(dashboard.name))
    host = urlsplit(session.cloud.cloudwatch.meta.endpoint_url).hostname or ""
    on_aws = host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    remark = "" if on_aws else " (its place on AWS: an endpoint of one's own has no console)"
    show.results(options).print(f"dashboard {url}{remark}", markup=False)
    # Where there is no desktop, Python would start a browser for text in this very terminal.
    desktop = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if on_aws and desktop and not options.json and sys.stdout.isatty():
        webbrowser.open(url)


# --- the last answer ----------------------------------------------------------------------------------------------


def _cache(env: str) -> Path:
    import platformdirs

    return platformdirs.user_cache_path("aistratus") / f"status-{env}.json"


def _remember(env: str, document: dict[str, Any]) -> None:
    path = _cache(env)
    part = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # without a folder for it there is no `--cached`; the answer itself was given
        make_private(path.parent)
        part.write_text(json.dumps({"at": time.time(), **document}), encoding="utf-8")
        part.replace(path)


def _remembered(env: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(_cache(env).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Absent(f"there is no earlier answer for env {env!r}", todo="`aistratus status` asks for one") from error
    age = time.time() - document.pop("at")
    return {**document, "age_s": round(age, 1)}


def _why(document: Mapping[str, Any]) -> str:
    """Why the state isn't better, and what to type; empty if there is nothing to say."""
    if document["state"] == "drifted":
        return "drifted: `aistratus plan` shows what differs"
    if document["state"] != "degraded":
        return ""
    dead, reasons = document["queue"]["dead"], []
    if dead:
        letters = f"{dead} dead letter{'s' if dead > 1 else ''}"
        reasons.append(f"{letters} (`aistratus queue redrive` shows them and puts them back)")
    if document["node"]["state"].startswith(FAILED):
        reasons.append("the node failed")
    if document["node"]["state"] == "running":
        reasons.append("the node runs, but its worker gives no sign of life (`aistratus logs worker`)")
    unwell: dict[str, list[str]] = {}
    for resource in document["resources"]:
        key, health = resource["key"], resource["health"]
        waits = health in WAITING and "todo" in resource
        if health == "unknown" or (key != "node" and health not in ("ok", "drifted", "absent") and not waits):
            unwell.setdefault(health, []).append(key)
    for health, keys in unwell.items():
        told = ", ".join(keys) if len(keys) <= NAMED else f"{len(keys)} resources"
        reasons.append(f"{told} {'is' if len(keys) == 1 else 'are'} {health}")
    return f"degraded: {', '.join(reasons)}"


def node_line(node: Mapping[str, Any]) -> str:
    """The node for people: state, type, model, last sign of life."""
    beat = f", heartbeat {node['heartbeat_age_s']} s ago" if node["heartbeat_age_s"] is not None else ""
    model = f", model {node['model']}" if node["model"] else ""
    kind = f" ({node['type']})" if node["type"] else ""
    eta = f", ready in about {node['eta_s']} s" if node.get("eta_s") else ""
    left = node.get("stops_in_s")
    off = (
        "" if left is None else f", switches itself off in {left // 60} min" if left >= 60 else ", about to switch off"
    )
    remark = f"; {node['remark']}" if node.get("remark") else ""
    return f"{node['state']}{kind}{eta}{model}{beat}{off}{remark}"


def _show(options: Options, document: dict[str, Any], *, told: bool = False) -> None:
    """Prints the state; the reason and what to type are left out if they were printed before."""
    from aistratus.cli import show

    if options.json:
        show.emit(document)
        return
    console = show.results(options)
    age = f" (as of {document['age_s']:.0f} s ago)" if "age_s" in document else ""
    console.print(f"[bold]{document['env']}[/] is {document['state']}{age}")
    if document["state"] == "absent":
        if not told:
            named = f" --env {options.env}" if options.env else ""
            console.print(f"`aistratus{named} up` builds it", markup=False)
        return
    if options.quiet:
        return
    node, queue = document["node"], document["queue"]
    depth, in_flight, dead = ("unknown" if queue[name] is None else queue[name] for name in QUEUE)
    console.print(f"API    {document['api_url'] or 'unknown'}")
    console.print(f"node   {node_line(node)}", markup=False)
    console.print(f"queue  {depth} waiting, {in_flight} in flight, {dead} dead")
    if why := _why(document):
        console.print(why, markup=False)
    for resource in document["resources"]:
        if resource["health"] != "ok" or "todo" in resource:
            todo = f"; {resource['todo']}" if "todo" in resource else ""
            console.print(f"  {resource['key']} ({resource['kind']}): {resource['health']}{todo}", markup=False)
    console.print(show.many(len(document["resources"])))
