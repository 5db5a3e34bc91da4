"""The events of a job while its reply is streamed (`Api.stream`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

QUEUED: Final = "queued"
NODE_STARTING: Final = "node starting"
NODE_STOPPING: Final = "node stopping"
MODEL_LOADING: Final = "model loading"
NODE_UNAVAILABLE: Final = "node unavailable"
RUNNING: Final = "running"


@dataclass(frozen=True)
class Stage:
    """The job has reached one of the stages above.

    `eta_s` is in how many seconds the node is expected to be ready, where the API knows.
    """

    name: str
    eta_s: float | None = None


@dataclass(frozen=True)
class Piece:
    """The next piece of the reply."""

    text: str


@dataclass(frozen=True)
class Restarted:
    """A new attempt writes another text: what was shown so far is void."""


@dataclass(frozen=True)
class Done:
    """The reply is complete. `usage` and `timings` are as in the API's answer."""

    text: str
    model: str
    usage: Mapping[str, Any]
    timings: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """The job failed for good; `reason` is a sentence."""

    text: str
    reason: str


@dataclass(frozen=True)
class Cancelled:
    """The job was cancelled; `text` is the reply so far."""

    text: str


Event = Stage | Piece | Restarted | Done | Failed | Cancelled
