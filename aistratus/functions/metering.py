"""The guard's meter: the env's cost this month by our own records, long before AWS has computed the bill.

Every few minutes the guard writes a sign for each running machine into the power record, reads the month's signs and
the prices that `aistratus up` wrote, and computes the cost with the same code as `aistratus cost`. The result is kept
in the jobs table, where the API and the daily summary read it.

A machine whose type has no known price can't be metered, and so isn't stopped in time; people are told so once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from aistratus import wire
from aistratus.costs import meter
from aistratus.costs.forecast import DAYS, forecast
from aistratus.costs.spans import spans as spans_of
from aistratus.wire import Sign

CONDITION_FAILED: Final = "ConditionalCheckFailedException"
BY: Final = "guard"
KEYS_A_CALL: Final = 100
"""BatchGetItem takes no more. Source: DynamoDB API reference, BatchGetItem."""
METER_FRESH_S: Final = 900
"""The guard meters every four minutes; after three missed runs its last result isn't relied upon."""
NO_PRICES: Final = "no prices are recorded; `aistratus up` records them"


@dataclass(frozen=True)
class Metered:
    """The month's cost at `at_ms`, in US dollars.

    limit_usd: the cost at which machines are stopped: the kill limit, or a higher one set by `aistratus cost resume`.
    unknown: instance types without a known price, which aren't counted.
    news: whether one of them wasn't unknown at the last run.
    """

    at_ms: int
    month_usd: float
    day_usd: float
    usd_per_hour: float
    limit_usd: float
    unknown: tuple[str, ...] = ()
    news: bool = False

    @property
    def over(self) -> bool:
        return self.month_usd >= self.limit_usd

    def item(self) -> dict[str, Any]:
        """As it stands in the jobs table."""
        return {
            "pk": wire.METER_PK,
            "at_ms": self.at_ms,
            "month": f"{datetime.fromtimestamp(self.at_ms / 1000, UTC):%Y-%m}",
            "month_usd": round(self.month_usd, 6),
            "day_usd": round(self.day_usd, 6),
            "usd_per_hour": round(self.usd_per_hour, 6),
            "limit_usd": self.limit_usd,
            "unknown": list(self.unknown),
            "expires_at": self.at_ms // 1000 + wire.POWER_KEPT_S,
        }


SPEND_EVERY_H: Final = 6
"""A metric is paid for by the hours that have data. While nothing runs, little changes."""
LOOK_S: Final = 480
"""The guard surely looks once in this time, even if one look of four minutes is late."""


def metric(found: Metered, env: str, *, running: bool) -> dict[str, Any] | None:
    """The metric `SpendUSD` for the dashboard, in the embedded metric format: Lambda's logs turn the line into it.

    `None` where this look has none to tell: nothing runs and the last one is fresh, or something has no known price.
    Source: CloudWatch user guide, "Embedded metric format specification".
    """
    due = found.at_ms // 1000 % (SPEND_EVERY_H * 3600) < LOOK_S
    if found.unknown or not (running or due):
        return None
    described = {"Namespace": "Aistratus", "Dimensions": [["Env"]], "Metrics": [{"Name": "SpendUSD", "Unit": "None"}]}
    return {
        "_aws": {"Timestamp": found.at_ms, "CloudWatchMetrics": [described]},
        "event": "spend",
        "Env": env,
        "SpendUSD": round(found.month_usd, 4),
    }


def measure(dynamodb: Any, table: str, running: Iterable[Mapping[str, Any]], at_s: float, kill_usd: float) -> Metered:
    """Computes the month's cost and records it in the jobs table.

    Args:
        running: the env's instances that run now, as EC2 describes them.
        at_s: now, in seconds since the epoch.
        kill_usd: the kill limit, which holds unless an operator has resumed beyond it.
    """
    now_ms, running = int(at_s * 1000), list(running)
    for instance in running:
        leave(dynamodb, table, _seen(instance, now_ms))
    begin_ms, _ = meter.month_of(now_ms)
    items = _items(dynamodb, table, [*_days(begin_ms, now_ms), wire.STANDS_PK, wire.RESUMED_PK, wire.METER_PK])
    before = items.pop(wire.METER_PK, {})
    tariff = meter.Tariff.read(items.pop(wire.STANDS_PK, {}))
    resumed = items.pop(wire.RESUMED_PK, {})
    signs = [sign for item in items.values() for sign in map(Sign.read, item, item.values()) if sign]
    spans = spans_of(signs, now_ms, running=[instance["InstanceId"] for instance in running])
    made = meter.stretches(spans, tariff, now_ms)
    month = meter.bill(made, begin_ms, now_ms)
    unknown = tuple(sorted(month.unknown)) or (() if tariff.standings else (NO_PRICES,))
    found = Metered(
        at_ms=now_ms,
        month_usd=float(month.usd),
        day_usd=float(meter.bill(made, now_ms - now_ms % 86_400_000, now_ms).usd),
        usd_per_hour=float(meter.per_hour(made, now_ms).usd),
        limit_usd=_limit(resumed, at_s, kill_usd),
        unknown=unknown,
        news=bool(set(unknown) - set(before.get("unknown", ()))),
    )
    dynamodb.put_item(TableName=table, Item=wire.pack(found.item()))
    return found


