"""The JSON documents that others rely on, as schemas. Nothing may be missing, and nothing unannounced may be there."""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string"}
MAYBE_TEXT = {"type": ["string", "null"]}
MAYBE = {"type": ["boolean", "null"]}
COUNT = {"type": "integer", "minimum": 0}
MAYBE_COUNT = {"type": ["integer", "null"], "minimum": 0}
SECONDS = {"type": "number", "minimum": 0}


def table(optional: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    required = [name for name in fields if name not in optional]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def document(optional: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return table(optional, schema={"const": 1}, **fields)


MAYBE_EUROS = {"type": ["number", "null"], "minimum": 0}
COST = table(idle_month_eur=MAYBE_EUROS, active_hour_eur=MAYBE_EUROS)

ACTIONS = ["create", "update", "replace", "delete", "unchanged", "failed", "blocked", "retained"]

REPORT = document(
    ("spent",),
    command={"enum": ["plan", "up", "down"]},
    env=TEXT,
    account=MAYBE_TEXT,
    region=MAYBE_TEXT,
    resources={
        "type": "array",
        "items": table(
            ("error", "todo"),
            key=TEXT,
            kind=TEXT,
            group=MAYBE_TEXT,
            id=MAYBE_TEXT,
            action={"enum": ACTIONS},
            changes={"type": "array", "items": table(field=TEXT, old={}, new={})},
            cost=COST,
            seconds=SECONDS,
            error=TEXT,
            todo=TEXT,
        ),
    },
    cost=COST,
    calls=table(read=COUNT, write=COUNT),
    seconds=SECONDS,
    left={"type": "array", "items": table(key=TEXT, kind=TEXT, id=TEXT)},
    spent=table(eur=MAYBE_EUROS, since=TEXT, until=TEXT, unknown={"type": "array", "items": TEXT}),
)

STATUS = document(
    env=TEXT,
    state={"enum": ["ready", "starting", "degraded", "drifted", "absent"]},
    api_url=MAYBE_TEXT,
    node=table(
        state=TEXT,
        type=MAYBE_TEXT,
        heartbeat_age_s={"type": ["number", "null"]},
        model=MAYBE_TEXT,
        eta_s=MAYBE_COUNT,
        stops_in_s=MAYBE_COUNT,
        gpu=MAYBE,
        remark=MAYBE_TEXT,
    ),
    queue=table(depth=MAYBE_COUNT, in_flight=MAYBE_COUNT, dead=MAYBE_COUNT),
    resources={"type": "array", "items": table(("todo",), key=TEXT, kind=TEXT, id=MAYBE_TEXT, health=TEXT, todo=TEXT)},
)

CHAT = document(
    text=TEXT,
    job_id=TEXT,
    request_id=TEXT,
    conversation=TEXT,
    model=TEXT,
    usage=table(prompt_tokens=COUNT, completion_tokens=COUNT),
    timings=table(queued_ms=COUNT, first_token_ms=COUNT, total_ms=COUNT, tokens_per_second=SECONDS),
)

EXCHANGE = {
    "prompt": TEXT,
    "reply": TEXT,
    "state": {"enum": ["asked", "answered", "stopped", "failed"]},
    "reason": TEXT,
    "asked_at": TEXT,
    "ended_at": MAYBE_TEXT,
    "job_id": TEXT,
    "request_id": TEXT,
    "model": TEXT,
    "usage": {"type": "object"},
    "timings": {"type": "object"},
}
KEPT = {"id": TEXT, "title": TEXT, "turns": COUNT, "created_at": TEXT, "updated_at": TEXT}
CONVERSATIONS = document(env=TEXT, conversations={"type": "array", "items": table(**KEPT)})
CONVERSATION = document(
    env=TEXT,
    conversation=table(**KEPT, system=MAYBE_TEXT, exchanges={"type": "array", "items": table(**EXCHANGE)}),
)
FOUND = document(env=TEXT, found={"type": "array", "items": table(conversation=TEXT, **EXCHANGE)})
DELETED = document(env=TEXT, deleted={"type": "array", "items": TEXT})

NODE = document(
    env=TEXT,
    node=table(
        state=TEXT,
        type=TEXT,
        heartbeat_age_s={"type": ["number", "null"]},
        model=MAYBE_TEXT,
        eta_s=MAYBE_COUNT,
        stops_in_s=MAYBE_COUNT,
        gpu=MAYBE,
        remark=MAYBE_TEXT,
    ),
)

SMOKE = document(
    env=TEXT,
    ok={"type": "boolean"},
    seconds=SECONDS,
    stages={"type": "array", "items": table(stage=TEXT, ok={"type": "boolean"}, seconds=SECONDS, what=TEXT)},
)

MODEL = {
    "name": TEXT,
    "sha256": TEXT,
    "size": COUNT,
    "needed_mib": COUNT,
    "context_tokens": COUNT,
    "fits": {"type": "array", "items": TEXT},
}
MODEL_ADDED = document(env=TEXT, model=table(**MODEL), uploaded={"type": "boolean"})
MODEL_CHOSEN = document(env=TEXT, model=MAYBE_TEXT, sha256=MAYBE_TEXT, answers={"type": "boolean"})
MODEL_REMOVED = document(env=TEXT, removed=table(name=TEXT, sha256=TEXT), freed=COUNT)
MODELS = document(
    env=TEXT, answers=MAYBE_TEXT, models={"type": "array", "items": table(**MODEL, in_use={"type": "boolean"})}
)

IDLE = document(env=TEXT, idle_minutes=COUNT, from_settings={"type": "boolean"})

LAUNCH = document(
    env=TEXT,
    instance=TEXT,
    transport={"enum": ["ssm", "ssh"]},
    changed={"type": "boolean"},
    steps={"type": "array", "items": table(name=TEXT, changed={"type": "boolean"}, seconds=SECONDS)},
    worker=table(model=TEXT, tokens_per_second=SECONDS, gpu={"type": "boolean"}),
    answer=table(job_id=TEXT, model=TEXT, text=TEXT, seconds=SECONDS),
    seconds=SECONDS,
)

NODE_COMMAND = document(
    env=TEXT, transport={"enum": ["ssm", "ssh"]}, code={"type": "integer"}, stdout=TEXT, stderr=TEXT
)

MAYBE_SECONDS = {"type": ["number", "null"], "minimum": 0}
QUEUE_HEALTH = document(
    env=TEXT, depth=COUNT, in_flight=COUNT, dead=COUNT, oldest_age_s=MAYBE_SECONDS, heartbeat_age_s=MAYBE_SECONDS
)

REDRIVE = document(
    env=TEXT,
    dead={
        "type": "array",
        "items": table(message_id=TEXT, job_id=MAYBE_TEXT, conversation=MAYBE_TEXT, reason=TEXT, age_s=SECONDS),
    },
    moved=COUNT,
    left=COUNT,
)

LOCAL = document(
    endpoint={"type": "string", "pattern": r"^http://127\.0\.0\.1:\d+$"},
    gateway={"type": "string", "pattern": r"^http://127\.0\.0\.1:\d+$"},
    pid=COUNT,
)

DOCTOR = document(
    command={"const": "doctor"},
    env=MAYBE_TEXT,
    ok={"type": "boolean"},
    findings={
        "type": "array",
        "items": table(check=TEXT, state={"enum": ["ok", "warn", "fail"]}, what=TEXT, todo=MAYBE_TEXT),
    },
)

POLICY_FILES = document(files={"type": "array", "items": TEXT, "minItems": 1})

EXPORT = document(env=TEXT, variables={"type": "object", "additionalProperties": TEXT})

SECRET = document(env=TEXT, name=TEXT, secret=TEXT, state={"enum": ["set", "unset"]}, set_at=MAYBE_TEXT)

PROMOTE = document(
    file=TEXT,
    to=TEXT,
    changes={"type": "array", "items": table(setting=TEXT, old={}, new={})},
    ids={"type": "array", "items": TEXT},
    **{"from": TEXT},
)

PICTURE = document(env=TEXT, form={"enum": ["mermaid", "dot", "svg"]}, picture=TEXT)

ERROR = document(error=table(kind=TEXT, what={"type": "string", "minLength": 1}, todo=TEXT))

SPENDING = {
    "type": "object",
    "required": ["schema", "env", "currency", "since", "until", "limit", "kill", "metered", "billed", "forecast",
                 "per_hour", "running", "resources", "days"],
    "properties": {
        "schema": {"const": 1},
        "currency": {"enum": ["EUR", "USD"]},
        "metered": {
            "type": "object",
            "required": ["month", "unknown", "stops_assumed"],
            "properties": {"month": {"type": "number", "minimum": 0}},
        },
        "billed": {"type": ["object", "null"]},
        "forecast": {"type": "object", "required": ["amount", "low", "high", "days"]},
        "resources": {"type": "array", "items": {"type": "object", "required": ["what", "amount"]}},
        "days": {"type": "array", "items": {"type": "object", "required": ["day", "amount", "parts"]}},
    },
}  # fmt: skip

MEMBER = table(name=TEXT, email=TEXT, state=TEXT, operator={"type": "boolean"}, since=TEXT)
USERS = document(env=TEXT, users={"type": "array", "items": MEMBER})
WHOAMI = document(
    env=TEXT,
    user=TEXT,
    email=MAYBE_TEXT,
    groups={"type": "array", "items": TEXT},
    expires_at=TEXT,
    way={"enum": ["credentials", "browser", "password"]},
    api_url=TEXT,
)

EVENT = table(timestamp_ms=COUNT, source=TEXT, message=TEXT)
STORY = document(
    env=TEXT, request_id=TEXT, jobs={"type": "array", "items": TEXT}, events={"type": "array", "items": EVENT}
)
