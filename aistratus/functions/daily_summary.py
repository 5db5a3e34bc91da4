"""Once a day: what the env has cost this month, what is expected, and what runs now, to the topic that tells people.

The figures are the budget's own, so that asking costs nothing (Cost Explorer charges for every question), and beside
them what the env's own record says (`metering.py`), which isn't half a day late. What was told
last stands in the jobs table; a day's spend is the difference. Scheduler may call twice: a second call on one day tells
nobody. A message is published before it is noted down, so that a failure in between tells people twice rather than not
at all.

Environment: `AISTRATUS_ENV`, `ACCOUNT`, `BUDGET` and `JOBS_TABLE` (names), `TOPIC` (ARN), `USD_PER_EUR`, `RATE_DATE`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config

from aistratus import wire
from aistratus.costs import meter
from aistratus.functions import metering, summary_text
from aistratus.functions.summary_text import Rate, Running, Spend

PATIENCE = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})


def handle(event: Any, context: Any) -> dict[str, Any]:
    """Tells people, unless they were told today; gives what was told."""
    now = datetime.now(UTC)
    env, table = os.environ["AISTRATUS_ENV"], _client("dynamodb")
    last = _last(table)
    if last.get("day") == f"{now:%Y-%m-%d}":
        return _log({"told": False, "day": last["day"]})
    spend, running = _spend(last, f"{now:%Y-%m}"), sorted(_running(env), key=lambda one: one.name)
    rate = Rate(float(os.environ["USD_PER_EUR"]), os.environ["RATE_DATE"])
    ids = [one.id for one in running]
    metered = metering.summary(table, os.environ["JOBS_TABLE"], ids, now.timestamp())
    subject = summary_text.subject(env, spend, running, rate, metered)
    text = summary_text.body(env, spend, running, rate, now, metered)
    _client("sns").publish(TopicArn=os.environ["TOPIC"], Subject=subject, Message=text)
    _note(table, now, spend, _counted(last))
    return _log({"told": True, "subject": subject, "running": len(running)})


def _client(service: str) -> Any:
    return boto3.client(service, config=PATIENCE)


def _log(result: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps({"level": "info", "event": "daily_summary", **result}))
    return result


# --- figures ----------------------------------------------------------------------------------------------------


def _spend(last: Mapping[str, Any], month: str) -> Spend | None:
    """The budget's figures; `None` if there is no such budget."""
    budgets = _client("budgets")
    try:
        answer = budgets.describe_budget(AccountId=os.environ["ACCOUNT"], BudgetName=os.environ["BUDGET"])
    except budgets.exceptions.NotFoundException:
        return None
    budget = answer["Budget"]
    calculated = budget.get("CalculatedSpend", {})
    actual, forecast = (_amount(calculated.get(name)) for name in ("ActualSpend", "ForecastedSpend"))
    limit, actual = _amount(budget["BudgetLimit"]) or 0.0, actual or 0.0
    counted = actual > 0 or _counted(last)
    if meter.of_last_month(last, month, actual):
        return Spend(limit, None, counted=counted)
    return Spend(limit, actual, forecast, _since(last, month, actual), counted)


def _counted(last: Mapping[str, Any]) -> bool:
    """Was there ever a figure above nothing?"""
    return bool(last.get("counted")) or float(last.get("usd", 0)) > 0


def _amount(spend: Mapping[str, Any] | None) -> float | None:
    return float(spend["Amount"]) if spend else None


def _since(last: Mapping[str, Any], month: str, actual: float) -> float | None:
    """What came since the last summary; `None` without one.

    A new month starts at nothing, and so does a budget that was changed, until AWS has worked it out again.
    """
    if "usd" not in last:
        return None
    before = float(last["usd"]) if str(last["day"]).startswith(month) else 0.0
    return max(0.0, actual - before)


def _running(env: str) -> Iterator[Running]:
    """The env's instances that run, or are about to."""
    filters = {
        "tag:Project": ["tinyllama"],
        "tag:Env": [env],
        "instance-state-name": ["pending", "running"],
    }
    pages = _client("ec2").get_paginator("describe_instances")
    for page in pages.paginate(Filters=[{"Name": name, "Values": values} for name, values in filters.items()]):
        for instance in (entry for reservation in page["Reservations"] for entry in reservation["Instances"]):
            tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
            # Filters take wildcards, and so may find more.
            if tags.get("Env") == env:
                name = tags.get("aistratus:key", tags.get("Name", ""))
                yield Running(name, instance["InstanceId"], instance["InstanceType"], instance["LaunchTime"])


# --- what was told last -----------------------------------------------------------------------------------------


def _last(table: Any) -> dict[str, Any]:
    """The last summary's day and what the month had cost by then; empty if there was none."""
    key = wire.pack({"pk": wire.SUMMARY_PK})
    item = table.get_item(TableName=os.environ["JOBS_TABLE"], Key=key, ConsistentRead=True).get("Item")
    return wire.unpack(item) if item else {}


def _note(table: Any, now: datetime, spend: Spend | None, counted: bool) -> None:
    """Notes the day, what the month has cost (nothing, as long as that isn't known), and whether anything ever did."""
    item: dict[str, Any] = {"pk": wire.SUMMARY_PK, "day": f"{now:%Y-%m-%d}"}
    if spend is not None:
        item["usd"] = f"{spend.actual or 0:.4f}"
    item["counted"] = counted if spend is None else spend.counted
    table.put_item(TableName=os.environ["JOBS_TABLE"], Item=wire.pack(item))
