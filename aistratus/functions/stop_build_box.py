"""Stops machines that cost money for nothing. Three callers, told apart by what they send:

- the budget's killer topic (an SNS notice that names the killer's budget): every running instance of this env is
  stopped, and a mark in the jobs table keeps the router from waking the node again before the month ends, when the
  budget begins anew, or until `budget.kill_eur` is raised above the limit that stands in the mark;
- the rule `force-stop-build-runner` (a scheduled event): only what runs without need is stopped (`quiet.py`): builders
  that were forgotten, nodes whose worker died or didn't switch its machine off when its time was over;
- the rule `real-time-limit`, every few minutes: what the month has cost by our own records (`metering.py`). Above the
  killer's line everything is stopped as by the killer, long before AWS has counted it. Whoever runs `aistratus cost
  resume` draws a higher line for the rest of the month, which then holds for the killer's notices too, as long as the
  month can be counted. Below it, a change of the node's type that the API began is carried on (`carry_on.py`).

Anything else does nothing and says so, other words on the topic too. So a drill is a message that names the budget:
`aws sns publish --topic-arn <the killer's> --message "drill: tinyllama-<env>-killer"`.

An instance is ours by its tags `Project` and `Env`; the function's role can stop no other. Since when one runs is its
`LaunchTime`, which EC2 sets anew at each start.

One that can't be stopped doesn't keep the others running: all batches are tried, then singly what was in a refused one;
each failure is told in the log, and the function fails at the end, in time before Lambda would end it, so that Lambda
calls it again after a minute, and once more after two.
"""

from __future__ import annotations

import json
import os
import re
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

BATCH: Final = 50
"""Instances stopped with one call, which EC2 carries out for all of them or for none."""

RESERVE_S: Final = 60
"""With less than this left no other call is begun: a single one, with its retries, may take as long."""

NO_TIME: Final = "NotTried"
"""Beside AWS's own error codes: the function's time ran out before this one's turn."""

GONE: Final = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
NO_TABLE: Final = "ResourceNotFoundException"

BRIEF: Final = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=3, read_timeout=20)
"""Where patience with one call would cost others their turn. The router, which is one of them, may take 15 s."""

Instance = Mapping[str, Any]


class Context(Protocol):
    """What Lambda says about this call."""

    def get_remaining_time_in_millis(self) -> int: ...


class StillRunning(Exception):
    """Not everything that was to be done could be done; the text names what is left."""


def handle(event: Any, context: Context) -> dict[str, Any]:
    """Lambda's entry point.

    Returns:
        `reason` (`budget`, `quiet`, `ignored` or `unknown`) and the ids that were `stopped`.

    Raises:
        StillRunning: an instance couldn't be stopped, or the mark couldn't be written.
    """
    place = Place.read(os.environ)
    notice, moment = notice_of(event, place.kill_topic), moment_of(event, place.guard_rule)
    if notice is not None and not names(notice, place.kill_budget):
        _log(level="warning", event="ignored", notice=notice[:500], said=f"it doesn't name {place.kill_budget}")
        return {"reason": "ignored", "stopped": []}
    if notice is not None:
        return Work.begin(place, context).kill(notice)
    if moment is not None:
        return Work.begin(place, context, moment).tidy(moment)
    if (looked := moment_of(event, place.limit_rule)) is not None:
        return Work.begin(place, context, looked).limit()
    _log(level="warning", event="unknown", said="neither the budget's topic nor the guard's rule: nothing is done")
    return {"reason": "unknown", "stopped": []}


