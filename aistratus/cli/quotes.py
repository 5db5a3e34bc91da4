"""The prices in a plan: one for each line, and the total.

Prices are AWS's list prices in EUR, without tax: per month while idle, and the additional cost of an hour in which the
node runs. The embedded cloud's env shows them too, although it is free: they are what the same stack costs on AWS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aistratus.core.plan import Change
from aistratus.core.resource import Resource
from aistratus.costs import declared
from aistratus.costs.declared import Cost
from aistratus.costs.prices import PriceList, Rate, known
from aistratus.settings import Settings

GOES = ("delete",)
"""Actions after which the resource doesn't exist."""


@dataclass(frozen=True)
class Quotes:
    """What changes cost in one region, in EUR at one rate."""

    region: str
    rate: Rate
    prices: PriceList

    def afterwards(self, change: Change) -> Cost:
        """The resource's cost after the change; of one that is removed, its cost before."""
        return declared.cost(self._as_wanted(change), self.prices, self.region)

    def before(self, change: Change) -> Cost | None:
        """What it costs now; `None` if it isn't there."""
        if change.found is None:
            return None
        found = declared.with_fields(
            self._as_wanted(change), change.found.state, {difference.field for difference in change.changes}
        )
        return declared.cost(found, self.prices, self.region)

    def total(self, changes: Iterable[Change]) -> Cost:
        """What all that stays costs together."""
        return declared.total(self.afterwards(change) for change in changes if change.action not in GOES)

    def saved(self, changes: Iterable[Change]) -> Cost:
        """The sum of what is removed."""
        return declared.total(self.afterwards(change) for change in changes if change.action in GOES)

    def given_away(self, changes: Iterable[Change]) -> Decimal:
        """EUR of an idle month that AWS doesn't ask for in an account in which nothing else uses its allowances."""
        resources = [self._as_wanted(change) for change in changes if change.action not in GOES]
        given = declared.given_away(resources, self.prices, self.region)
        return sum(given.values(), Decimal(0)) / self.rate.usd_per_eur

    # --- for people -----------------------------------------------------------------------------------------

    def columns(self, change: Change) -> tuple[str, str]:
        """The two prices of a line: a month while idle, and an hour in which the node runs."""
        after, before = self.afterwards(change), self.before(change)
        if change.action in GOES:
            return self._minus(after)
        month, hour = self._month(after), self._hour(after)
        if before is not None and before.idle_month != after.idle_month:
            month = f"{self._month(before)} → {month}"
        if before is not None and before.active_hour != after.active_hour:
            hour = f"{self._hour(before) or '€0'} → {hour or '€0'}"
        return month, hour

    def sentence(self, cost: Cost) -> str:
        """`€2.81 a month idle at list prices, €0.0250 more for each hour in which the node runs`."""
        month, hour = (self.rate.euros(cost.idle_month), self.rate.euros(cost.active_hour))
        more = "" if hour == 0 else f", {hourly(hour)} more for each hour in which the node runs"
        return f"{monthly(month)} a month idle at list prices{more}"

    def told(self, changes: Iterable[Change]) -> str:
        """The plan's total line: at list prices, and less AWS's free allowances."""
        changes = list(changes)
        cost, less = self.total(changes), self.given_away(changes)
        sentence = f"On AWS: {self.sentence(cost)}"
        idle = self.rate.euros(cost.idle_month)
        if idle is not None and monthly(less) != monthly(Decimal(0)):
            sentence += (
                f". On the bill {monthly(idle - less)} a month idle, unless something else in the account uses up "
                "AWS's free tier (`aistratus cost --idle` lists both)"
            )
        return sentence

    def drift(self, changes: Iterable[Change]) -> str:
        """What it costs more or less, as it is now, than as it is declared; empty where it makes no difference.

        `nat_gateway left on: +€32.31 a month`.
        """
        told, together = [], Decimal(0)
        for change in changes:
            before = self.before(change)
            if change.action not in ("update", "replace", *GOES) or before is None:
                continue
            after = Decimal(0) if change.action in GOES else self.afterwards(change).idle_month
            if before.idle_month is None or after is None:
                told.append(f"{change.key}: nobody knows how much")
            elif difference := self.rate.euros(before.idle_month - after):
                left = " left on" if change.action in GOES else ""
                told.append(f"{change.key}{left}: {_signed(difference)} a month")
                together += difference
        if len(told) > 1:
            told.append(f"together {_signed(together)} a month")
        return f"as it is now: {'; '.join(told)}" if told else ""

    def _month(self, cost: Cost) -> str:
        if cost.basis in ("free", "by use"):
            return cost.basis
        idle = self.rate.euros(cost.idle_month)
        return "" if idle == 0 and cost.active_hour else monthly(idle)

    def _hour(self, cost: Cost) -> str:
        active = self.rate.euros(cost.active_hour)
        return "" if active == 0 else hourly(active)

    def _minus(self, cost: Cost) -> tuple[str, str]:
        return _negative(self._month(cost)), _negative(self._hour(cost))

    # --- for programs ---------------------------------------------------------------------------------------

    def document(self, cost: Cost) -> dict[str, float | None]:
        """`{"idle_month_eur", "active_hour_eur"}`; `null` is unknown."""
        month, hour = self.rate.euros(cost.idle_month), self.rate.euros(cost.active_hour)
        return {
            "idle_month_eur": None if month is None else round(float(month), 4),
            "active_hour_eur": None if hour is None else round(float(hour), 6),
        }

    def _as_wanted(self, change: Change) -> Resource:
        return declared.as_it_is(change.resource, change.found.state) if change.found else change.resource


def quotes(settings: Settings, region: str) -> Quotes:
    """Prices of the list, at the rate of the settings."""
    return Quotes(region, Rate(Decimal(str(settings.budget.usd_per_eur)), settings.budget.rate_date), known())


def monthly(euros: Decimal | None) -> str:
    """EUR to the cent."""
    return _euros(euros, 2)


def hourly(euros: Decimal | None) -> str:
    """EUR to a hundredth of a cent: an hour of the smallest node costs two cents."""
    return _euros(euros, 4)


def _euros(euros: Decimal | None, places: int) -> str:
    if euros is None:
        return "unknown"
    least = Decimal(1).scaleb(-places)
    if 0 < euros < least / 2:
        return f"under €{least}"
    return f"€{euros:.{places}f}" if euros else "€0"


def _signed(euros: Decimal) -> str:
    return f"{'+' if euros > 0 else '−'}{monthly(abs(euros))}"


def _negative(price: str) -> str:
    return f"−{price}" if price.startswith("€") and price != "€0" else price


def empty() -> dict[str, Any]:
    """The `cost` of nothing at all."""
    return {"idle_month_eur": 0.0, "active_hour_eur": 0.0}
