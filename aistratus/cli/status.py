"""`aistratus status`: what is really there, and whether it works."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus import wire
from aistratus.cli.options import Options
from aistratus.core.errors import Absent, UsageError
from aistratus.private import make_private

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.cloud import Cloud
    from aistratus.core.plan import Plan
    from aistratus.core.resource import Found

WATCH_EVERY_S = 2.0

EXIT = {"ready": 0, "starting": 0, "degraded": 5, "drifted": 5, "absent": 6}

WAITING = ("pending", "unconfirmed")
"""Health of what waits for a person, if it says what to do."""

NAMED = 3
"""So many resources at most are named in a sentence; below it each has a line anyway."""

QUEUE = ("depth", "in_flight", "dead")

FAILED = "failed"
"""A node whose worker says that it can't get ready is `failed: <reason>`."""

UNDER_WAY = ("pending", "warming", "shape-changing")
"""States of a node that is on its way to ready; see `node/states.py`."""

NODE_WORDS = {"ok": "running"}
"""A resource's health is `ok` where people say of a machine that it runs."""


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
        return _absent(env), None
    return describe(session), session


def _show_why(options: Options, absent: Absent) -> None:
    """Why nothing can be there, beside the answer that nothing is."""
    from aistratus.cli import show

    console = show.people(options)
    console.stderr = True
    console.print(str(absent), markup=False)


def _show_failures(options: Options, failed: Mapping[str, Exception]) -> None:
    """Why some resources couldn't be looked at, beside the answer; the same reason once."""
    from aistratus.cli import show
    from aistratus.explain import explain

    console = show.people(options)
    console.stderr = True
    keys: dict[str, list[str]] = {}
    for key, error in failed.items():
        keys.setdefault(str(explain(error)), []).append(key)
    for why, affected in keys.items():
        console.print(f"{', '.join(affected)}: {why}", markup=False)


def describe(session: Session) -> dict[str, Any]:
    """The document of `status -o json`, from live answers."""
    from aistratus.core.plan import plan, survey

    aws = session.cloud.fresh()
    planned = plan(session.stack, aws, survey(session.stack, aws))
    found = planned.survey.found
    _show_failures(session.options, planned.survey.failed)
    if not found and not planned.survey.failed:
        return _absent(session.settings.env)
    node = _node(session, planned, aws)
    queue = _queue(session, planned)
    return {
        "env": session.settings.env,
        "state": _state(planned, node, queue),
        "api_url": found["api"].ids.get("endpoint") if "api" in found else None,
        "node": node,
        "queue": queue,
        "resources": [
            {
                "key": change.key,
                "kind": change.resource.kind,
                "id": change.found.id if change.found else None,
                "health": _health(change.action, change.found.health if change.found else "absent"),
                **({"todo": change.found.todo} if change.found and change.found.todo else {}),
            }
            for change in planned.changes
        ],
    }


def _absent(env: str) -> dict[str, Any]:
    return {
        "env": env,
        "state": "absent",
        "api_url": None,
        "node": _unheard("absent"),
        "queue": {"depth": None, "in_flight": None, "dead": None},
        "resources": [],
    }


def _unheard(state: str, shape: str | None = None) -> dict[str, Any]:
    """A node without a worker, in JSON documents."""
    unknown = ("heartbeat_age_s", "model", "eta_s", "stops_in_s", "gpu", "remark")
    return {"state": state, "type": shape, **dict.fromkeys(unknown)}


def _health(action: str, health: str) -> str:
    if action == "failed":
        return "unknown"
    return "drifted" if action in ("update", "replace", "delete") and health == "ok" else health


def _state(planned: Plan, node: dict[str, Any], queue: dict[str, Any]) -> str:
    actions = {change.action for change in planned.changes}
    # A machine that sleeps is as it should be; one that changes its state isn't broken.
    unwell = [
        f for key, f in planned.survey.found.items() if key != "node" and f.health != "ok" and not waits_for_a_person(f)
    ]
    if "failed" in actions or unwell or queue["dead"] or node["state"].startswith(FAILED):
        return "degraded"
    if actions - {"unchanged"}:
        return "drifted"
    if node["state"] == "running":  # for longer than a boot takes, and nobody answers
        return "degraded"
    if node["state"] in UNDER_WAY:
        return "starting"
    return "ready"


def waits_for_a_person(found: Found) -> bool:
    """Is it as it should be until a person has done their part?"""
    return found.health in WAITING and bool(found.todo)


