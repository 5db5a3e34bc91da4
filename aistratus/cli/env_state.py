"""An env's current state, from AWS and the worker's heartbeat: the document of `aistratus status -o json`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aistratus import wire
from aistratus.cli.options import Options

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.cloud import Cloud
    from aistratus.core.plan import Plan
    from aistratus.core.resource import Found

FAILED = "failed"
"""A node whose worker says that it can't get ready is `failed: <reason>`."""

UNDER_WAY = ("pending", "warming", "shape-changing")
"""States of a node that is on its way to ready; see `node/states.py`."""

NODE_WORDS = {"ok": "running"}
"""A resource's health is `ok` where people say of a machine that it runs."""

WAITING = ("pending", "unconfirmed")
"""Health of what waits for a person, if it says what to do."""


def describe(session: Session) -> dict[str, Any]:
    """The document of `status -o json`, from live answers."""
    from aistratus.core.plan import plan, survey

    aws = session.cloud.fresh()
    planned = plan(session.stack, aws, survey(session.stack, aws))
    found = planned.survey.found
    _show_failures(session.options, planned.survey.failed)
    if not found and not planned.survey.failed:
        return nothing_there(session.settings.env)
    node = _node(session, planned, aws)
    queue = _queue(session, planned)
    todo = {key: have.todo for key, have in found.items() if have.todo}
    if "budget" in found and (lags := uncounted(session, aws)):
        todo["budget"] = lags
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
                **({"todo": todo[change.key]} if change.key in todo else {}),
            }
            for change in planned.changes
        ],
    }


def uncounted(session: Session, aws: Cloud) -> str:
    """What to say where AWS's own budget counts nothing though the env has cost something; one look at the table.

    Nothing where nothing costs money: what is metered there are list prices of what would stand on AWS.
    """
    from aistratus.costs.tags import behind
    from aistratus.node.resize import table_item
    from aistratus.resources.budgets import counted_usd, listed_budget

    if not session.asks:
        return ""
    budget = listed_budget(aws, "monthly")
    if budget is None or counted_usd(budget) > 0:
        return ""
    return behind(table_item(aws, wire.METER_PK), f"{datetime.now(UTC):%Y-%m}")


def nothing_there(env: str) -> dict[str, Any]:
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
    """Whether it is as it should be until a person has done their part."""
    return found.health in WAITING and bool(found.todo)


def worker_state(session: Session) -> dict[str, Any]:
    """The worker's heartbeat item, with `age_s` and `fresh` added; empty if there is none."""
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
