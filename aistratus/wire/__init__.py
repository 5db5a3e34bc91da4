"""The contract between client, router and worker.

A prompt becomes a *job*. The router writes a job item into the jobs table and puts a message on the
FIFO queue; the worker takes the message, writes the text so far into the job item, and the client
reads the item through the router. Everything that two of the three must agree on stands here and
nowhere else: statuses, item keys, the message's form, limits, and the `type` of each error.

This module ships in `router.zip` and in the worker bundle, so it imports the standard library only
and does nothing at import.

Units: every `*_ms` is milliseconds (since the epoch where it names a moment), `expires_at` is seconds
since the epoch because DynamoDB's TTL reads seconds.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

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


def job_pk(owner: str, job_id: str) -> str:
    """Key of a job item. The owner's `sub` is part of it, so that nobody can even ask for another's job."""
    return f"job#{owner}#{job_id}"


def rate_pk(owner: str, minute: int) -> str:
    """Key of the counter of one user's requests in one minute (minutes since the epoch)."""
    return f"rate#{owner}#{minute}"


def message_group(owner: str, conversation: str) -> str:
    """SQS message group: one conversation of one user is answered in its order."""
    return hashlib.sha256(f"{owner}\n{conversation}".encode()).hexdigest()


def deduplication_id(owner: str, job_id: str) -> str:
    """SQS deduplication id: the same job sent twice within five minutes is one message."""
    return hashlib.sha256(f"{owner}\n{job_id}".encode()).hexdigest()


# --- the power record: what was on, and when ------------------------------------------------------------
# Whoever starts or stops a machine, or sees one run, leaves a sign in the item of the day (UTC) on which that was. Each
# sign is an attribute of its own, named by what it is about, so that one that is left twice is one, and nobody has to
# read before writing. `aistratus/costs/spans.py` makes spans of time of them.

POWER_KEPT_S: Final = 420 * 86_400
"""A year can be looked back on."""

START: Final = "start"
STOP: Final = "stop"
SEEN: Final = "seen"

WORKER: Final = "worker"
"""It knows since when it runs itself, not since when its machine does."""
WITNESS_EVERY_S: Final = 60
"""A worker's sign of life in the power record."""

_SIGN: Final = re.compile(r"(start|stop|seen)_(\w+?)_(\d+)")


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One sign of an instance's life.

    verb: `start` and `stop` are told by whoever did it; `seen` says that it ran at `at_ms`.
    since_ms: names the sign: of `start` and `stop` their own moment; of `seen` when the instance was started, and where
        its worker says so, when that worker was.
    at_ms: the moment that it is a sign of.
    type: the instance's type; empty where the writer doesn't know it.
    by: who left it: `router`, `operator`, `guard`, or the instance's own `worker`.
    busy_ms: for how long of this time the worker's model has worked, as the worker says.
    """

    verb: str
    instance: str
    since_ms: int
    at_ms: int
    type: str = ""
    by: str = ""
    busy_ms: int = 0

    @property
    def name(self) -> str:
        """The attribute's name: letters, digits and `_` only, as expressions take it."""
        return f"{self.verb}_{self.instance.replace('-', '_')}_{self.since_ms}"

    def update(self) -> dict[str, Any]:
        """UpdateItem's arguments besides the table's name. A `seen` that isn't later than the one there is refused."""
        value = f"{self.at_ms:013d} {self.type or '-'} {self.by or '-'} {self.busy_ms}"
        expires = self.at_ms // 1000 + POWER_KEPT_S
        return {
            "Key": pack({"pk": power_pk(self.at_ms)}),
            "UpdateExpression": "SET #sign = :sign, expires_at = :expires",
            "ConditionExpression": "attribute_not_exists(#sign) OR #sign < :sign",
            "ExpressionAttributeNames": {"#sign": self.name},
            "ExpressionAttributeValues": pack({":sign": value, ":expires": expires}),
        }

    @classmethod
    def read(cls, name: str, value: Any) -> Sign | None:
        """The sign in an attribute of a day's item; `None` if it is none."""
        told, words = _SIGN.fullmatch(name), str(value).split(" ")
        if told is None or len(words) != 4 or not (words[0].isdecimal() and words[3].isdecimal()):
            return None
        at, kind, by, busy = ("" if word == "-" else word for word in words)
        instance, since_ms = told[2].replace("_", "-"), int(told[3])
        return cls(
            verb=told[1], instance=instance, since_ms=since_ms, at_ms=int(at), type=kind, by=by, busy_ms=int(busy)
        )