@dataclass(frozen=True)
class Summary:
    """The daily summary's figures from our own record, in US dollars.

    ran: whether a machine ran yesterday.
    expected, low, high: the forecast of the whole month, and its range.
    unknown: instance types without a known price, which aren't counted.
    """

    yesterday: float
    ran: bool
    month: float
    expected: float
    low: float
    high: float
    unknown: tuple[str, ...] = ()


def summary(dynamodb: Any, table: str, running: Iterable[str], at_s: float) -> Summary | None:
    """Computes the cost of yesterday (UTC) and of the month; `None` where no prices are recorded.

    Args:
        running: ids of the env's instances that run now.
    """
    now_ms, day_ms = int(at_s * 1000), 86_400_000
    month_ms, midnight_ms = meter.month_of(now_ms)[0], now_ms - now_ms % day_ms
    since_ms = min(month_ms, midnight_ms - day_ms, now_ms - (DAYS + 1) * day_ms)
    items = _items(dynamodb, table, [*_days(since_ms, now_ms), wire.STANDS_PK])
    tariff = meter.Tariff.read(items.pop(wire.STANDS_PK, {}))
    if not tariff.standings:
        return None
    signs = [sign for item in items.values() for sign in map(Sign.read, item, item.values()) if sign]
    spans = spans_of(signs, now_ms, running=set(running))
    made = meter.stretches(spans, tariff, now_ms)
    yesterday, month = meter.bill(made, midnight_ms - day_ms, midnight_ms), meter.bill(made, month_ms, now_ms)
    known_ms = min([tariff.standings[0].since_ms, *(span.begin_ms for span in spans)])
    expected = forecast(spans, tariff, now_ms, max(known_ms, since_ms))
    return Summary(
        yesterday=float(yesterday.usd),
        ran=any(span.begin_ms < midnight_ms and span.end_ms > midnight_ms - day_ms for span in spans),
        month=float(month.usd),
        expected=float(expected.usd),
        low=float(expected.low),
        high=float(expected.high),
        unknown=tuple(sorted(month.unknown)),
    )


def resumed_beyond(dynamodb: Any, table: str, at_s: float, kill_usd: float) -> bool:
    """Whether an operator has resumed beyond the kill limit this month, and the guard enforces the higher limit.

    Where it can't meter the month, or hasn't done so for a while, nothing would stop machines at that limit.
    """
    items = _items(dynamodb, table, [wire.RESUMED_PK, wire.METER_PK])
    metered, resumed = items.get(wire.METER_PK, {}), items.get(wire.RESUMED_PK, {})
    counts = not metered.get("unknown") and at_s - float(metered.get("at_ms", 0)) / 1000 <= METER_FRESH_S
    return counts and _limit(resumed, at_s, kill_usd) > kill_usd


def _limit(resumed: Mapping[str, Any], at_s: float, kill_usd: float) -> float:
    lasts = float(resumed.get("expires_at", 0)) > at_s
    return max(kill_usd, float(resumed["limit_usd"])) if lasts else kill_usd


# --- signs ----------------------------------------------------------------------------------------------------------


def stopped(dynamodb: Any, table: str, instance: str, at_s: float) -> None:
    """Records that an instance was stopped. Never raises: without it, the last `seen` sign ends the span."""
    now_ms = int(at_s * 1000)
    sign = Sign(verb=wire.STOP, instance=instance, since_ms=now_ms, at_ms=now_ms, by=BY)
    try:
        leave(dynamodb, table, sign)
    except (ClientError, BotoCoreError):
        return


def leave(dynamodb: Any, table: str, sign: Sign) -> None:
    """Writes a sign into the power record; writing it again changes nothing."""
    try:
        dynamodb.update_item(TableName=table, **sign.update())
    except ClientError as error:
        if error.response["Error"]["Code"] != CONDITION_FAILED:
            raise


def _seen(instance: Mapping[str, Any], now_ms: int) -> Sign:
    since_ms = int(instance["LaunchTime"].timestamp() * 1000)
    kind, identity = str(instance["InstanceType"]), str(instance["InstanceId"])
    return Sign(verb=wire.SEEN, instance=identity, since_ms=min(since_ms, now_ms), at_ms=now_ms, type=kind, by=BY)


def _days(begin_ms: int, end_ms: int) -> list[str]:
    """Keys of these days and of the day before, on which a machine may have started that still runs on the first."""
    return sorted({wire.power_pk(moment) for moment in (*range(begin_ms - 86_400_000, end_ms, 86_400_000), end_ms)})


def _items(dynamodb: Any, table: str, keys: list[str]) -> dict[str, dict[str, Any]]:
    """The existing items among these keys, by key. What DynamoDB leaves unprocessed is requested again."""
    found: dict[str, dict[str, Any]] = {}
    asked = {table: {"Keys": [wire.pack({"pk": key}) for key in keys[:KEYS_A_CALL]], "ConsistentRead": True}}
    while asked:
        answer = dynamodb.batch_get_item(RequestItems=asked)
        for item in map(wire.unpack, answer["Responses"].get(table, [])):
            found[str(item["pk"])] = item
        asked = answer.get("UnprocessedKeys") or {}
    return found
