"""The output of `aistratus cost`: three figures and tables by item and by day, and the same as JSON and CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aistratus.cli.cost_report import SIGNS, Report
from aistratus.costs import billed as bills
from aistratus.costs import meter
from aistratus.pictures.bars import bar

if TYPE_CHECKING:
    from rich.console import Console

    from aistratus.pictures.shapes import Picture

NAME, BAR, LEAST_BAR, DAY = 36, 40, 10, 28
"""Characters: of a line's name; of the longest bar, also in the narrowest terminal; of what stands before a bar."""
LEAST = Decimal("0.0001")
"""Smaller amounts are shown as less than this."""


def amount(report: Report, usd: Decimal) -> str:
    """For people: to the cent, and below ten of them more exactly."""
    return plain(report.money(usd), SIGNS[report.currency])


def plain(value: Decimal, sign: str) -> str:
    """An amount that is in its currency already."""
    if not value:
        return f"{sign}0"
    if 0 < value < LEAST:
        return f"<{sign}{LEAST}"
    return f"{sign}{value:.2f}" if abs(value) >= Decimal("0.1") else f"{sign}{value:.4f}"


def show(report: Report, console: Console, *, gaps: bool) -> None:
    """The whole of it."""
    room = max(LEAST_BAR, min(BAR, console.width - DAY))
    for line in (*figures(report), "", *by_resource(report), "", *by_day(report, room)):
        console.print(line, markup=False)
    if gaps and report.billed is not None:
        for line in ("", *explained(report)):
            console.print(line, markup=False)


def figures(report: Report) -> list[str]:
    """Metered, billed and expected, against limit and killer's line, and what is going on now."""
    sign, expected = SIGNS[report.currency], report.forecast
    limit, kill = report.line(report.limit_eur), report.line(report.kill_eur)
    share = f", {report.money(report.records.month.usd) / limit:.0%} of it" if limit else ""
    few = "" if expected.days >= 3 else "; little is known yet"
    return [
        f"metered   {amount(report, report.records.month.usd):>10}  this month by our own record, at AWS's list prices"
        f"{_less(report)}",
        f"billed    {_billed(report)}",
        f"forecast  {amount(report, expected.usd):>10}  by the month's end, {amount(report, expected.low)} to "
        f"{amount(report, expected.high)}{few}",
        f"limit     {plain(limit, sign):>10}{share}; machines stop at {plain(kill, sign)}{_held(report)}",
        f"now       {amount(report, report.hour.usd):>10}  an hour{_running(report)}",
    ]


def _less(report: Report) -> str:
    told = ""
    if unknown := report.records.month.unknown:
        told += f"; without {', '.join(sorted(unknown))}: no known price"
    if report.assumed:
        stops = "1 stop wasn't" if report.assumed == 1 else f"{report.assumed} stops weren't"
        told += f"; {stops} recorded: counted to the last sign of life"
    return told


def _billed(report: Report) -> str:
    if report.billed is not None:
        at = datetime.fromtimestamp(report.billed.asked_ms / 1000).astimezone()
        return f"{amount(report, report.billed.usd):>10}  by Cost Explorer, as of {at:%Y-%m-%d %H:%M}, a day behind"
    if report.counted.usd is not None:
        return f"{amount(report, report.counted.usd):>10}  by AWS's budget, which works it out up to three times a day"
    if not report.up:
        return f"{'unknown':>10}  the env isn't up; what it has cost is from the record that `down` has kept"
    why = report.counted.note or "AWS has counted nothing yet"
    return f"{'unknown':>10}  {why}; --billed asks Cost Explorer for $0.01"


def _held(report: Report) -> str:
    mark, resumed = report.records.stopped, report.records.resumed
    if mark and float(mark.get("limit_usd", 0)) >= float(report.kill_eur * report.rate) - 0.005:
        return ". The limit is reached: no prompt wakes the node; `aistratus cost resume` lifts that"
    if resumed:
        up_to = amount(report, Decimal(str(resumed["limit_usd"])))
        return f"; resumed up to {up_to} by {str(resumed.get('by', '')).rpartition('/')[2]}"
    return ""


def _running(report: Report) -> str:
    running = [f"{span.type} {span.instance}" for span in report.records.spans if span.running]
    if not report.up:
        return ": the env isn't up"
    return f", with {', '.join(running)} running" if running else ", with nothing running"


def by_resource(report: Report) -> list[str]:
    """What it was spent on, the greatest first."""
    lines = sorted(report.bill.lines.items(), key=lambda line: -line[1])
    shown = [f"{what:<{NAME}} {amount(report, usd):>10}" for what, usd in lines]
    shown += [f"{what:<{NAME}} {'unknown':>10}" for what in sorted(report.bill.unknown)]
    return [f"{_since(report):<{NAME}} {amount(report, report.bill.usd):>10}", *shown]


