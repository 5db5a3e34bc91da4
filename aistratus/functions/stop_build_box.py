"""The guard: a Lambda function that stops machines which cost money for nothing.

Three events invoke it (`guard_events.py`):

- a notice of the kill topic that names the kill budget: every running instance of this env is stopped, and a mark in
  the jobs table keeps the router from waking the node before the month ends, when the budget starts again, or until
  `budget.kill_eur` is raised above the limit in the mark;
- the scheduled rule `force-stop-build-runner`: only what runs without need is stopped (`quiet.py`), such as forgotten
  builders, and nodes whose worker died or didn't switch its machine off in time;
- the scheduled rule `real-time-limit`, every few minutes: the month's cost is computed from our own records
  (`metering.py`). Above the kill limit everything is stopped, long before AWS has computed the bill. `aistratus cost
  resume` sets a higher limit for the rest of the month, which then holds against the kill budget's notices too, as long
  as the month can be metered. Below the limit, a pending change of the node's type is continued (`carry_on.py`).

Any other event, and a notice with another text, is logged and does nothing. So a drill is a message that names the
budget: `aws sns publish --topic-arn <kill topic> --message "drill: tinyllama-<env>-killer"`.

An instance is ours by its tags `Project` and `Env`; the function's role can stop no other. `LaunchTime`, which EC2 sets
at each start, says since when it runs.

An instance that can't be stopped doesn't keep the others running: all batches are tried, then each instance of a
refused batch alone. Each failure is logged, and the function fails at the end, before Lambda's time limit, so that
Lambda retries it after one minute and again after two.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from aistratus import wire
from aistratus.functions import metering, quiet
from aistratus.functions.carry_on import carry_on
from aistratus.functions.guard_events import mentions, notice_of, scheduled_time

BATCH: Final = 50
"""Instances stopped with one call; EC2 stops all of them or none."""

RESERVE_S: Final = 60
"""With less time left no further call is made: a single one, with its retries, may take as long."""

NO_TIME: Final = "NotTried"
"""Used like one of AWS's error codes: the function's time ran out before this instance's turn."""

GONE: Final = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
NO_TABLE: Final = "ResourceNotFoundException"

BRIEF: Final = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=3, read_timeout=20)
"""For calls whose long retries would leave no time for the others. The router, called with it too, may take 15 s."""

Instance = Mapping[str, Any]


class Context(Protocol):
    """Lambda's context of this invocation."""

    def get_remaining_time_in_millis(self) -> int: ...


class StillRunning(Exception):
    """Something couldn't be stopped or written; the text names it. Lambda retries the event."""


def handle(event: Any, context: Context) -> dict[str, Any]:
    """Lambda's entry point.

    Returns:
        `reason` (`budget`, `limit`, `metered`, `quiet`, `ignored` or `unknown`) and the ids that were `stopped`.

    Raises:
        StillRunning: an instance couldn't be stopped, or the mark couldn't be written.
    """
    env = Environment.read(os.environ)
    notice = notice_of(event, env.kill_topic)
    if notice is not None and not mentions(notice, env.kill_budget):
        _log(level="warning", event="ignored", notice=notice[:500], said=f"it doesn't name {env.kill_budget}")
        return {"reason": "ignored", "stopped": []}
    if notice is not None:
        return Run.begin(env, context).kill(notice)
    if (at := scheduled_time(event, env.guard_rule)) is not None:
        return Run.begin(env, context, at).stop_quiet()
    if (at := scheduled_time(event, env.limit_rule)) is not None:
        return Run.begin(env, context, at).enforce_limit()
    _log(level="warning", event="unknown", said="neither the budget's topic nor the guard's rule: nothing is done")
    return {"reason": "unknown", "stopped": []}


@dataclass(frozen=True)
class Environment:
    """The function's environment variables.

    kill_topic, guard_rule, limit_rule: ARNs of what may invoke it.
    alerts: ARN of the topic that notifies people.
    kill_budget, kill_usd: name and limit (US dollars a month) of the kill budget.
    idle_minutes, max_hours: how long the node may run without a job, and altogether, by the settings.
    router: ARN of the router's alias.
    """

    env: str
    jobs_table: str
    kill_topic: str
    guard_rule: str
    kill_budget: str
    kill_usd: float
    limit_rule: str
    alerts: str
    idle_minutes: int
    max_hours: int
    router: str

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        return cls(
            env=variables["AISTRATUS_ENV"],
            jobs_table=variables["JOBS_TABLE"],
            kill_topic=variables["KILL_TOPIC"],
            guard_rule=variables["GUARD_RULE"],
            limit_rule=variables["LIMIT_RULE"],
            alerts=variables["ALERTS_TOPIC"],
            kill_budget=variables["KILL_BUDGET"],
            kill_usd=float(variables["KILL_USD"]),
            idle_minutes=int(variables["IDLE_MINUTES"]),
            max_hours=int(variables["MAX_HOURS"]),
            router=variables["ROUTER"],
        )


