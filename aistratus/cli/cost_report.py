"""Gathers the data of `aistratus cost`: metered, billed and forecast, by item and by day."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from aistratus import spending, wire
from aistratus.core.errors import Absent, Failure, UsageError, error_code
from aistratus.costs import billed as bills
from aistratus.costs import meter
from aistratus.costs.billed import Billed
from aistratus.costs.forecast import Forecast, forecast
from aistratus.costs.meter import Bill
from aistratus.explain import explain
from aistratus.node import power
from aistratus.pictures.bars import Day
from aistratus.private import make_private
from aistratus.resources.instance_listing import INSTANCES, state_of
from aistratus.spending import Counted, Records

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.settings import Settings

Currency = Literal["EUR", "USD"]
SIGNS: Final[Mapping[str, str]] = {"EUR": "€", "USD": "$"}
STACK: Final = "stack"
"""What of a day was spent on everything but machines and their address."""


@dataclass(frozen=True)
class Report:
    """USD everywhere; `money` turns them into what people see.

    begin_ms: since when; the month's begin unless somebody asked for another time.
    counted: what AWS's budget says of this month.
    """

    env: str
    currency: Currency
    rate: Decimal
    records: Records
    begin_ms: int
    bill: Bill
    days: tuple[Day, ...]
    forecast: Forecast
    hour: Bill
    limit_eur: Decimal
    kill_eur: Decimal
    counted: Counted = Counted()
    billed: Billed | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)

    def money(self, usd: Decimal) -> Decimal:
        """In the currency that was asked for."""
        return usd if self.currency == "USD" else usd / self.rate

    def line(self, eur: Decimal) -> Decimal:
        """A limit of the settings in the currency that was asked for."""
        return eur if self.currency == "EUR" else eur * self.rate

    @property
    def up(self) -> bool:
        """Does anything of the env stand? Where nothing does, all of it is from what `down` has kept."""
        now = self.records.tariff.now
        return now is not None and bool(now.lines)

    @property
    def assumed(self) -> int:
        """The number of spans that end with the last `seen`, because no stop was recorded."""
        return sum(span.assumed and span.end_ms > self.begin_ms for span in self.records.spans)


def gather(session: Session, *, since: date | None, currency: Currency, ask: bool) -> Report:
    """Reads the record and what runs now, and computes the costs.

    Args:
        since: a day of this machine's time zone; `None`: the UTC month.
        ask: ask Cost Explorer, which costs $0.01.

    Raises:
        Absent: nobody knows the env.
        Failure: there is nothing to count by.
    """
    now_ms = int(time.time() * 1000)
    begin_ms = _begin(since, now_ms)
    # What a day's month had cost by its end is counted from the month's begin, whenever the days begin.
    records = look(session, meter.month_of(begin_ms)[0], now_ms)
    report = _report(session.settings, records, begin_ms, currency)
    return replace(
        report,
        counted=_counted(session, records),
        billed=_billed(session, now_ms, ask=ask),
        kinds={resource.key: resource.kind for resource in session.stack.whole.resources},
    )


def gather_kept(settings: Settings, *, since: date | None, currency: Currency) -> Report | None:
    """The same of an env whose whole cloud is gone, from what this machine has kept; `None` where that is nothing."""
    now_ms = int(time.time() * 1000)
    records = spending.kept_of(settings.env, now_ms)
    return None if records is None else _report(settings, records, _begin(since, now_ms), currency)


def _begin(since: date | None, now_ms: int) -> int:
    """Since when: midnight of a day of this machine's time zone, or the UTC month's begin.

    Raises:
        UsageError: it lies in the future.
    """
    begin_ms = meter.month_of(now_ms)[0] if since is None else _midnight(since)
    if begin_ms >= now_ms:
        raise UsageError(f"--since {since} lies in the future", todo="name a day that has begun")
    return begin_ms


def _report(settings: Settings, records: Records, begin_ms: int, currency: Currency) -> Report:
    """What the record says, without what AWS says."""
    now_ms, budget = records.now_ms, settings.budget
    made, spans = records.stretches, records.spans
    first_ms = records.first_ms if records.first_ms is not None else now_ms
    return Report(
        env=settings.env,
        currency=currency,
        rate=Decimal(str(budget.usd_per_eur)),
        records=records,
        begin_ms=begin_ms,
        bill=meter.bill(made, begin_ms, now_ms),
        days=tuple(
            _day(day, meter.bill(made, *time), meter.bill(made, meter.month_of(time[1] - 1)[0], time[1]))
            for day, *time in meter.days(max(begin_ms, first_ms), now_ms, None)
        ),
        forecast=forecast(spans, records.tariff, now_ms, first_ms),
        hour=meter.per_hour(made, now_ms),
        limit_eur=Decimal(str(budget.limit_eur)),
        kill_eur=Decimal(str(budget.kill_eur)),
    )


def look(session: Session, since_ms: int, now_ms: int) -> Records:
    """The record from a moment on, with what EC2 says of now; of an env that is down, what this machine has kept.

    Raises:
        Absent: there is no record, neither in a table nor on this machine.
        Failure: nobody has ever written down what the env's resources cost.
    """
    aws = session.cloud
    records = spending.read(aws.dynamodb, aws.name("jobs"), since_ms - spending.LOOK_BACK_MS // 4, now_ms)
    if records is None:
        earlier = spending.kept(spending.archive(aws), now_ms)
        if earlier is None:
            raise Absent(f"nothing is known of what env {aws.env!r} has cost", todo="`aistratus up` begins its record")
        return earlier
    if records.tariff.now is None:
        raise Failure("nobody has written down what the env's resources cost", todo="`aistratus up` does")
    things = [thing for thing in INSTANCES.ours(aws.fresh()) if state_of(thing) in ("pending", "running")]
    signs = tuple(power.sign(wire.SEEN, thing, now_ms) for thing in things)
    running = frozenset(sign.instance for sign in signs)
    return replace(records, signs=(*records.signs, *signs), running=running)


def _day(day: date, bill: Bill, month: Bill) -> Day:
    """A day's spending: each type of machine and the address by name, everything else together."""
    parts = {STACK: Decimal(0)}
    for what, usd in sorted(bill.lines.items()):
        part = what if meter.of_node(what) else STACK
        parts[part] = parts.get(part, Decimal(0)) + usd
    return Day(day, parts, month.usd)


