"""The daily summary, deployed and run on the embedded cloud: what it publishes, and that it tells nobody twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded_cloud_parts import function, run_instance, unique
from strict_judge import Judge

from aistratus import wire
from aistratus.local.process import Running
from aistratus.package import functions_zip

ACCOUNT = "123456789012"


class Env:
    """What the summary reads and writes, made with plain calls."""

    def __init__(self, judge: Judge, mailbox: Path) -> None:
        self.judge, self.mailbox, self.name = judge, mailbox, unique("e")
        self.person = f"{self.name}@example.com"
        self.budget, self.table = f"tinyllama-{self.name}-monthly", f"tinyllama-{self.name}-jobs"
        limit = {"Amount": "25.00", "Unit": "USD"}
        self.limits = {"BudgetName": self.budget, "BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": limit}
        judge("budgets").create_budget(AccountId=ACCOUNT, Budget=self.limits)
        judge("dynamodb").create_table(
            TableName=self.table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        )
        topic = judge("sns").create_topic(Name=f"tinyllama-{self.name}-alerts")["TopicArn"]
        judge("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint=self.person)
        (asked,) = self.mails()
        judge("sns").confirm_subscription(TopicArn=topic, Token=asked["text"].rpartition(" ")[2])
        self.function = function(
            judge.connect,
            Handler="aistratus.functions.daily_summary.handle",
            Code={"ZipFile": functions_zip().content},
            Timeout=60,
            Environment={
                "Variables": {
                    "AISTRATUS_ENV": self.name,
                    "ACCOUNT": ACCOUNT,
                    "BUDGET": self.budget,
                    "JOBS_TABLE": self.table,
                    "TOPIC": topic,
                    "USD_PER_EUR": "1.25",
                    "RATE_DATE": "2025-12-31",
                }
            },
        )

    def mails(self) -> list[dict[str, Any]]:
        """All mails to the env's person, the one that asks for a confirmation first."""
        return [mail for mail in map(json.loads, self.mailbox.read_text().splitlines()) if mail["to"] == self.person]

    def run(self) -> dict[str, Any]:
        answer = self.judge("lambda").invoke(FunctionName=self.function, Payload=b"{}")
        told: dict[str, Any] = json.load(answer["Payload"])
        assert "FunctionError" not in answer, told
        return told

    def spend(self, usd: float) -> None:
        self.judge.order(budget=self.budget, actual_usd=usd, forecast_usd=usd * 2)

    def yesterday(self, usd: str) -> None:
        """As if the last summary had been another day."""
        month = self.item()["day"][:8]
        day = next(f"{month}{day}" for day in ("01", "02") if f"{month}{day}" != self.item()["day"])
        self.told(day, usd)

    def told(self, day: str, usd: str) -> None:
        """As if the last summary had been this day, with this figure."""
        item = wire.pack({"pk": wire.SUMMARY_PK, "day": day, "usd": usd})
        self.judge("dynamodb").put_item(TableName=self.table, Item=item)

    def item(self) -> dict[str, Any]:
        key = wire.pack({"pk": wire.SUMMARY_PK})
        return wire.unpack(self.judge("dynamodb").get_item(TableName=self.table, Key=key)["Item"])


@pytest.fixture
def env(judge: Judge, strict_cloud: Running) -> Iterator[Env]:
    made = Env(judge, strict_cloud.log.parent / "mail.jsonl")
    yield made
    judge("lambda").delete_function(FunctionName=made.function)


def test_a_quiet_day_is_one_line_and_is_told_once(env: Env) -> None:
    assert env.run()["told"] is True
    assert env.run()["told"] is False
    (mail,) = env.mails()[1:]
    assert mail["subject"] == f"Aistratus {env.name}: nothing counted yet"
    assert mail["text"].count("\n") == 0
    assert "cost allocation tags" in mail["text"]
    assert (env.item()["usd"], env.item()["counted"]) == ("0.0000", False)


def test_once_something_was_counted_a_day_without_spend_is_a_quiet_one(env: Env) -> None:
    env.spend(5)
    env.run()
    assert env.item()["counted"] is True
    env.yesterday("5.0")
    env.spend(5)
    assert env.run()["subject"] == f"Aistratus {env.name}: nothing spent"
    assert "cost allocation tags" not in env.mails()[-1]["text"]


def test_on_the_first_the_last_months_figure_is_not_told_as_this_months(env: Env) -> None:
    env.told("2020-01-31", "12.0")
    env.spend(12.5)
    assert env.run()["subject"] == f"Aistratus {env.name}: a new month, not known yet"
    assert "This month: not known yet" in env.mails()[-1]["text"]
    env.yesterday(env.item()["usd"])
    env.spend(0.5)
    env.run()
    assert "Since the last summary: €0.40." in env.mails()[-1]["text"]
    env.told("2020-01-31", "12.0")
    env.run()
    assert "This month: €0.40" in env.mails()[-1]["text"]


def test_a_day_with_spend_tells_what_it_cost_and_what_runs_of_this_env_alone(env: Env, judge: Judge) -> None:
    def tagged(name: str) -> dict[str, Any]:
        tags = {"Project": "tinyllama", "Env": name, "aistratus:key": "node"}
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        return {"TagSpecifications": [{"ResourceType": "instance", "Tags": listed}]}

    instances = [run_instance(judge.connect, **tagged(name)) for name in (env.name, f"{env.name}-2")]
    env.run()
    env.yesterday("5.0")
    env.spend(12.5)
    assert env.run() == {
        "told": True,
        "subject": f"Aistratus {env.name}: EUR 10.00 of EUR 20.00 this month",
        "running": 1,
    }
    text = env.mails()[-1]["text"]
    assert "Since the last summary: €6.00." in text
    assert "expected by its end: €20.00." in text
    assert f"Running: node {instances[0]} (t3.small)" in text
    assert instances[1] not in text
    stands = {"since_ms": 0, "address_hour": "0", "lines": {"volume": ["0", "0.5"]}}
    record = wire.pack({"pk": wire.STANDS_PK, "hours": {}, "standings": [stands]})
    judge("dynamodb").put_item(TableName=env.table, Item=record)
    env.yesterday("12.5")
    env.run()
    assert "By the env's own record: yesterday €9.60, this month €" in env.mails()[-1]["text"]
    judge("ec2").terminate_instances(InstanceIds=instances)


def test_without_its_budget_it_still_tells_people(env: Env, judge: Judge) -> None:
    judge("budgets").delete_budget(AccountId=ACCOUNT, BudgetName=env.budget)
    assert env.run()["subject"] == f"Aistratus {env.name}: no budget"
    assert "usd" not in env.item()
