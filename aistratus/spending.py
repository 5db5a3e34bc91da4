"""An env's cost record: read from the jobs table, and preserved on this machine from `down` to the next `up`.

`down` deletes the table. So its record is first saved to a file of the user, and `up` restores it into the new table,
because the month's earlier cost counts against the limit. The file isn't on other machines, where costs from before
that `up` are unknown.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.core.errors import error_code
from aistratus.costs import meter
from aistratus.costs.meter import Bill, Stretch, Tariff
from aistratus.costs.spans import Span, spans
from aistratus.private import make_private
from aistratus.wire import Sign, Usage

DAY_MS: Final = 86_400_000
KEYS_A_CALL: Final = 100
"""BatchGetItem takes no more. Source: DynamoDB API reference, BatchGetItem."""
NO_TABLE: Final = frozenset({"ResourceNotFoundException"})
LOOK_BACK_MS: Final = 62 * DAY_MS
"""What `up` puts back and `down` keeps at most besides the whole record of what stood."""


@dataclass(frozen=True)
class Records:
    """What was written down about an env.

    now_ms: when it was read.
    running: the instances that run now, as EC2 says; `None`: it wasn't asked.
    metered: what the guard found last; empty if it hasn't looked yet.
    stopped: the mark that keeps the node off; empty without one.
    resumed: up to where an operator has resumed; empty if nobody has.
    account: whose it is; empty where nobody has written it down.
    told: what the last daily summary told; empty if there was none.
    """

    now_ms: int
    tariff: Tariff = Tariff()
    signs: tuple[Sign, ...] = ()
    running: frozenset[str] | None = None
    metered: Mapping[str, Any] = field(default_factory=dict)
    stopped: Mapping[str, Any] = field(default_factory=dict)
    resumed: Mapping[str, Any] = field(default_factory=dict)
    account: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spans(self) -> list[Span]:
        return spans(self.signs, self.now_ms, running=self.running)

    @property
    def stretches(self) -> list[Stretch]:
        return meter.stretches(self.spans, self.tariff, self.now_ms)

    def bill(self, begin_ms: int, end_ms: int | None = None) -> Bill:
        """What a time has cost."""
        return meter.bill(self.stretches, begin_ms, self.now_ms if end_ms is None else end_ms)

    @property
    def month(self) -> Bill:
        """What this UTC month has cost by now."""
        return self.bill(meter.month_of(self.now_ms)[0])

    @property
    def first_ms(self) -> int | None:
        """The first moment that anything is known of."""
        known = [one.since_ms for one in self.tariff.standings] + [sign.since_ms for sign in self.signs]
        return min(known, default=None)


def read(dynamodb: Any, table: str, since_ms: int, now_ms: int | None = None) -> Records | None:
    """The record from a moment on, without asking EC2; `None` where there is no table.

    Args:
        dynamodb: boto3's client.
    """
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    marks = (wire.STANDS_PK, wire.METER_PK, wire.BUDGET_PK, wire.RESUMED_PK, wire.HEARTBEAT_PK, wire.SUMMARY_PK)
    # What is on at the first moment may have begun on the day before, and then was seen since.
    keys = dict.fromkeys([*marks, *_days(since_ms - DAY_MS, now_ms)])
    try:
        items = dict(_items(dynamodb, table, list(keys)))
    except ClientError as error:
        if error_code(error) in NO_TABLE:
            return None
        raise
    return _records(items, now_ms)


def read_all(dynamodb: Any, table: str, now_ms: int) -> Records | None:
    """The whole record, from its first moment."""
    records = read(dynamodb, table, now_ms - LOOK_BACK_MS, now_ms)
    if records is None or not records.tariff.standings:
        return records
    first_ms = max(records.tariff.standings[0].since_ms, now_ms - wire.POWER_KEPT_S * 1000)
    return read(dynamodb, table, first_ms, now_ms) if first_ms < now_ms - LOOK_BACK_MS else records


def _records(items: Mapping[str, Mapping[str, Any]], now_ms: int) -> Records:
    def lasting(pk: str) -> Mapping[str, Any]:
        item = items.get(pk, {})
        return item if int(item.get("expires_at", 0)) > now_ms / 1000 else {}

    signs = [sign for item in items.values() for sign in map(Sign.read, item, item.values()) if sign]
    beat = items.get(wire.HEARTBEAT_PK, {})
    if str(beat.get("instance_id", "")).startswith("i-"):
        at_ms = int(beat["at_ms"])
        signs.append(Sign(verb=wire.SEEN, instance=beat["instance_id"], since_ms=at_ms, at_ms=at_ms, by=wire.WORKER))
    return Records(
        now_ms=now_ms,
        tariff=Tariff.read(items.get(wire.STANDS_PK, {})),
        signs=tuple(signs),
        metered=items.get(wire.METER_PK, {}),
        stopped=lasting(wire.BUDGET_PK),
        resumed=lasting(wire.RESUMED_PK),
        account=str(items.get(wire.STANDS_PK, {}).get("account", "")),
        told=items.get(wire.SUMMARY_PK, {}),
    )


def _days(begin_ms: int, end_ms: int) -> list[str]:
    return sorted({wire.power_pk(moment) for moment in (*range(begin_ms, end_ms, DAY_MS), end_ms)})


def _items(dynamodb: Any, table: str, keys: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The items with these keys that are there. DynamoDB may leave some of a call for the next one."""
    for start in range(0, len(keys), KEYS_A_CALL):
        batch = [wire.pack({"pk": key}) for key in keys[start : start + KEYS_A_CALL]]
        asked: dict[str, Any] = {table: {"Keys": batch, "ConsistentRead": True}}
        while asked:
            answer = dynamodb.batch_get_item(RequestItems=asked)
            for item in map(wire.unpack, answer["Responses"].get(table, [])):
                yield str(item["pk"]), item
            asked = answer.get("UnprocessedKeys") or {}


