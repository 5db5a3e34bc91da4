"""The contract between client, router and worker.

A prompt becomes a *job*. The router writes a job item into the jobs table and puts a message on the
FIFO queue; the worker takes the message, writes the text so far into the job item, and the client
reads the item through the router. Everything that two of the three must agree on stands here and
nowhere else: statuses, item keys and limits here, the message's form in `message.py`, DynamoDB's
attribute values in `attributes.py`, and what is metered in `records.py`. All of it is used as `wire.…`.

This package ships in `router.zip` and in the worker bundle, so it imports the standard library only
and does nothing at import.

Units: every `*_ms` is milliseconds (since the epoch where it names a moment), `expires_at` is seconds
since the epoch because DynamoDB's TTL reads seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aistratus.wire.attributes import WireError as WireError
from aistratus.wire.attributes import pack as pack
from aistratus.wire.attributes import unpack as unpack
from aistratus.wire.message import Job as Job
from aistratus.wire.message import Turn as Turn
from aistratus.wire.message import deduplication_id as deduplication_id
from aistratus.wire.message import job_pk as job_pk
from aistratus.wire.message import message_group as message_group
from aistratus.wire.records import POWER_KEPT_S as POWER_KEPT_S
from aistratus.wire.records import SEEN as SEEN
from aistratus.wire.records import SEEN_EVERY_S as SEEN_EVERY_S
from aistratus.wire.records import START as START
from aistratus.wire.records import STOP as STOP
from aistratus.wire.records import WORKER as WORKER
from aistratus.wire.records import Sign as Sign
from aistratus.wire.records import Usage as Usage
from aistratus.wire.records import power_pk as power_pk
from aistratus.wire.records import usage_pk as usage_pk

# --- statuses -----------------------------------------------------------------------------------

QUEUED: Final = "queued"
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
FINAL: Final = frozenset({DONE, FAILED, CANCELLED})
"""A job in one of these never changes again and is never run again, unless the operator opens a failed one again to
move its dead letter back (`aistratus queue redrive`)."""

# --- limits (DESIGN: the router and wire) ---------------------------------------------------------

MAX_ATTEMPTS: Final = 3
"""Equals the queue's redrive count: after the third failed attempt SQS moves the message away.

An attempt counts here when its message was received: the item's `attempt`, which tells readers that the text begins
again, may differ when two messages tell about one job.
"""

PROMPT_CHARS: Final = 8_000
HISTORY_TURNS: Final = 64
HISTORY_CHARS: Final = 32_000
"""All turns together. Longer conversations lose their oldest turns at the client."""
MAX_TOKENS: Final = 1_024
STOP_STRINGS: Final = 4
STOP_CHARS: Final = 64
BODY_BYTES: Final = 131_072
"""A larger request body is refused with 413 before it is parsed; SQS would refuse 256 KB later."""

JOB_KEPT_S: Final = 300
"""A finished job can be read for this long."""
JOB_QUEUED_S: Final = 86_400 + 3_600
"""A job nobody finished disappears an hour after its message's retention (one day) has ended."""

REDRIVE_S: Final = 300
"""For this long after a job was opened again (`redriven_ms`) its message may still lie among the dead letters."""

HEARTBEAT_EVERY_S: Final = 5
HEARTBEAT_FRESH_S: Final = 20
"""An older heartbeat means that no worker is awake: the router wakes the node."""

WAKE_AGAIN_S: Final = 15
"""One attempt to start the node in this time, however many requests ask for it."""

WARM: Final[Mapping[str, str]] = {"aistratus": "warm"}
"""The event that only keeps the router warm. An API's event has other fields and never just this one."""

CARRY_ON: Final[Mapping[str, str]] = {"aistratus": "go on"}
"""Likewise, the guard's: the router is to go on with a change of the node's type that waits for its machine to stop."""

# --- problem types --------------------------------------------------------------------------------

PROBLEM: Final = "urn:aistratus:problem:"
INVALID_REQUEST: Final = PROBLEM + "invalid-request"  # 400
UNAUTHORIZED: Final = PROBLEM + "unauthorized"  # 401
FORBIDDEN: Final = PROBLEM + "forbidden"  # 403
NOT_FOUND: Final = PROBLEM + "not-found"  # 404
CONFLICT: Final = PROBLEM + "conflict"  # 409
TOO_LARGE: Final = PROBLEM + "too-large"  # 413
RATE_LIMITED: Final = PROBLEM + "rate-limited"  # 429, with Retry-After
NODE_UNAVAILABLE: Final = PROBLEM + "node-unavailable"  # 503, with Retry-After
SERVICE_UNAVAILABLE: Final = PROBLEM + "service-unavailable"  # 503, with Retry-After

# --- item keys of the jobs table --------------------------------------------------------------------
# The table has one key attribute, `pk` (string), and a TTL attribute, `expires_at`.
# Two attributes of a job item are the worker's own and never shown: `claim`, the id of the receive that claimed it
# last, and `dead_letter` (true), for a job whose attempts are used up: its message is never deleted, so that SQS moves
# it. `aistratus queue redrive` takes both away.

