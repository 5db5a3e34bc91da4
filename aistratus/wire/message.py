"""A job as the SQS message that carries it from the router to the worker, and the keys that are derived from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from aistratus.wire.attributes import WireError


def job_pk(owner: str, job_id: str) -> str:
    """Key of a job item. The owner's `sub` is part of it, so that nobody can even ask for another's job."""
    return f"job#{owner}#{job_id}"


def message_group(owner: str, conversation: str) -> str:
    """SQS message group: one conversation of one user is answered in its order."""
    return hashlib.sha256(f"{owner}\n{conversation}".encode()).hexdigest()


def deduplication_id(owner: str, job_id: str) -> str:
    """SQS deduplication id: the same job sent twice within five minutes is one message."""
    return hashlib.sha256(f"{owner}\n{job_id}".encode()).hexdigest()


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
