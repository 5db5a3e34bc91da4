"""The guards: they stop machines that nobody needs, and all machines when the budget's limit is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aistratus import policies
from aistratus.core.resource import Ref
from aistratus.policies import Names
from aistratus.resources.events import EventRule
from aistratus.resources.functions import ROLE_ID, Function, ServicePermission
from aistratus.resources.iam import Role
from aistratus.resources.logs import LogGroup
from aistratus.settings import Settings
from aistratus.stack.data import Data
from aistratus.stack.group import Group

if TYPE_CHECKING:
    from aistratus.stack import Shipped

KILL_BUDGET = "killer"
"""The budget whose notices stop machines, by its name without the env's prefix."""

LIMIT_EVERY = "rate(4 minutes)"
"""Machines are stopped within five minutes of reaching the limit. A month of these runs costs some cents."""

STOP_TIMEOUT_S = 300
"""Stopping some hundred machines under throttling takes minutes."""


@dataclass(frozen=True, kw_only=True)
class Guard(Group):
    """The function that stops machines; the kill budget invokes it too."""

    stop_build_box: Function


def declare_guard(settings: Settings, names: Names, shipped: Shipped, data: Data) -> Guard:
    """Declares the function that stops machines, and the rules that invoke it."""
    guard_log = LogGroup(
        key="stop_build_box_log",
        name=f"/aws/lambda/{names.prefix}stop-build-box",
        retention_days=settings.api.log_days,
    )
    guard_role = Role(
        key="stop_build_box_role",
        description="The guard and the budget's killer: stop our instances",
        trust=policies.trust("lambda.amazonaws.com"),
        inline={"stop-build-box": policies.stop_build_box(names, log_group=guard_log.name)},
    )
    stop_build_box = Function(
        key="stop_build_box",
        code=shipped.functions,
        code_sha256=shipped.functions_sha256,
        handler="aistratus.functions.stop_build_box.handle",
        description="Stops machines that run unseen, and all of them when the month's limit is reached",
        role=Ref(guard_role, "arn"),
        log_group=Ref(guard_log, "name"),
        timeout_s=STOP_TIMEOUT_S,
        environment=_environment(settings, names, data) | {ROLE_ID: Ref(guard_role, "unique")},
    )
    guard = EventRule(
        key="force_stop_build_runner",
        description="Stops builders and nodes that run without a sign of life",
        schedule="rate(30 minutes)",
        target=Ref(stop_build_box, "arn"),
    )
    guard_permission = ServicePermission(
        key="force_stop_permission",
        function=Ref(stop_build_box),
        principal="events.amazonaws.com",
        source_arn=Ref(guard, "arn"),
    )
    limit = EventRule(
        key="real_time_limit",
        description="Meters what the month has cost, and stops machines at budget.kill_eur",
        schedule=LIMIT_EVERY,
        target=Ref(stop_build_box, "arn"),
    )
    limit_permission = ServicePermission(
        key="real_time_limit_permission",
        function=Ref(stop_build_box),
        principal="events.amazonaws.com",
        source_arn=Ref(limit, "arn"),
    )
    wanted = (guard_log, guard_role, stop_build_box, guard, guard_permission, limit, limit_permission)
    return Guard(wanted=wanted, stop_build_box=stop_build_box)


def _environment(settings: Settings, names: Names, data: Data) -> dict[str, str | Ref]:
    """The function's environment variables (`aistratus/functions/stop_build_box.py` reads them)."""
    return {
        "AISTRATUS_ENV": names.env,
        "JOBS_TABLE": Ref(data.jobs, "name"),
        "KILL_TOPIC": names.topic("killer"),
        "KILL_BUDGET": f"{names.prefix}{KILL_BUDGET}",
        "KILL_USD": f"{settings.budget.kill_usd:.2f}",
        "GUARD_RULE": names.arn("events", f"rule/{names.prefix}force-stop-build-runner"),
        "LIMIT_RULE": names.arn("events", f"rule/{names.prefix}real-time-limit"),
        "ALERTS_TOPIC": names.topic("alerts"),
        "IDLE_MINUTES": str(settings.node.idle_minutes),
        "MAX_HOURS": str(settings.node.max_hours),
        "ROUTER": names.function("router:live"),
    }
