"""What a declared resource costs: a price a month while idle, and a price for each hour in which the node runs.

Prices are AWS's list prices without tax. What AWS gives away each month for good is left on the bill, because it
belongs to the whole account and may be used up elsewhere; `given_away` tells what it would take off. What is unknown is
`None`, and makes every sum that it belongs to unknown.
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
    """What one resource costs in a region."""
    uses = takes(resource)
    if uses is None:
        return UNKNOWN
    if not uses:
        return Cost(NOTHING, NOTHING, "by use" if resource.kind in METERED else "free")
    idle = _sum(_usd(use.item, use.month, prices, region) for use in uses)
    active = _sum(_usd(use.item, use.hour, prices, region) for use in uses)
    return Cost(idle, active, "unknown" if idle is None or active is None else "priced")


def total(costs: Iterable[Cost]) -> Cost:
    """All of them together; unknown as soon as one of them is."""
    costs = list(costs)
    idle, active = _sum(cost.idle_month for cost in costs), _sum(cost.active_hour for cost in costs)
    return Cost(idle, active, "unknown" if idle is None or active is None else "priced")


def given_away(resources: Iterable[Resource], prices: PriceList, region: str) -> dict[Item, Decimal]:
    """USD of an idle month that AWS wouldn't ask for in an account in which nothing else runs, by what it is for."""
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
    """The declaration with what was found in fields that only count when the resource is made, or may be larger.

    A node's shape is such a field: it changes in operation, and an hour costs what the shape costs that it has now. Its
    volume may be larger than declared, because it can't shrink, and is paid for as it is.
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
    """The declaration as it would read if these fields were as they were found; what couldn't be read stays.

    References stay references wherever they can, because prices look at what they lead to.
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