@dataclass(frozen=True)
class Place:
    """Where the function works: the env, its jobs table, and the ARNs of those who may call it.

    alerts: ARN of the topic that tells people.
    kill_budget, kill_usd: the killer's budget, by its name and its limit in US dollars.
    idle_minutes, max_hours: how long the node may run without a job, and altogether, by the settings.
    router: the router's alias.
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
    def read(cls, variables: Mapping[str, str]) -> Place:
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


# --- who calls --------------------------------------------------------------------------------------------------


def notice_of(event: Any, topic: str) -> str | None:
    """Subject and text of an SNS notice of this very topic; `None` for any other event."""
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or not records:
        return None
    texts = []
    for record in records:
        notice = record.get("Sns") if isinstance(record, dict) and record.get("EventSource") == "aws:sns" else None
        if not isinstance(notice, dict) or notice.get("TopicArn") != topic:
            return None
        texts += [str(notice[name]) for name in ("Subject", "Message") if notice.get(name)]
    return "\n".join(texts)


def names(notice: str, budget: str) -> bool:
    """Does a notice speak of this very budget?

    AWS doesn't document its text; it has had a line `Budget Name: …`. Where the name stands doesn't matter here: a
    notice in another form would otherwise let machines run on.
    """
    return re.search(rf"(?<![\w-]){re.escape(budget)}(?![\w-])", notice) is not None


def moment_of(event: Any, rule: str) -> float | None:
    """The time (seconds since the epoch) of a scheduled event of this very rule; `None` for any other event."""
    wanted = {"source": "aws.events", "detail-type": "Scheduled Event", "resources": [rule]}
    if not isinstance(event, dict) or any(event.get(name) != value for name, value in wanted.items()):
        return None
    try:
        moment = datetime.fromisoformat(event["time"])
    except (KeyError, TypeError, ValueError):
        return None
    return moment.timestamp() if moment.tzinfo else None


# --- what is done -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """One run, with its clients.

    single: EC2's client for one instance at a time, where patience with one would cost the others their turn.
    context: tells how much time is left.
    at: the moment of this run, seconds since the epoch.
    """

    place: Place
    ec2: Any
    single: Any
    dynamodb: Any
    context: Context
    at: float

    @classmethod
    def begin(cls, place: Place, context: Context, at: float | None = None) -> Work:
        patient = Config(retries={"mode": "standard", "total_max_attempts": 8}, connect_timeout=3, read_timeout=20)
        ec2, single = (boto3.client("ec2", config=config) for config in (patient, BRIEF))
        now = datetime.now(UTC).timestamp() if at is None else at
        return cls(place, ec2, single, boto3.client("dynamodb", config=patient), context, now)

    def kill(self, notice: str) -> dict[str, Any]:
        """Stops everything. The mark comes first, or the router might wake what was just stopped."""
        if metering.resumed_beyond(self.dynamodb, self.place.jobs_table, self.at, self.place.kill_usd):
            _log(level="warning", event="ignored", notice=notice[:500], said="an operator has resumed beyond this line")
            return {"reason": "ignored", "stopped": []}
        _log(level="warning", event="budget", notice=notice[:500])
        left = self._mark(self.place.kill_usd)
        why = "the budget's limit is reached"
        return self._stop({instance["InstanceId"]: why for instance in self._running()}, "budget", left)

    def limit(self) -> dict[str, Any]:
        """Stops everything if our own records say that the month's limit is reached."""
        running = list(self._running())
        found = metering.measure(self.dynamodb, self.place.jobs_table, running, self.at, self.place.kill_usd)
        _log(level="error" if found.unknown else "info", event="metered", **found.item())
        if found.news and running:
            self._tell(
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
            again = f"`aistratus --env {self.place.env} cost resume` lifts that."
            stopped = f"stopped: {', '.join(done['stopped'])}; {why}"
            self._tell(stopped, f"No prompt wakes it before the month ends. {again}")
        return done

    def _carry_on(self) -> None:
        """What the API has begun goes on, whether anybody looks or not."""
        done = carry_on(
            self._item(wire.SHAPE_PK),
            dynamodb=self.dynamodb,
            table=self.place.jobs_table,
            make_lambda=lambda: boto3.client("lambda", config=BRIEF),
            router=self.place.router,
            at=self.at,
        )
        if done is not None:
            _log(**done)

    def _tell(self, what: str, more: str) -> None:
        """Tells people. What was done is done, whether they hear of it or not."""
        text = f"Env {self.place.env}, {what}. {more}"
        try:
            subject = f"Aistratus {self.place.env}: {what.partition(':')[0]}"
            boto3.client("sns").publish(TopicArn=self.place.alerts, Subject=subject, Message=text)
            _log(level="info", event="told", subject=subject)
        except (ClientError, BotoCoreError) as error:
            _log(level="error", event="not_told", error=_code(error))

    def tidy(self, moment: float) -> dict[str, Any]:
        """Stops what has been quiet for too long at this moment."""
        beat, limits = self._item(wire.HEARTBEAT_PK), self._limits()
        reasons = {
            instance["InstanceId"]: quiet.why_stop(_machine(instance), beat, limits, moment)
            for instance in self._running()
        }
        return self._stop({one: why for one, why in reasons.items() if why is not None}, "quiet", [])

    def _limits(self) -> quiet.Limits:
        """The node's limits: the operator's last word on idling, else the settings'."""
        minutes = wire.idle_minutes(self._item(wire.IDLE_PK)) or self.place.idle_minutes
        return quiet.Limits(idle_s=minutes * 60, run_s=self.place.max_hours * 3600)

    def _running(self) -> Iterator[Instance]:
        """Every instance of this env that runs or is about to."""
        filters = [
            {"Name": "tag:Project", "Values": ["tinyllama"]},
            {"Name": "tag:Env", "Values": [self.place.env]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
        for page in self.ec2.get_paginator("describe_instances").paginate(Filters=filters):
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]

    def _item(self, pk: str) -> Mapping[str, Any]:
        """An item of the jobs table; empty if there is none, or no table for it."""
        key = wire.pack({"pk": pk})
        try:
            answer = self.dynamodb.get_item(TableName=self.place.jobs_table, Key=key, ConsistentRead=True)
        except ClientError as error:
            if _code(error) != NO_TABLE:
                raise
            return {}
        return wire.unpack(answer.get("Item", {}))

    def _mark(self, limit_usd: float) -> list[str]:
        """Tells the router that the node is to stay off until the month ends or the limit is raised.

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
            self.dynamodb.put_item(TableName=self.place.jobs_table, Item=wire.pack(item))
        except (ClientError, BotoCoreError) as error:
            _log(level="error", event="not_marked", error=_code(error))
            return [f"the mark for the router ({_code(error)})"]
        return []

    def _stop(self, chosen: Mapping[str, str], reason: str, left: list[str]) -> dict[str, Any]:
        """Stops these instances (id → why), whatever happens to one of them.

        Args:
            left: what failed before.
        """
        stopped: list[str] = []
        for instance, code in self._attempts(list(chosen)):
            if code is None:
                stopped.append(instance)
                metering.stopped(self.dynamodb, self.place.jobs_table, instance, self.at)
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

        First all batches, whatever becomes of one; then singly what was in a refused batch.
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
