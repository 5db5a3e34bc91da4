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
"""Long enough to look back on a whole year."""

START: Final = "start"
STOP: Final = "stop"
SEEN: Final = "seen"

WORKER: Final = "worker"
"""`by` of the worker, whose `since_ms` is its own start, not its machine's."""
SEEN_EVERY_S: Final = 60
"""How often a worker writes `seen`."""

_SIGN: Final = re.compile(r"(start|stop|seen)_(\w+?)_(\d+)")


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One entry about an instance.

    verb: `start` and `stop` are written by whoever did it; `seen` means that the instance ran at `at_ms`.
    since_ms: identifies the sign: the time of a `start` or `stop`; for `seen` the start of the instance, or of the
        worker where the worker writes it.
    at_ms: the time that the sign is about.
    type: the instance type; empty where the writer doesn't know it.
    by: who wrote it: `router`, `operator`, `guard`, or the instance's own `worker`.
    busy_ms: how long the worker has worked on jobs since its start, as the worker reports.
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
        """UpdateItem's arguments without the table's name. A `seen` that isn't newer than the stored one is refused."""
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
        """The sign in an attribute of a day's item; `None` if the attribute is no sign."""
        named, words = _SIGN.fullmatch(name), str(value).split(" ")
        if named is None or len(words) != 4 or not (words[0].isdecimal() and words[3].isdecimal()):
            return None
        at, kind, by, busy = ("" if word == "-" else word for word in words)
        instance, since_ms = named[2].replace("_", "-"), int(named[3])
        return cls(
            verb=named[1], instance=instance, since_ms=since_ms, at_ms=int(at), type=kind, by=by, busy_ms=int(busy)
        )


def power_pk(at_ms: int) -> str:
    """Key of the item of a day, in UTC: `power#2026-11-26`."""
    return time.strftime("power#%Y-%m-%d", time.gmtime(at_ms / 1000))


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One job's usage, kept in the item of the hour (UTC) in which the job ended; it holds no text of the job."""

    job_id: str
    conversation: str
    prompt_tokens: int
    completion_tokens: int
    busy_ms: int

    def update(self, at_ms: int) -> dict[str, Any]:
        """UpdateItem's arguments without the table's name; recording a job twice changes nothing."""
        value = f"{self.conversation} {self.prompt_tokens} {self.completion_tokens} {self.busy_ms}"
        return {
            "Key": pack({"pk": usage_pk(at_ms)}),
            "UpdateExpression": "SET #job = :used, expires_at = :expires",
            "ExpressionAttributeNames": {"#job": f"job {self.job_id}"},
            "ExpressionAttributeValues": pack({":used": value, ":expires": at_ms // 1000 + POWER_KEPT_S}),
        }

    @classmethod
    def read(cls, name: str, value: Any) -> Usage | None:
        """The usage in an attribute of an hour's item; `None` if the attribute is none."""
        words = str(value).split(" ")
        if not name.startswith("job ") or len(words) != 4 or not all(word.isdecimal() for word in words[1:]):
            return None
        numbers = dict(zip(("prompt_tokens", "completion_tokens", "busy_ms"), map(int, words[1:]), strict=True))
        return cls(job_id=name.removeprefix("job "), conversation=words[0], **numbers)


def usage_pk(at_ms: int) -> str:
    """Key of the item of an hour, in UTC: `usage#2026-11-26T08`."""
    return time.strftime("usage#%Y-%m-%dT%H", time.gmtime(at_ms / 1000))
