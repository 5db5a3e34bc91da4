"""The words by which the router's answers tell the node's state, and the state with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aistratus import wire

READY: Final = "ready"
STARTING: Final = "starting"
STOPPING: Final = "stopping"
ASLEEP: Final = "asleep"
UNAVAILABLE: Final = "unavailable"

WARMING: Final = "warming"
PENDING: Final = "pending"
STOPPED: Final = "stopped"
CHANGING: Final = "shape-changing"


@dataclass(frozen=True)
class Node:
    """The node's state; where it can't start, also the reason and when to ask again (seconds)."""

    state: str
    reason: str = ""
    retry_after: int = wire.WAKE_AGAIN_S