def _midnight(day: date) -> int:
    return round(datetime(day.year, day.month, day.day).astimezone().timestamp() * 1000)


# --- what AWS says ----------------------------------------------------------------------------------------------------


def _counted(session: Session, records: Records) -> Counted:
    """The budget's own figure of this month. Describing a budget is free.

    It is a second opinion: ours stands without it, and why it couldn't be read is told.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    aws = session.cloud
    try:
        answer = aws.budgets.describe_budget(AccountId=aws.account, BudgetName=aws.name("monthly"))
    except (BotoCoreError, ClientError) as error:
        if error_code(error) == "NotFoundException":
            return Counted()
        return Counted(None, f"AWS's budget couldn't be read: {explain(error).what}")
    return spending.counted(answer["Budget"], records)


def _billed(session: Session, now_ms: int, *, ask: bool) -> Billed | None:
    """What Cost Explorer said last, or says now if it is asked; `None` if it never was, this month."""
    path = _cache(session)
    if not ask:
        return _remembered(path, now_ms)
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    since, until = today.replace(day=1), today + timedelta(days=1)
    parameters = bills.question(session.settings.env, since, until)
    answers = bills.asked(session.cloud.ce.get_cost_and_usage, parameters)
    found = bills.answered(answers, since, until, now_ms)
    with suppress(OSError, RuntimeError):  # without a place for it, it is asked again next time
        make_private(path.parent)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(found.document()), encoding="utf-8")
        part.replace(path)
    return found


def _cache(session: Session) -> Path:
    import platformdirs

    identity = session.cloud.identity
    name = f"billed-{identity.account}-{identity.region}-{session.settings.env}.json"
    return platformdirs.user_cache_path("aistratus") / name


def _remembered(path: Path, now_ms: int) -> Billed | None:
    try:
        found = Billed.read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, ArithmeticError):
        return None
    begin_ms, _ = meter.month_of(now_ms)
    return found if found.asked_ms >= begin_ms else None