def worker_state(session: Session) -> dict[str, Any]:
    """The worker's heartbeat item, with `age_s` and `fresh` added; empty where there is none."""
    from botocore.exceptions import ClientError

    try:
        answer = session.cloud.dynamodb.get_item(
            TableName=session.names.prefix + "jobs", Key=wire.pack({"pk": wire.HEARTBEAT_PK})
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return {}
        raise
    if "Item" not in answer:
        return {}
    item = wire.unpack(answer["Item"])
    age = max(0.0, time.time() - item["at_ms"] / 1000)
    return {**item, "age_s": round(age, 1), "fresh": age < wire.HEARTBEAT_FRESH_S}


def _node(session: Session, planned: Plan, aws: Cloud) -> dict[str, Any]:
    from aistratus.resources.instance_listing import INSTANCES
    from aistratus.stack import CUT_OFF, cut_off

    have = planned.survey.found.get("node")
    if have is None:
        return _unheard("absent")
    if cut_off(session.stack, planned.survey.found):
        return _unheard(f"{FAILED}: {CUT_OFF}", getattr(have.state, "type", None))
    thing = INSTANCES.pick(aws, "node")
    since = thing["LaunchTime"] if thing else datetime.now(UTC)
    return describe_node(session, NODE_WORDS.get(have.health, have.health), str(getattr(have.state, "type", "")), since)


def describe_node(session: Session, machine: str, shape: str, since: datetime) -> dict[str, Any]:
    """The node in JSON documents: where its machine runs, its worker says how it is.

    Args:
        machine: the machine's state, in EC2's words.
        shape: its instance type.
        since: its latest start.
    """
    from aistratus.node import gpu
    from aistratus.node.boots import eta_s
    from aistratus.node.resize import changing_to
    from aistratus.node.states import Seen
    from aistratus.node.states import state as of

    beat = worker_state(session) if machine == "running" else {}
    at = gpu.standing(beat, shape) if beat.get("fresh") else gpu.Gpu.NONE
    seen = Seen(
        machine=machine,
        type=shape,
        beat=str(beat["state"]) if beat.get("fresh") else "",
        up_s=(datetime.now(UTC) - since).total_seconds(),
        wanted=changing_to(session.cloud),
        gpu_coming=at is gpu.Gpu.COMING,
    )
    state = of(seen).value
    if beat.get("fresh") and beat.get("reason"):
        state = f"{FAILED}: {beat['reason']}"
    left = beat.get("stops_in_s") if beat.get("fresh") else None
    builds = state == "warming" and seen.gpu_coming and seen.beat != "loading"
    remark = gpu.BUILDS if builds else gpu.remark(beat, shape) if state == "ready" else ""
    return {
        "state": state,
        "type": shape,
        "heartbeat_age_s": beat.get("age_s"),
        "model": beat.get("model"),
        "eta_s": eta_s(session.cloud, shape, seen.up_s) if state in UNDER_WAY and not builds else None,
        "stops_in_s": None if left is None else max(0, int(left - beat["age_s"])),
        "gpu": None if at is gpu.Gpu.NONE else at is gpu.Gpu.USED,
        "remark": remark or None,
    }


def _queue(session: Session, planned: Plan) -> dict[str, Any]:
    def counts(key: str) -> tuple[int | None, int | None]:
        have = planned.survey.found.get(key)
        if have is None:
            return None, None
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = session.cloud.sqs.get_queue_attributes(QueueUrl=have.ids["url"], AttributeNames=names)["Attributes"]
        return int(answer[names[0]]), int(answer[names[1]])

    depth, in_flight = counts("jobs_queue")
    dead, _ = counts("dead_letters")
    return {"depth": depth, "in_flight": in_flight, "dead": dead}


def _open_dashboard(options: Options, session: Session) -> None:
    """Opens it in a browser if there is one, a person in front of it, and AWS behind it; shows its address anyway."""
    import webbrowser
    from urllib.parse import urlsplit

    from aistratus.cli import show
    from aistratus.resources.dashboards import Dashboard, console_url

    dashboard = session.stack.by_key["dashboard"]
    assert isinstance(dashboard, Dashboard)
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
    """Why the state isn't better, and what to type; empty where there is nothing to say."""
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
    """Prints it; if it was told already why nothing is there and what to type, only that it is so."""
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
        if resource["health"] != "ok":
            todo = f"; {resource['todo']}" if "todo" in resource else ""
            console.print(f"  {resource['key']} ({resource['kind']}): {resource['health']}{todo}", markup=False)
    console.print(show.many(len(document["resources"])))
