"""The parts of the embedded cloud that patches use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aistratus.local.front import ServiceLocks
    from aistratus.local.nodes import Nodes
    from aistratus.local.runner import FunctionRunner


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Addresses, places and parts of one embedded cloud.

    `endpoint` is where AWS's APIs answer, `gateway` where HTTP APIs can be called, `state_dir` a private folder,
    `locks` what requests hold while they change a service's state: who changes it outside of a request takes the
    same lock.
    """

    endpoint: str
    gateway: str
    account: str
    state_dir: Path
    runner: FunctionRunner
    nodes: Nodes
    locks: ServiceLocks

    def close(self) -> None:
        """Ends the nodes and with them their workers."""
        self.nodes.close()
