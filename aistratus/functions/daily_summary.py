"""A Lambda function that mails a daily summary: the month's cost, the forecast, and what runs now.

The figures are the budget's, because reading them is free (Cost Explorer charges for every request), and those of the
env's own record (`metering.py`), which aren't half a day late. The last summary's figures are kept in the jobs table; a
day's spend is the difference. EventBridge Scheduler may invoke twice: a second call on one day publishes nothing. A
summary is published before it is recorded, so that a failure in between notifies people twice rather than not at all.

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

RETRIES = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})


def handle(event: Any, context: Any) -> dict[str, Any]:
    """Lambda's entry point: publishes the summary, unless that was done today. Returns what it has logged."""
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
    return boto3.client(service, config=RETRIES)


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
    """Whether the budget has ever shown a spend above zero; a new budget shows zero until AWS has computed it."""
    return bool(last.get("counted")) or float(last.get("usd", 0)) > 0


def _amount(spend: Mapping[str, Any] | None) -> float | None:
    return float(spend["Amount"]) if spend else None


def _since(last: Mapping[str, Any], month: str, actual: float) -> float | None:
    """The spend since the last summary (US dollars); `None` without one.

    A new month starts at zero, and so does a budget that was changed, until AWS has computed it again.
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
            # Filter values are patterns, and so may match other envs.
            if tags.get("Env") == env:
                name = tags.get("aistratus:key", tags.get("Name", ""))
                yield Running(name, instance["InstanceId"], instance["InstanceType"], instance["LaunchTime"])


# --- the last summary ---------------------------------------------------------------------------------------------


def _last(table: Any) -> dict[str, Any]:
    """The last summary's day and what the month had cost by then; empty if there was none."""
    key = wire.pack({"pk": wire.SUMMARY_PK})
    item = table.get_item(TableName=os.environ["JOBS_TABLE"], Key=key, ConsistentRead=True).get("Item")
    return wire.unpack(item) if item else {}


def _note(table: Any, now: datetime, spend: Spend | None, counted: bool) -> None:
    """Records the day, the month's cost (zero while unknown), and whether the budget has ever shown a spend."""
    item: dict[str, Any] = {"pk": wire.SUMMARY_PK, "day": f"{now:%Y-%m-%d}"}
    if spend is not None:
        item["usd"] = f"{spend.actual or 0:.4f}"
    item["counted"] = counted if spend is None else spend.counted
    table.put_item(TableName=os.environ["JOBS_TABLE"], Item=wire.pack(item))