HEARTBEAT_PK: Final = "node#heartbeat"
WAKE_PK: Final = "node#wake"
BUDGET_PK: Final = "node#budget"
"""Written when the budget's limit is reached: until it expires, at the month's end, the node isn't started.

`limit_usd` is that limit; a mark below today's limit means nothing any more.
"""
SUMMARY_PK: Final = "money#summary"
"""What the last daily summary told, and when."""
METER_PK: Final = "money#meter"
"""What the guard metered last: `at_ms`, `month` (`2026-11`), `month_usd`, `day_usd`, `usd_per_hour`, `limit_usd`."""
RESUMED_PK: Final = "money#resumed"
"""Until it expires, at the month's end, machines may run up to `limit_usd`: `by` said so at `at_ms`."""
STANDS_PK: Final = "power#stands"
"""What stands and what it costs, as `aistratus up` wrote it last; see `Standing`."""
PROBE_PK: Final = "health#probe"
"""Written by a health check, to see whether that works."""


IDLE_PK: Final = "node#idle"
"""The idle limit as the operator has set it last: `minutes`. Without it the setting `node.idle_minutes` holds."""
IDLE_MINUTES: Final = (5, 720)
"""The least and the most that may be set. A limit below the time that a boot takes would let no prompt through."""
POWER_OFF: Final = 64
"""Exit status by which the worker asks for its machine to be switched off."""


def idle_minutes(item: Mapping[str, Any]) -> int | None:
    """The limit in that item, if it holds one that is allowed."""
    minutes = item.get("minutes")
    allowed = isinstance(minutes, int) and IDLE_MINUTES[0] <= minutes <= IDLE_MINUTES[1]
    return minutes if allowed else None


BOOTS_PK: Final = "node#boots"
"""The latest boots, as the worker has recorded them: `boots`, each with `type`, `at_ms`, `total_s` and its stages."""
BOOTS_KEPT: Final = 20
BOOTS_COUNTED: Final = 5
"""So many of one type make the estimate: enough for one odd boot not to count, few enough to follow a change."""
BOOT_DEFAULT_S: Final = 40.0
"""Until a type has been booted: 17 s until EC2 shows `running` on any family, 8 s for the operating system, 2 s for the
worker, 10 s for checking, loading and trying a model of 638 MiB; rounded up.

Source: `scripts/bench/boot_timeline.py`, which has the source of each stage.
"""


def boot_s(boots: Sequence[Mapping[str, Any]], type_: str) -> float:
    """Seconds from a start to a worker that is ready: the median of this type's latest boots."""
    taken = [boot.get("total_s") for boot in boots if boot.get("type") == type_]
    latest = sorted(float(one) for one in taken[-BOOTS_COUNTED:] if isinstance(one, (int, float)))
    if not latest:
        return BOOT_DEFAULT_S
    middle = len(latest) // 2
    return latest[middle] if len(latest) % 2 else (latest[middle - 1] + latest[middle]) / 2


MODEL_PK: Final = "node#model"
"""The model that the operator has chosen: `sha256`, `name`, `context_tokens`; an empty `sha256`: the settings' own."""
MODELS: Final = "models/"
"""Where the bucket keeps models, each under its SHA-256."""


def is_sha256(text: str) -> bool:
    """64 hexadecimal digits in lower case, and nothing that could lead elsewhere."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


SHAPE_PK: Final = "node#shape"
"""A change of the node's shape that was asked for: its `type`, until that has been done or `expires_at`.

Whoever finds the node asleep in that time changes it before starting it, so that a change whose command died is
carried out, and a prompt in its middle doesn't wake the node in its old shape.
"""
SHAPE_KEPT_S: Final = 3_600
"""A stop may take a quarter of an hour; what hasn't been carried out an hour later isn't wanted any more."""


def next_shape(types: Sequence[str], current: str) -> str | None:
    """The type to try when AWS has no room for this one: the next of the list, whose last is always to be had."""
    later = list(types)[list(types).index(current) + 1 :] if current in types else list(types)[-1:]
    return next((one for one in later if one != current), None)


def rate_pk(owner: str, minute: int) -> str:
    """Key of the counter of one user's requests in one minute (minutes since the epoch)."""
    return f"rate#{owner}#{minute}"


# --- the ledger: ids of the stack's resources, for code that runs in AWS ------------------------------


def variable(key: str, name: str = "id") -> str:
    """The environment variable that holds an entry of the ledger, as `aistratus env export` names it."""
    return re.sub(r"[^A-Z0-9]+", "_", f"TINYLLAMA_{key}_{name}".upper())


def id_of(record: str) -> str | None:
    """The id in a ledger record (a JSON object in an SSM parameter); `None` for what is no such record."""
    try:
        identity = json.loads(record)["id"]
    except (ValueError, TypeError, KeyError):
        return None
    return identity if isinstance(identity, str) else None
