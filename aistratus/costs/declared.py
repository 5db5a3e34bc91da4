"""What a declared resource costs: per month while idle, and per hour while the node runs.

Prices are AWS's list prices without tax. AWS's permanent free allowances aren't subtracted, because they belong to the
whole account and may be used up elsewhere; `given_away` computes what they would save. An unknown price is `None`, and
makes every sum that it belongs to unknown.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from aistratus.core.resource import Resource
from aistratus.costs.prices import PriceList
from aistratus.costs.uses import METERED, NOTHING, Item, takes

Basis = Literal["priced", "by use", "free", "unknown"]


@dataclass(frozen=True)
class Cost:
    """USD without tax; `None` is unknown.

    idle_month: a month in which the node is stopped and nobody talks.
    active_hour: what an hour in which the node runs costs more.
    basis: how it is paid for. `by use` is nothing as long as nothing flows through it or lies in it.
    """

    idle_month: Decimal | None
    active_hour: Decimal | None
    basis: Basis = "priced"


UNKNOWN = Cost(None, None, "unknown")


def cost(resource: Resource, prices: PriceList, region: str) -> Cost:
    """The cost of one resource in a region."""
    uses = takes(resource)
    if uses is None:
        return UNKNOWN
    if not uses:
        return Cost(NOTHING, NOTHING, "by use" if resource.kind in METERED else "free")
    idle = _sum(_usd(use.item, use.month, prices, region) for use in uses)
    active = _sum(_usd(use.item, use.hour, prices, region) for use in uses)
    return Cost(idle, active, "unknown" if idle is None or active is None else "priced")


def total(costs: Iterable[Cost]) -> Cost:
    """The sum; unknown if one of them is."""
    costs = list(costs)
    idle, active = _sum(cost.idle_month for cost in costs), _sum(cost.active_hour for cost in costs)
    return Cost(idle, active, "unknown" if idle is None or active is None else "priced")


def given_away(resources: Iterable[Resource], prices: PriceList, region: str) -> dict[Item, Decimal]:
    """USD of an idle month that the free allowances save in an account in which nothing else runs, by price item."""
    used: dict[Item, Decimal] = defaultdict(Decimal)
    for resource in resources:
        for use in takes(resource) or ():
            used[use.item] += use.month or NOTHING
    saved = {
        item: min(amount, price.free_each) * price.each
        for item, amount in used.items()
        if (price := prices.get(*item, region)) is not None
    }
    return {item: usd for item, usd in saved.items() if usd}


def as_it_is(declared: Resource, found: Resource) -> Resource:
    """The declaration with the found values of fields that only matter when the resource is created, or may be larger.

    The node's type is such a field: it changes in operation, and an hour costs what the current type costs. Its volume
    may be larger than declared, because it can't shrink, and is billed at its real size.
    """
    real: dict[str, Any] = {}
    for entry in dataclasses.fields(declared):
        value, how = getattr(found, entry.name, None), entry.metadata.get("compare")
        if how == "at-create" and isinstance(value, (str, int)):
            real[entry.name] = value
        elif how == "at-least" and isinstance(value, int):
            real[entry.name] = max(value, getattr(declared, entry.name))
    return dataclasses.replace(declared, **real)


def with_fields(declared: Resource, found: Resource, names: Collection[str]) -> Resource:
    """The declaration with the found values of these fields; a field that couldn't be read keeps its declared value.

    References stay references where possible, because prices depend on what they refer to.
    """
    known = {entry.name for entry in dataclasses.fields(declared)}
    real: dict[str, Any] = {
        name: getattr(found, name) for name in known.intersection(names) if getattr(found, name, None) is not None
    }
    return dataclasses.replace(declared, **real)


def _usd(item: Item, amount: Decimal | None, prices: PriceList, region: str) -> Decimal | None:
    if amount is None:
        return None
    if not amount:
        return NOTHING
    price = prices.get(*item, region)
    return None if price is None else price.each * amount


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    together = NOTHING
    for amount in amounts:
        if amount is None:
            return None
        together += amount
    return together
