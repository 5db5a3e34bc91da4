"""The guard's meter: what the env has cost this month by our own records, long before AWS has worked it out.

Every few minutes the guard leaves a sign for each machine that runs, reads all signs of the month and what `aistratus
up` wrote about prices, and counts by the same code as `aistratus cost`. What it found stands in the jobs table, where
the API and the daily summary read it without counting.

A machine whose type has no known price can't be counted, and so isn't stopped in time; people are told so once.
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
LOOKED_S: Final = 900
"""The guard looks every four minutes; one that has missed three looks isn't relied upon."""
PRICES: Final = "no prices are written down; `aistratus up` writes them"


@dataclass(frozen=True)
class Metered:
    """What the month has cost by `at_ms`, in US dollars.

    limit_usd: where machines are stopped: the killer's line, or the one up to which an operator has resumed.
    unknown: what has no known price, and so isn't counted.
    news: that wasn't so when the guard looked last.
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


def measure(dynamodb: Any, table: str, running: Iterable[Mapping[str, Any]], at_s: float, kill_usd: float) -> Metered:
    """Counts the month, and writes down what it found.

    Args:
        running: the env's instances that run now, as EC2 describes them.
        kill_usd: the killer's line, unless an operator has resumed beyond it.
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
    unknown = tuple(sorted(month.unknown)) or (() if tariff.standings else (PRICES,))
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
    """What the daily mail tells of our own record, in US dollars.

    ran: did a machine run yesterday?
    unknown: what has no known price, and so isn't counted.
    """

    yesterday: float
    ran: bool
    month: float
    expected: float
    low: float
    high: float
    unknown: tuple[str, ...] = ()


def summary(dynamodb: Any, table: str, running: Iterable[str], at_s: float) -> Summary | None:
    """Counts yesterday (UTC) and the month; `None` where nobody has written down what anything costs.

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
    """Has an operator said this month that machines may go on beyond the killer's line, and does the guard see to it?

    Where it can't count the month, or hasn't looked for a while, nothing would stop machines at the operator's line.
    """
    items = _items(dynamodb, table, [wire.RESUMED_PK, wire.METER_PK])
    metered, resumed = items.get(wire.METER_PK, {}), items.get(wire.RESUMED_PK, {})
    counts = not metered.get("unknown") and at_s - float(metered.get("at_ms", 0)) / 1000 <= LOOKED_S
    return counts and _limit(resumed, at_s, kill_usd) > kill_usd


def _limit(resumed: Mapping[str, Any], at_s: float, kill_usd: float) -> float:
    lasts = float(resumed.get("expires_at", 0)) > at_s
    return max(kill_usd, float(resumed["limit_usd"])) if lasts else kill_usd


# --- signs ----------------------------------------------------------------------------------------------------------


def stopped(dynamodb: Any, table: str, instance: str, at_s: float) -> None:
    """Writes down that an instance was stopped. If that can't be done, its last sign of life has to do."""
    now_ms = int(at_s * 1000)
    sign = Sign(verb=wire.STOP, instance=instance, since_ms=now_ms, at_ms=now_ms, by=BY)
    try:
        leave(dynamodb, table, sign)
    except (ClientError, BotoCoreError):
        return


def leave(dynamodb: Any, table: str, sign: Sign) -> None:
    """Leaves a sign; one that is there already is left once."""
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
    """The keys of these days, and of the one before, on which something may have begun that is on at the first."""
    return sorted({wire.power_pk(moment) for moment in (*range(begin_ms - 86_400_000, end_ms, 86_400_000), end_ms)})


def _items(dynamodb: Any, table: str, keys: list[str]) -> dict[str, dict[str, Any]]:
    """The items with these keys that are there, by key. DynamoDB may leave some for the next call."""
    found: dict[str, dict[str, Any]] = {}
    asked = {table: {"Keys": [wire.pack({"pk": key}) for key in keys[:KEYS_A_CALL]], "ConsistentRead": True}}
    while asked:
        answer = dynamodb.batch_get_item(RequestItems=asked)
        for item in map(wire.unpack, answer["Responses"].get(table, [])):
            found[str(item["pk"])] = item
        asked = answer.get("UnprocessedKeys") or {}
    return found