def write_tariff(aws: Cloud, tariff: Tariff) -> None:
    """Writes down what stands and what it costs, for the guard and for every later count."""
    item = {"pk": wire.STANDS_PK, "account": aws.account, "region": aws.region, **tariff.document()}
    aws.dynamodb.put_item(TableName=aws.name("jobs"), Item=wire.pack(item))


@dataclass(frozen=True)
class Counted:
    """What AWS's budget says of this month, half a day late.

    usd: `None`: nothing, or nothing that may be trusted.
    note: why it mayn't; empty otherwise.
    """

    usd: Decimal | None = None
    note: str = ""


def counted(budget: Mapping[str, Any], records: Records) -> Counted:
    """What a budget, as DescribeBudget shows it, says of the month of these records.

    On a month's first day (UTC) AWS may still tell the last month's figure. So on that day one counts only if it lies
    below what the last summary told of the month before; without one none does.
    """
    actual = budget.get("CalculatedSpend", {}).get("ActualSpend")
    usd = Decimal(actual["Amount"]) if actual else None
    today, told = datetime.fromtimestamp(records.now_ms / 1000, UTC), records.told
    before = f"{today - timedelta(days=1):%Y-%m}"
    known = str(told.get("day", "")).startswith(before) and float(told.get("usd", 0)) > 0
    if usd and today.day == 1 and (not known or meter.of_last_month(told, f"{today:%Y-%m}", float(usd))):
        return Counted(None, "AWS's own figure may still be last month's and isn't counted today")
    return Counted(usd)


def usage(dynamodb: Any, table: str, begin_ms: int, end_ms: int) -> Iterator[Usage]:
    """What each job of a time has used."""
    hours = (*range(begin_ms, end_ms, meter.HOUR_MS), end_ms)
    for _, item in _items(dynamodb, table, sorted({wire.usage_pk(moment) for moment in hours})):
        yield from (use for use in map(Usage.read, item, item.values()) if use)


def hold(aws: Cloud, limit_usd: float) -> None:
    """Keeps prompts from waking the node before the month ends, as the budget's killer does."""
    now_ms = int(time.time() * 1000)
    item = {
        "pk": wire.BUDGET_PK, "at_ms": now_ms, "limit_usd": limit_usd, "expires_at": meter.month_of(now_ms)[1] // 1000
    }  # fmt: skip
    aws.dynamodb.put_item(TableName=aws.name("jobs"), Item=wire.pack(item))


def resume(aws: Cloud, limit_usd: float, by: str) -> None:
    """Lets prompts wake the node again, and machines run up to another line until the month ends.

    Args:
        by: the ARN of whoever says so.
    """
    now_ms, table = int(time.time() * 1000), aws.name("jobs")
    expires = meter.month_of(now_ms)[1] // 1000
    item = {"pk": wire.RESUMED_PK, "at_ms": now_ms, "limit_usd": round(limit_usd, 2), "by": by, "expires_at": expires}
    aws.dynamodb.put_item(TableName=table, Item=wire.pack(item))
    aws.dynamodb.delete_item(TableName=table, Key=wire.pack({"pk": wire.BUDGET_PK}))


# --- over `down` and `up` -----------------------------------------------------------------------------------------


def archive(aws: Cloud) -> Path:
    """The file that holds what was written down about this env before it was taken down."""
    return _kept_in() / f"{aws.account}-{aws.region}-{aws.env}.json"


def _kept_in() -> Path:
    import platformdirs

    return platformdirs.user_data_path("aistratus") / "cost"


def kept_of(env: str, now_ms: int, *, account: str = "*", region: str = "*") -> Records | None:
    """What was kept last of an env, in any account and region unless they are named; `None` where there is nothing."""
    try:
        files = sorted(_kept_in().glob(f"{account}-{region}-{env}.json"), key=lambda path: path.stat().st_mtime)
    except (OSError, RuntimeError):  # nobody's home
        return None
    files = [path for path in files if re.fullmatch(rf"\d+-[a-z]+(-[a-z]+)+-\d-{re.escape(env)}", path.stem)]
    return kept(files[-1], now_ms) if files else None


def keep(path: Path, records: Records) -> None:
    """Keeps a record in a file that only its owner may read.

    Raises:
        OSError: it can't be written.
    """
    signs = [vars(sign) for sign in records.signs]
    make_private(path.parent)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"schema": 1, "signs": signs, "tariff": records.tariff.document()}), encoding="utf-8")
    part.replace(path)


def kept(path: Path, now_ms: int) -> Records | None:
    """What was kept; `None` where there is nothing, or nothing that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        signs = tuple(Sign(**sign) for sign in document["signs"])
        return Records(now_ms, Tariff.read(document["tariff"]), signs, running=frozenset())
    except (OSError, ValueError, TypeError, KeyError):
        return None


def put_back(aws: Cloud, signs: Iterable[Sign], now_ms: int) -> None:
    """Leaves the signs of the last two months again, in a table that is new."""
    table = aws.name("jobs")
    for sign in signs:
        if sign.at_ms < now_ms - LOOK_BACK_MS:
            continue
        try:
            aws.dynamodb.update_item(TableName=table, **sign.update())
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise
