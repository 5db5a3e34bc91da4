"""The records that `up` and `down` keep, from which the env's cost is metered.

A failed write must not fail a command that has done its work: it is reported, and the next `up` writes again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aistratus import spending, wire
from aistratus.cli.quotes import monthly
from aistratus.costs import declared
from aistratus.costs.meter import Standing, Tariff
from aistratus.costs.standing import VOLUME, bursts, machine_hours, standing
from aistratus.explain import explain
from aistratus.node import power
from aistratus.resources.instance_listing import INSTANCES, state_of
from aistratus.spending import Records

if TYPE_CHECKING:
    from rich.console import Console

    from aistratus.cli.session import Session
    from aistratus.core.plan import Change


def after_up(session: Session, changes: Iterable[Change], seconds: float, console: Console) -> None:
    """Records standing costs, and the node's start if this run created or changed it.

    Args:
        seconds: how long the run took. What it made stands since it began; the difference is small.
    """
    changes = list(changes)
    there = {change.key: change for change in changes if change.found and change.action != "delete"}
    try:
        aws, now_ms = session.cloud.fresh(), int(time.time() * 1000)
        records = spending.read(aws.dynamodb, aws.name("jobs"), now_ms, now_ms)
        if records is None:
            return
        before = records.tariff
        if before.now is None and (earlier := spending.kept(spending.archive(aws), now_ms)) is not None:
            before = earlier.tariff
            spending.put_back(aws, earlier.signs, now_ms)
        gone = {change.key for change in changes if change.action == "delete"}
        after = _tariff(session, before, there, gone, now_ms - int(seconds * 1000))
        if after != records.tariff:
            spending.write_tariff(aws, after)
        if "node" in there and there["node"].action != "unchanged":
            thing = INSTANCES.pick(aws, "node")
            if thing is not None:
                power.seen(aws, thing)
    except Exception as error:  # noqa: BLE001 - the stack is up, whatever becomes of its record
        console.print(f"what it costs couldn't be written down: {explain(error)}", markup=False)


def _tariff(session: Session, before: Tariff, there: dict[str, Change], gone: Collection[str], since_ms: int) -> Tariff:
    """The standing costs with what this run found or created; the rest (`--only`, a failure) stays as recorded."""
    quotes = session.quotes
    resources = {
        key: declared.as_it_is(change.resource, change.found.state) for key, change in there.items() if change.found
    }
    now = standing(resources, quotes.prices, quotes.region, since_ms)
    if not {*there} >= {*session.stack.by_key} and before.now is not None:
        known = {*there, *gone, *([VOLUME] if "node" in {*there, *gone} else [])}
        left = {key: line for key, line in before.now.lines.items() if key not in known}
        address = now.address_hour if "node" in there else before.now.address_hour
        now = Standing(since_ms, {**left, **now.lines}, address)
    return replace(
        before.changed(now),
        hours=machine_hours(quotes.prices, quotes.region),
        bursts=bursts(quotes.prices, quotes.region),
    )


def before_down(session: Session, console: Console) -> Records | None:
    """Reads the record and stores it on this machine before the table is deleted; `None` if there is none."""
    try:
        aws, now_ms = session.cloud.fresh(), int(time.time() * 1000)
        records = spending.read_all(aws.dynamodb, aws.name("jobs"), now_ms)
        if records is None or records.first_ms is None:
            return None
        things = [thing for thing in INSTANCES.ours(aws) if state_of(thing) in ("pending", "running")]
        signs = (*records.signs, *(power.sign(wire.SEEN, thing, now_ms) for thing in things))
        running = frozenset(thing["InstanceId"] for thing in things)
        records = replace(records, signs=signs, running=running)
        spending.keep(spending.archive(aws), _ended(records, now_ms))
    except Exception as error:  # noqa: BLE001 - what is to go shall go
        console.print(f"what it has cost couldn't be kept: {explain(error)}", markup=False)
        return None
    return records


def after_down(session: Session, records: Records | None, console: Console) -> dict[str, Any] | None:
    """Keeps the record to its end, and says what the stack has cost from its first to its last second.

    Returns:
        The same for programs; `None` where nothing was written down.
    """
    if records is None or records.first_ms is None:
        return None
    now_ms = int(time.time() * 1000)
    ended = _ended(replace(records, now_ms=now_ms), now_ms)
    with suppress(OSError):  # it was kept a moment ago
        spending.keep(spending.archive(session.cloud), ended)
    first_ms = ended.tariff.standings[0].since_ms if ended.tariff.standings else ended.first_ms
    assert first_ms is not None
    bill = ended.bill(first_ms)
    told = session.quotes.rate.euros(bill.usd)
    less = f"; without {', '.join(sorted(bill.unknown))}, whose price isn't known" if bill.unknown else ""
    console.print(
        f"from {_moment(first_ms)} to {_moment(now_ms)} this stack cost {monthly(told)} at AWS's list prices, without "
        f"tax and traffic{less}",
        markup=False,
    )
    return {
        "eur": None if told is None else round(float(told), 6),
        "since": _moment(first_ms),
        "until": _moment(now_ms),
        "unknown": sorted(bill.unknown),
    }


def _ended(records: Records, now_ms: int) -> Records:
    """With everything that is on stopped and gone by now."""
    stops = (
        wire.Sign(verb=wire.STOP, instance=instance, since_ms=now_ms, at_ms=now_ms, by=power.BY)
        for instance in sorted(records.running or ())
    )
    tariff = records.tariff.changed(Standing(now_ms, {}))
    return replace(records, signs=(*records.signs, *stops), tariff=tariff, running=frozenset())


def _moment(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms / 1000).astimezone():%Y-%m-%d %H:%M:%S}"
