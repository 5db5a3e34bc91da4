"""Decides which machine has run for too long without need, from EC2's description and the worker's last heartbeat.

This is the second of three guards. The first is the worker, which switches its own machine off; this one stops what the
worker leaves running because it died, hangs or counts wrongly. It runs every 30 minutes and allows `GRACE_S` beyond the
worker's limit, so that no node runs for more than an hour beyond the limit without a job, whatever its worker does. A
node without any sign of life is stopped like a builder, however long it may idle: it answers nobody. The third guard is
the budget's limit, whatever the reason that anything runs. Pure functions: no call, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

QUIET_S: Final = 55 * 60
"""How long any machine, builder or node, may run unseen, whatever its own limits: none does for over 85 minutes."""

GRACE_S: Final = 25 * 60
"""Beyond the node's own limits. A first boot may load for 15 minutes before its limit begins to count."""

NODE: Final = "node"
"""The node's key in its tags."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long the node may run: seconds without a job, and seconds altogether."""

    idle_s: float
    run_s: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A running instance: its latest start (seconds since the epoch), and whether it is the node."""

    id: str
    started: float
    is_node: bool


def why_stop(machine: Machine, beat: Mapping[str, Any], limits: Limits, moment: float) -> str | None:
    """The reason to stop a machine at this moment (seconds since the epoch), or `None`.

    Args:
        beat: the latest heartbeat in the jobs table, which may be another machine's.
    """
    seen, worked = _signs(machine, beat)
    quiet, idle, run = moment - seen, moment - worked, moment - machine.started
    if machine.is_node and idle > limits.idle_s + GRACE_S:
        return f"no job for {idle / 60:.0f} minutes, and its worker didn't switch it off after {limits.idle_s / 60:.0f}"
    if machine.is_node and run > limits.run_s + GRACE_S:
        limit = limits.run_s / 3600
        return f"it has run for {run / 3600:.1f} hours, and its worker didn't switch it off after {limit:.0f}"
    return f"no heartbeat and no job for {quiet / 60:.0f} minutes" if quiet > QUIET_S else None


def _signs(machine: Machine, beat: Mapping[str, Any]) -> tuple[float, float]:
    """When the machine last gave a sign of life, and when it last had a job: its start, or what its own worker says."""
    at_ms, idle_s = beat.get("at_ms"), beat.get("idle_s", 0)
    if beat.get("instance_id") != machine.id or not isinstance(at_ms, (int, float)):
        return machine.started, machine.started
    idle = idle_s if isinstance(idle_s, (int, float)) else 0
    return max(machine.started, at_ms / 1000), max(machine.started, at_ms / 1000 - idle)