@dataclass(frozen=True)
class Run:
    """One invocation, with its clients.

    single: EC2's client for one instance at a time, with fewer retries: long ones would leave no time for the others.
    context: knows how much time is left.
    at: the time of this invocation, seconds since the epoch.
    """

    env: Environment
    ec2: Any
    single: Any
    dynamodb: Any
    context: Context
    at: float

    @classmethod
    def begin(cls, env: Environment, context: Context, at: float | None = None) -> Run:
        patient = Config(retries={"mode": "standard", "total_max_attempts": 8}, connect_timeout=3, read_timeout=20)
        ec2, single = (boto3.client("ec2", config=config) for config in (patient, BRIEF))
        now = datetime.now(UTC).timestamp() if at is None else at
        return cls(env, ec2, single, boto3.client("dynamodb", config=patient), context, now)

    def kill(self, notice: str) -> dict[str, Any]:
        """Stops everything. The mark comes first, or the router might wake what was just stopped."""
        if metering.resumed_beyond(self.dynamodb, self.env.jobs_table, self.at, self.env.kill_usd):
            _log(level="warning", event="ignored", notice=notice[:500], said="an operator has resumed beyond this line")
            return {"reason": "ignored", "stopped": []}
        _log(level="warning", event="budget", notice=notice[:500])
        left = self._mark(self.env.kill_usd)
        why = "the budget's limit is reached"
        return self._stop({instance["InstanceId"]: why for instance in self._running()}, "budget", left)

    def enforce_limit(self) -> dict[str, Any]:
        """Meters the month, and stops everything if that has reached the limit."""
        running = list(self._running())
        found = metering.measure(self.dynamodb, self.env.jobs_table, running, self.at, self.env.kill_usd)
        _log(level="error" if found.unknown else "info", event="metered", **found.item())
        if (spend := metering.metric(found, self.env.env, running=bool(running))) is not None:
            _log(**spend)
        if found.news and running:
            self._notify(
                f"the month can't be counted: {', '.join(found.unknown)}",
                "Until then only AWS's own budget stops machines, up to half a day late. `aistratus cost prices "
                "--refresh` and `aistratus up` look for a price.",
            )
        if not found.over:
            self._carry_on()
            return {"reason": "metered", "stopped": []}
        left = self._mark(found.limit_usd)
        why = f"metered ${found.month_usd:.2f} this month, and the limit is ${found.limit_usd:.2f}"
        done = self._stop({instance["InstanceId"]: why for instance in running}, "limit", left)
        if done["stopped"]:
            again = f"`aistratus --env {self.env.env} cost resume` lifts that."
            stopped = f"stopped: {', '.join(done['stopped'])}; {why}"
            self._notify(stopped, f"No prompt wakes it before the month ends. {again}")
        return done

    def _carry_on(self) -> None:
        """Continues a pending change of the node's type, so that it ends although no request comes."""
        done = carry_on(
            self._item(wire.SHAPE_PK),
            dynamodb=self.dynamodb,
            table=self.env.jobs_table,
            make_lambda=lambda: boto3.client("lambda", config=BRIEF),
            router=self.env.router,
            at=self.at,
        )
        if done is not None:
            _log(**done)

    def _notify(self, what: str, more: str) -> None:
        """Notifies people. Never raises: a failed notice must not undo or repeat what was done."""
        text = f"Env {self.env.env}, {what}. {more}"
        try:
            subject = f"Aistratus {self.env.env}: {what.partition(':')[0]}"
            boto3.client("sns").publish(TopicArn=self.env.alerts, Subject=subject, Message=text)
            _log(level="info", event="told", subject=subject)
        except (ClientError, BotoCoreError) as error:
            _log(level="error", event="not_told", error=_code(error))

    def stop_quiet(self) -> dict[str, Any]:
        """Stops what has run for too long without a job."""
        beat, limits = self._item(wire.HEARTBEAT_PK), self._limits()
        reasons = {
            instance["InstanceId"]: quiet.why_stop(_machine(instance), beat, limits, self.at)
            for instance in self._running()
        }
        return self._stop({one: why for one, why in reasons.items() if why is not None}, "quiet", [])

    def _limits(self) -> quiet.Limits:
        """The node's limits: the operator's last word on idling, else the settings'."""
        minutes = wire.idle_minutes(self._item(wire.IDLE_PK)) or self.env.idle_minutes
        return quiet.Limits(idle_s=minutes * 60, run_s=self.env.max_hours * 3600)

    def _running(self) -> Iterator[Instance]:
        """Every instance of this env that runs or is about to."""
        filters = [
            {"Name": "tag:Project", "Values": ["tinyllama"]},
            {"Name": "tag:Env", "Values": [self.env.env]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
        for page in self.ec2.get_paginator("describe_instances").paginate(Filters=filters):
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]

    def _item(self, pk: str) -> Mapping[str, Any]:
        """An item of the jobs table; empty if there is none, or no table for it."""
        key = wire.pack({"pk": pk})
        try:
            answer = self.dynamodb.get_item(TableName=self.env.jobs_table, Key=key, ConsistentRead=True)
        except ClientError as error:
            if _code(error) != NO_TABLE:
                raise
            return {}
        return wire.unpack(answer.get("Item", {}))

    def _mark(self, limit_usd: float) -> list[str]:
        """Writes the mark by which the router keeps the node off until the month ends or the limit is raised.

        Returns:
            What couldn't be done.
        """
        item = {
            "pk": wire.BUDGET_PK,
            "at_ms": int(self.at * 1000),
            "limit_usd": limit_usd,
            "expires_at": int(next_month(datetime.fromtimestamp(self.at, UTC)).timestamp()),
        }
        try:
            self.dynamodb.put_item(TableName=self.env.jobs_table, Item=wire.pack(item))
        except (ClientError, BotoCoreError) as error:
            _log(level="error", event="not_marked", error=_code(error))
            return [f"the mark for the router ({_code(error)})"]
        return []

    def _stop(self, chosen: Mapping[str, str], reason: str, left: list[str]) -> dict[str, Any]:
        """Stops these instances (id → why), whatever happens to one of them.

        Args:
            left: what has failed already.

        Raises:
            StillRunning: something failed.
        """
        stopped: list[str] = []
        for instance, code in self._attempts(list(chosen)):
            if code is None:
                stopped.append(instance)
                metering.stopped(self.dynamodb, self.env.jobs_table, instance, self.at)
                _log(level="warning", event="stopped", instance=instance, why=chosen[instance])
            elif code not in GONE:
                left = [*left, f"{instance} ({code})"]
                _log(level="error", event="not_stopped", instance=instance, why=chosen[instance], error=code)
        _log(level="info", event="done", reason=reason, stopped=len(stopped), failed=len(left))
        if left:
            raise StillRunning(f"could not be done: {', '.join(left)}")
        return {"reason": reason, "stopped": stopped}

    def _attempts(self, instances: list[str]) -> Iterator[tuple[str, str | None]]:
        """Each instance with the error code of its own attempt, or `None`.

        First all batches, whatever becomes of one; then each instance of a refused batch alone.
        """
        refused: list[str] = []
        for start in range(0, len(instances), BATCH):
            batch = instances[start : start + BATCH]
            if self._attempt(self.ec2, batch) is None:
                yield from ((instance, None) for instance in batch)
            else:
                refused += batch
        for instance in refused:
            yield instance, self._attempt(self.single, [instance])

    def _attempt(self, ec2: Any, instances: list[str]) -> str | None:
        if self.context.get_remaining_time_in_millis() < RESERVE_S * 1000:
            return NO_TIME
        try:
            ec2.stop_instances(InstanceIds=instances)
        except (ClientError, BotoCoreError) as error:
            return _code(error)
        return None


def next_month(now: datetime) -> datetime:
    """The first moment of the next month in UTC, where AWS Budgets counts its months."""
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def _machine(instance: Instance) -> quiet.Machine:
    keys = [tag["Value"] for tag in instance.get("Tags", []) if tag["Key"] == "aistratus:key"]
    started = instance["LaunchTime"].timestamp()
    return quiet.Machine(id=instance["InstanceId"], started=started, is_node=quiet.NODE in keys)


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def _log(**entry: Any) -> None:
    """One JSON line on stdout, which Lambda puts into the function's log group."""
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()