def _since(report: Report) -> str:
    return f"{_time(report)} (UTC)" if _is_month(report) else _time(report)


def _is_month(report: Report) -> bool:
    return report.begin_ms == meter.month_of(report.records.now_ms)[0]


def _time(report: Report) -> str:
    begin = datetime.fromtimestamp(report.begin_ms / 1000, UTC)
    return f"in {begin:%B %Y}" if _is_month(report) else f"since {begin.astimezone():%Y-%m-%d}"


def by_day(report: Report, longest: int = BAR) -> list[str]:
    """A bar a day, in this machine's time zone."""
    most = max((day.total for day in report.days), default=Decimal(0))
    return [
        f"{day.day:%a %Y-%m-%d} {amount(report, day.total):>10}  {bar(day.total, most, longest)}" for day in report.days
    ]


def explained(report: Report) -> Iterable[str]:
    """Why what was billed isn't what was metered, service by service."""
    assert report.billed is not None
    yield f"{'service':<38} {'metered':>10} {'billed':>10}"
    for gap in bills.gaps(report.records.month.lines, report.kinds, report.billed):
        why = f"  {gap.why}" if gap.why else ""
        yield f"{gap.service:<38} {amount(report, gap.metered):>10} {amount(report, gap.billed):>10}{why}"


def picture(report: Report) -> Picture:
    """The days as a picture. It says `EUR`, not the sign, which not every font has."""
    from dataclasses import replace

    from aistratus.pictures.days import days

    unit, expected = report.currency, report.forecast

    def told(usd: Decimal) -> str:
        return plain(report.money(usd), f"{unit} ")

    notes = [
        f"forecast {told(expected.usd)} ({told(expected.low)} to {told(expected.high)}) by the month's end; "
        f"{told(report.hour.usd)} an hour now",
        f"as of {datetime.fromtimestamp(report.records.now_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC; "
        "by our own record, at AWS's list prices without tax",
    ]
    if less := _less(report):
        notes.append(less.removeprefix("; "))
    money = [
        replace(
            day,
            parts={name: report.money(usd) for name, usd in day.parts.items()},
            month=report.money(day.month),
        )
        for day in report.days
    ]
    return days(
        money,
        title=f"{report.env}: {told(report.bill.usd)} {_time(report)}",
        notes=notes,
        unit=unit,
        lines={"limit": report.line(report.limit_eur), "machines stop at": report.line(report.kill_eur)},
    )


# --- for programs -----------------------------------------------------------------------------------------------------


def document(report: Report) -> dict[str, Any]:
    """`cost -o json`."""

    def number(usd: Decimal) -> float:
        return round(float(report.money(usd)), 6)

    expected, bill = report.forecast, report.bill
    return {
        "env": report.env,
        "currency": report.currency,
        "usd_per_eur": float(report.rate),
        "since": _iso(report.begin_ms),
        "until": _iso(report.records.now_ms),
        "limit": float(report.line(report.limit_eur)),
        "kill": float(report.line(report.kill_eur)),
        "metered": {
            "month": number(report.records.month.usd),
            "unknown": sorted(report.records.month.unknown),
            "stops_assumed": report.assumed,
        },
        "billed": _billed_document(report),
        "forecast": {
            "amount": number(expected.usd), "low": number(expected.low), "high": number(expected.high),
            "days": expected.days,
        },
        "per_hour": number(report.hour.usd),
        "running": [
            {"instance": span.instance, "type": span.type, "since": _iso(span.begin_ms)}
            for span in report.records.spans
            if span.running
        ],
        "resources": [{"what": what, "amount": number(usd)} for what, usd in sorted(bill.lines.items())],
        "days": [
            {"day": day.day.isoformat(), "amount": number(day.total),
             "parts": {what: number(usd) for what, usd in day.parts.items()}}
            for day in report.days
        ],
    }  # fmt: skip


def _billed_document(report: Report) -> dict[str, Any] | None:
    if report.billed is not None:
        services = {name: round(float(report.money(usd)), 6) for name, usd in report.billed.services.items()}
        total = round(float(report.money(report.billed.usd)), 6)
        return {"by": "cost-explorer", "amount": total, "as_of": _iso(report.billed.asked_ms), "services": services}
    if report.counted.usd is not None:
        return {"by": "budget", "amount": round(float(report.money(report.counted.usd)), 6), "as_of": None}
    return None


def _iso(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="seconds")


def write_csv(report: Report) -> None:
    """`cost -o csv`: a row for each day and each thing that money was spent on, on standard output."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["day", "what", "amount", "currency"])
    for day in report.days:
        for what, usd in day.parts.items():
            table.writerow([day.day.isoformat(), what, f"{report.money(usd):.6f}", report.currency])
