"""Money: a budget that warns, one that stops all machines, and a summary every day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistratus import policies, wire
from aistratus.cloud import PROJECT
from aistratus.core.resource import Ref, Resource
from aistratus.policies import Names
from aistratus.resources.budgets import Budget, notice
from aistratus.resources.functions import ROLE_ID, Function, ServicePermission
from aistratus.resources.iam import Role
from aistratus.resources.logs import LogGroup
from aistratus.resources.scheduler import Schedule, ScheduleGroup
from aistratus.resources.sns import Topic, TopicSubscription
from aistratus.settings import Settings
from aistratus.stack.data import Data
from aistratus.stack.group import Group
from aistratus.stack.guard import KILL_BUDGET, Guard
from aistratus.stack.people import People

if TYPE_CHECKING:
    from aistratus.stack import Shipped

SUMMARY_AT = "cron(0 7 * * ? *)"
"""Seven in the morning, UTC."""


def declare_money(
    settings: Settings, names: Names, shipped: Shipped, data: Data, people: People, guard: Guard
) -> Group:
    """Declares the budgets, the topic from the second one to the guard, and the daily summary."""
    # AWS counts what carries these tags once somebody has activated them for billing.
    counted = {"Project": PROJECT, "Env": names.env}
    told = (settings.auth.operator_email,) if settings.auth.operator_email else ()
    warned = (notice(50), notice(80), notice(100), notice(100, "forecasted"))
    budget = Budget(
        key="budget",
        name="monthly",
        limit_usd=settings.budget.limit_usd,
        counted=counted,
        notices=dict.fromkeys(warned, told) if told else {},
    )
    killer = Topic(key="killer", name="killer", policy=policies.killer_topic(names))
    kill_budget = Budget(
        key="kill_budget",
        name=KILL_BUDGET,
        limit_usd=settings.budget.kill_usd,
        counted=counted,
        notices={notice(100): (Ref(killer, "arn"),)},
    )
    killer_function = TopicSubscription(
        key="killer_function", topic=Ref(killer, "arn"), protocol="lambda", endpoint=Ref(guard.stop_build_box, "arn")
    )
    killer_permission = ServicePermission(
        key="killer_permission",
        function=Ref(guard.stop_build_box),
        principal="sns.amazonaws.com",
        source_arn=Ref(killer, "arn"),
    )
    summary = _summary(settings, names, shipped, data, people, budget)
    return Group(wanted=(budget, killer, kill_budget, killer_function, killer_permission, *summary))


def _summary(
    settings: Settings, names: Names, shipped: Shipped, data: Data, people: People, budget: Budget
) -> tuple[Resource, ...]:
    """The daily summary: its function, and the schedule that invokes it."""
    summary_log = LogGroup(
        key="daily_summary_log",
        name=f"/aws/lambda/{names.prefix}daily-summary",
        retention_days=settings.api.log_days,
    )
    summary_role = Role(
        key="daily_summary_role",
        description="The daily summary: reads the budget and what runs, tells people",
        trust=policies.trust("lambda.amazonaws.com"),
        inline={
            "daily-summary": policies.daily_summary(
                names, log_group=summary_log.name, budget=budget.name, item=wire.SUMMARY_PK
            )
        },
    )
    summary = Function(
        key="daily_summary",
        code=shipped.functions,
        code_sha256=shipped.functions_sha256,
        handler="aistratus.functions.daily_summary.handle",
        description="What the env has cost, and what runs",
        role=Ref(summary_role, "arn"),
        log_group=Ref(summary_log, "name"),
        timeout_s=60,
        environment={
            "AISTRATUS_ENV": names.env,
            "ACCOUNT": names.account,
            "BUDGET": Ref(budget, "name"),
            "JOBS_TABLE": Ref(data.jobs, "name"),
            "TOPIC": Ref(people.alerts, "arn"),
            "USD_PER_EUR": f"{settings.budget.usd_per_eur:g}",
            "RATE_DATE": settings.budget.rate_date.isoformat(),
            ROLE_ID: Ref(summary_role, "unique"),
        },
    )
    schedules = ScheduleGroup(key="schedules")
    summary_schedule_role = Role(
        key="daily_summary_schedule_role",
        description="The schedule of the daily summary: calls its function",
        trust=policies.trust("scheduler.amazonaws.com", account=names.account),
        inline={"call": policies.call_function(names, function=summary.name)},
    )
    summary_schedule = Schedule(
        key="daily_summary_schedule",
        group=Ref(schedules, "name"),
        description="The daily summary",
        expression=SUMMARY_AT,
        target=Ref(summary, "arn"),
        role=Ref(summary_schedule_role, "arn"),
        flexible_min=15,
    )
    return summary_log, summary_role, summary, schedules, summary_schedule_role, summary_schedule
