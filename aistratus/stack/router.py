"""The router: its code behind an alias, and the rule that keeps it warm."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aistratus import policies, wire
from aistratus.core.resource import Ref
from aistratus.policies import Names
from aistratus.resources.events import EventRule
from aistratus.resources.functions import ROLE_ID, Alias, Function, ServicePermission
from aistratus.resources.iam import Role
from aistratus.resources.logs import LogGroup
from aistratus.settings import Settings
from aistratus.stack.data import Data
from aistratus.stack.group import Group
from aistratus.stack.people import Identity

if TYPE_CHECKING:
    from aistratus.stack import Shipped

ROUTER_MEMORY_MB = 512
"""Lambda allots CPU time by memory; with less, users notice a cold start."""
ROUTER_TIMEOUT_S = 15


@dataclass(frozen=True, kw_only=True)
class Router(Group):
    """The router, through its alias."""

    live: Alias


def declare_router(settings: Settings, names: Names, shipped: Shipped, data: Data, identity: Identity) -> Router:
    """Declares the router: role, log, function, alias, and the rule that keeps it warm."""
    router_log = LogGroup(
        key="router_log", name=f"/aws/lambda/{names.prefix}router", retention_days=settings.api.log_days
    )
    router_role = Role(
        key="router_role",
        description="The router: writes jobs and messages, wakes the node",
        trust=policies.trust("lambda.amazonaws.com"),
        inline={"router": policies.router(names, log_group=router_log.name, types=settings.node.types)},
    )
    environment = _environment(settings, names, data, identity) | {ROLE_ID: Ref(router_role, "unique")}
    router = Function(
        key="router",
        code=shipped.router,
        code_sha256=shipped.router_sha256,
        handler="aistratus.router.handler.handle",
        description="Takes prompts, answers for jobs",
        role=Ref(router_role, "arn"),
        log_group=Ref(router_log, "name"),
        memory_mb=ROUTER_MEMORY_MB,
        timeout_s=ROUTER_TIMEOUT_S,
        environment=environment,
    )
    live = Alias(
        key="router_live",
        function=Ref(router),
        name="live",
        code_sha256=router.code_sha256,
        handler=router.handler,
        role=router.role,
        runtime=router.runtime,
        architecture=router.architecture,
        log_group=router.log_group,
        memory_mb=router.memory_mb,
        timeout_s=router.timeout_s,
        environment=environment,
        provisioned=settings.router.provisioned_concurrency,
    )
    return Router(wanted=(router_log, router_role, router, live, *_warmer(settings, live)), live=live)


def _environment(settings: Settings, names: Names, data: Data, identity: Identity) -> dict[str, str | Ref]:
    """The function's environment variables (`aistratus/router/environment.py` reads them)."""
    return {
        "AISTRATUS_ENV": names.env,
        "JOBS_TABLE": Ref(data.jobs, "name"),
        "QUEUE_URL": Ref(data.queue, "url"),
        "DEAD_LETTER_URL": Ref(data.dead_letters, "url"),
        "USER_POOL_ID": Ref(identity.pool),
        "CLIENT_ID": Ref(identity.client),
        "LEDGER_PREFIX": f"/tinyllama/{names.env}",
        "OPENAI_SECRET": Ref(data.openai_key, "name"),
        "RATE_PER_MINUTE": str(settings.api.rate_per_minute),
        "NODE_TYPES": ",".join(settings.node.types),
        "WAKE_AS": settings.node.wake_type or "last",
        "KILL_USD": f"{settings.budget.kill_usd:.2f}",
        "LIMIT_EUR": f"{settings.budget.limit_eur:g}",
        "USD_PER_EUR": f"{settings.budget.usd_per_eur:g}",
        "HEALTH_PATH": settings.api.health_path,
    }


def _warmer(settings: Settings, live: Alias) -> tuple[EventRule, ServicePermission]:
    """The rule that keeps the router warm, always declared, so that switching it off is a change like any other.

    A disabled rule costs nothing.
    """
    minutes = settings.router.warm_minutes or 60
    rule = EventRule(
        key="warmer",
        description="Keeps an environment of the router warm",
        schedule=f"rate({minutes} minute{'s' if minutes > 1 else ''})",
        target=Ref(live, "arn"),
        input=json.dumps(wire.WARM),
        enabled=settings.router.warm_minutes > 0,
    )
    permission = ServicePermission(
        key="warmer_permission",
        function=Ref(live, "function"),
        qualifier="live",
        alias=Ref(live, "arn"),
        principal="events.amazonaws.com",
        source_arn=Ref(rule, "arn"),
    )
    return rule, permission