def power_pk(at_ms: int) -> str:
    """Key of the item of a day, in UTC: `power#2026-11-26`."""
    return time.strftime("power#%Y-%m-%d", time.gmtime(at_ms / 1000))


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one job has used, in the item of the hour (UTC) in which it ended; no word of what was said."""

    job_id: str
    conversation: str
    prompt_tokens: int
    completion_tokens: int
    busy_ms: int

    def update(self, at_ms: int) -> dict[str, Any]:
        """UpdateItem's arguments besides the table's name; a job that is told twice is one."""
        value = f"{self.conversation} {self.prompt_tokens} {self.completion_tokens} {self.busy_ms}"
        return {
            "Key": pack({"pk": usage_pk(at_ms)}),
            "UpdateExpression": "SET #job = :used, expires_at = :expires",
            "ExpressionAttributeNames": {"#job": f"job {self.job_id}"},
            "ExpressionAttributeValues": pack({":used": value, ":expires": at_ms // 1000 + POWER_KEPT_S}),
        }

    @classmethod
    def read(cls, name: str, value: Any) -> Usage | None:
        """What an attribute of an hour's item says of a job; `None` if it is of none."""
        words = str(value).split(" ")
        if not name.startswith("job ") or len(words) != 4 or not all(word.isdecimal() for word in words[1:]):
            return None
        numbers = dict(zip(("prompt_tokens", "completion_tokens", "busy_ms"), map(int, words[1:]), strict=True))
        return cls(job_id=name.removeprefix("job "), conversation=words[0], **numbers)


def usage_pk(at_ms: int) -> str:
    """Key of the item of an hour, in UTC: `usage#2026-11-26T08`."""
    return time.strftime("usage#%Y-%m-%dT%H", time.gmtime(at_ms / 1000))


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


# --- the message ------------------------------------------------------------------------------------


class WireError(ValueError):
    """A message or an item that doesn't follow this contract."""


@dataclass(frozen=True)
class Turn:
    """One earlier message of a conversation; `role` is `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the worker needs to answer one prompt; the body of the SQS message.

    `seed` is always set (the router draws one), so that a second attempt writes the same text again.
    """

    job_id: str
    owner: str
    conversation: str
    prompt: str
    submitted_ms: int
    seed: int
    history: tuple[Turn, ...] = ()
    system: str | None = None
    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.95
    stop: tuple[str, ...] = ()

    @property
    def pk(self) -> str:
        return job_pk(self.owner, self.job_id)

    def to_message(self) -> str:
        """JSON text, ASCII only: SQS refuses some Unicode characters and NUL, JSON escapes carry them."""
        return json.dumps({"schema": 1, **asdict(self)}, ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def from_message(cls, body: str) -> Job:
        """The job in an SQS message body.

        Raises:
            WireError: the body isn't JSON, isn't schema 1, or misses a field.
        """
        try:
            data: dict[str, Any] = json.loads(body)
            if data.pop("schema") != 1:
                raise WireError("the message's schema isn't 1")
            data["history"] = tuple(Turn(**turn) for turn in data["history"])
            data["stop"] = tuple(data["stop"])
            job = cls(**data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WireError(f"not a job message: {error}") from error
        if wrong := job._wrong_types():
            raise WireError(f"not a job message: {', '.join(wrong)} of a wrong type")
        return job

    def _wrong_types(self) -> list[str]:
        """Fields whose values no router writes; met here, they fail one message and not the program that reads it."""
        wrong = [name for name, kinds in _KINDS.items() if type(getattr(self, name)) not in kinds]
        if any(type(text) is not str for turn in self.history for text in (turn.role, turn.content)):
            wrong.append("history")
        if any(type(text) is not str for text in self.stop):
            wrong.append("stop")
        return wrong


_TEXT: Final = (str,)
_WHOLE: Final = (int,)
_NUMBER: Final = (int, float)
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "job_id": _TEXT,
    "owner": _TEXT,
    "conversation": _TEXT,
    "prompt": _TEXT,
    "submitted_ms": _WHOLE,
    "seed": _WHOLE,
    "system": (str, type(None)),
    "max_tokens": _WHOLE,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
}
"""Exact types: JSON's `true` is an `int` to Python and none here."""


# --- DynamoDB attribute values ------------------------------------------------------------------------
# Router (plain HTTP) and worker (boto3's low-level client) speak the same JSON form.


def pack(item: Mapping[str, Any]) -> dict[str, Any]:
    """A plain mapping as DynamoDB's typed attribute values; `None` entries are left out."""
    return {name: _pack(value) for name, value in item.items() if value is not None}


def unpack(item: Mapping[str, Any]) -> dict[str, Any]:
    """DynamoDB's typed attribute values as a plain mapping; whole numbers come back as int."""
    return {name: _unpack(value) for name, value in item.items()}


def _pack(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, float)):
        return {"N": repr(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, Mapping):
        return {"M": pack(value)}
    if isinstance(value, (list, tuple)):
        return {"L": [_pack(entry) for entry in value]}
    raise WireError(f"a {type(value).__name__} can't be stored")


def _unpack(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "N":
        return int(content) if content.lstrip("-").isdigit() else float(content)
    if kind == "M":
        return unpack(content)
    if kind == "L":
        return [_unpack(entry) for entry in content]
    if kind == "NULL":
        return None
    return content
