"""The node's state, type, time until it sleeps and time until it is ready, from the jobs table alone.

The duration of a boot is estimated from the latest ones (`wire.boot_s`); before the first one, from a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router.clock import Clock, Deadline
from aistratus.router.node_state import CHANGING, PENDING, READY, STOPPED, WARMING
from aistratus.router.table import Table

BOOT_WITHIN_S: Final = 900
"""A start that hasn't led to a worker within this time counts as failed."""


@dataclass(frozen=True)
class NodeView:
    """Reads four small items."""

    table: Table
    clock: Clock

    def read(self, deadline: Deadline) -> dict[str, Any]:
        """`{"state", "type", "stops_in_s", "eta_s"}`; `None` where it is unknown or doesn't apply."""
        beat = self.table.get(wire.HEARTBEAT_PK, deadline) or {}
        age_s = (self.clock.ms() - int(beat.get("at_ms", 0))) / 1000
        if age_s <= wire.HEARTBEAT_FRESH_S and beat.get("state") != "loading":
            left = beat.get("stops_in_s")
            stops = None if left is None else max(0, int(left - age_s))
            return {"state": READY, "type": beat.get("type"), "stops_in_s": stops, "eta_s": 0}
        wake = self.table.get(wire.WAKE_PK, deadline) or {}
        shape = self.table.get(wire.SHAPE_PK, deadline) or {}
        started_ms = int(wake.get("started_ms", 0))
        waited_s = (self.clock.ms() - started_ms) / 1000
        boots = self._boots(deadline)
        type_ = shape.get("type") or (beat if age_s <= wire.HEARTBEAT_FRESH_S else wake).get("type") or beat.get("type")
        if age_s <= wire.HEARTBEAT_FRESH_S:
            state = WARMING
        elif shape.get("type"):
            state, waited_s = CHANGING, 0.0
        else:
            # A boot that has led to a worker is over: without its heartbeat the machine sleeps again.
            over = bool(boots) and int(boots[-1].get("at_ms", 0)) >= started_ms
            state = PENDING if waited_s < BOOT_WITHIN_S and not over else STOPPED
        whole = wire.boot_s(boots, str(type_ or ""))
        waited = 0.0 if state == STOPPED else min(waited_s, whole)
        return {"state": state, "type": type_, "stops_in_s": None, "eta_s": max(1, round(whole - waited))}

    def eta_s(self, deadline: Deadline) -> int | None:
        """Seconds until the node is ready, if it is on its way."""
        eta: int | None = self.read(deadline)["eta_s"]
        return eta

    def _boots(self, deadline: Deadline) -> list[dict[str, Any]]:
        boots = (self.table.get(wire.BOOTS_PK, deadline) or {}).get("boots", [])
        return [boot for boot in boots if isinstance(boot, dict)] if isinstance(boots, list) else []
