"""The daily summary's texts: pure functions from figures to text.

AWS bills in US dollars. Texts give euros, at the rate and the rate's date that the settings hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

NEVER_COUNTED = (
    "AWS has counted nothing for this env yet. If that stays so, the tags Project and Env aren't activated as cost "
    "allocation tags (AWS console, Billing, Cost allocation tags): until then this figure and its alerts mean nothing."
)

SUBJECT_CHARS = 100
"""SNS takes less than a hundred characters, ASCII. Source: SNS API reference, Publish."""


@dataclass(frozen=True)
class Rate:
    """US dollars for one euro, and the date of that rate (as the settings write it)."""

    usd_per_eur: float
    asof: str

    def eur(self, usd: float) -> str:
        """An amount in euros, for people."""
        return f"€{usd / self.usd_per_eur:.2f}"


@dataclass(frozen=True)
class Spend:
    """A budget's figures for the current month, in US dollars.

    actual: this month's cost; `None`: AWS still reports the last month's figure.
    forecast: AWS's forecast for the whole month; `None`: not known yet.
    since: the spend since the last summary; `None`: there was none, or this month's figure isn't known yet.
    counted: whether the budget has ever shown a spend. It counts by tags, and nothing before those are activated.
    """

    limit: float
    actual: float | None
    forecast: float | None = None
    since: float | None = None
    counted: bool = False


@dataclass(frozen=True)
class Running:
    """An instance that runs now, and since when."""

    name: str
    id: str
    type: str
    since: datetime


class Metered(Protocol):
    """The figures of the env's own record, in US dollars; `metering.Summary` has them."""

    @property
    def yesterday(self) -> float: ...
    @property
    def ran(self) -> bool: ...
    @property
    def month(self) -> float: ...
    @property
    def expected(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def unknown(self) -> tuple[str, ...]: ...


def nothing_ran(metered: Metered | None, running: Sequence[Running]) -> bool:
    """Whether nothing ran yesterday and nothing runs now. Only our own record knows about yesterday."""
    return metered is not None and not metered.ran and not running


def nothing_spent(spend: Spend, running: Sequence[Running]) -> bool:
    """Whether nothing was spent since the last summary (without one: this month), and nothing runs."""
    if spend.actual is None or running:
        return False
    return (spend.actual if spend.since is None else spend.since) < 0.005


def subject(
    env: str, spend: Spend | None, running: Sequence[Running], rate: Rate, metered: Metered | None = None
) -> str:
    """The mail's subject: one line, ASCII."""
    if metered is not None and spend is not None:
        told = f"{rate.eur(metered.month)} of {rate.eur(spend.limit)} this month".replace("€", "EUR ")
        told = f"nothing ran, {told}" if nothing_ran(metered, running) else told
    elif spend is None:
        told = "no budget"
    elif nothing_spent(spend, running):
        told = "nothing spent" if spend.counted else "nothing counted yet"
    elif spend.actual is None:
        told = "a new month, not known yet"
    else:
        told = f"{rate.eur(spend.actual)} of {rate.eur(spend.limit)} this month".replace("€", "EUR ")
    return f"Aistratus {env}: {told}"[: SUBJECT_CHARS - 1]


def body(
    env: str,
    spend: Spend | None,
    running: Sequence[Running],
    rate: Rate,
    now: datetime,
    metered: Metered | None = None,
) -> str:
    """The mail's text. A day without spend is one line, which claims that only where a spend was ever counted.

    Args:
        spend: `None`: the env's budget doesn't exist.
        now: the end of the running times, with a time zone.
        metered: the figures of the env's own record; `None`: there is none.
    """
    if metered is not None and nothing_ran(metered, running):
        told = f"Env {env}: nothing ran yesterday and nothing is running. {_metered(metered, spend, rate)}"
        never = spend is not None and spend.actual is not None and not spend.counted
        return f"{told} {NEVER_COUNTED}" if never else told
    if spend is not None and nothing_spent(spend, running):
        told = "nothing was spent and nothing is running" if spend.counted else "nothing is running"
        return f"Env {env}: {told}. {_month(spend, rate)}" + ("" if spend.counted else f" {NEVER_COUNTED}")
    lines = [f"Env {env}, {_day(now.date())}.", ""]
    if spend is None:
        lines.append("Its budget isn't there, so nobody counts what it costs; `aistratus up` makes it again.")
    else:
        if spend.since is not None:
            lines.append(f"Since the last summary: {rate.eur(spend.since)}.")
        lines.append(_month(spend, rate))
    if metered is not None:
        lines += ["", _metered(metered, spend, rate)]
    lines += ["", *_running(running, now)]
    if running:
        lines.append(f"To stop it: aistratus --env {env} node stop")
    if spend is not None and spend.actual is not None and not spend.counted:
        lines += ["", NEVER_COUNTED]
    lines += [
        "",
        "AWS works these figures out up to three times a day, without tax. "
        f"€1 is counted as ${rate.usd_per_eur:g} (rate of {rate.asof}).",
    ]
    return "\n".join(lines)


def _metered(metered: Metered, spend: Spend | None, rate: Rate) -> str:
    """The record's figures: list prices, of machines that ran and of what costs money while it merely exists."""
    limit = f" of {rate.eur(spend.limit)}" if spend is not None else ""
    less = f" (without {', '.join(metered.unknown)}, whose price isn't known)" if metered.unknown else ""
    return (
        f"By the env's own record: yesterday {rate.eur(metered.yesterday)}, this month {rate.eur(metered.month)}{limit}"
        f"{less}; expected by its end: {rate.eur(metered.expected)}, between {rate.eur(metered.low)} and "
        f"{rate.eur(metered.high)}."
    )


def _month(spend: Spend, rate: Rate) -> str:
    if spend.actual is None:
        return f"This month: not known yet (of {rate.eur(spend.limit)}); AWS still tells the last month's figure."
    share = f" ({spend.actual / spend.limit:.0%})" if spend.limit else ""
    expected = "not known yet" if spend.forecast is None else rate.eur(spend.forecast)
    return f"This month: {rate.eur(spend.actual)} of {rate.eur(spend.limit)}{share}; expected by its end: {expected}."


def _running(running: Sequence[Running], now: datetime) -> list[str]:
    if not running:
        return ["Nothing is running."]
    return [f"Running: {one.name} {one.id} ({one.type}) for {_duration(now - one.since)}." for one in running]


def _duration(time: timedelta) -> str:
    minutes = max(0, int(time.total_seconds() // 60))
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "less than a minute"


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
