"""Two records in the jobs table: when machines ran (the power record), and what each job used.

Whoever starts or stops a machine, or sees one run, writes a sign into the item of that day (UTC). Each sign is an
attribute of its own, named by what it is about: writing one twice changes nothing, and no writer has to read first.
`aistratus/costs/spans.py` turns the signs into spans of time.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Final

from aistratus.wire.attributes import pack

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
