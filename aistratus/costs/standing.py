"""Computes the tariff from the declarations of existing resources: standing costs, and the prices of machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from aistratus.core.resource import Resource
from aistratus.costs.meter import NOTHING, Burst, Line, Standing
from aistratus.costs.prices import HOURS_A_MONTH, PriceList
from aistratus.costs.uses import Item, takes

PUBLIC_ADDRESS: Item = ("vpc", "public-ipv4")
VOLUME = "volume"
"""A stopped node's standing costs; its machine and address are metered from the power record."""


def lines(resources: Iterable[Resource], prices: PriceList, region: str) -> dict[str, Line]:
    """What each of these costs, by key; those that cost nothing while nobody uses them are left out.

    A price by the month is that of a calendar month, as AWS bills it; one by the hour goes by the hour.
    """
    found = {
        VOLUME if resource.kind == "Instance" else resource.key: _line(resource, prices, region)
        for resource in resources
    }
    return {key: line for key, line in found.items() if line is not None and line != Line()}


def _line(resource: Resource, prices: PriceList, region: str) -> Line | None:
    uses = takes(resource)
    if uses is None:
        return Line(None, None)
    month, hour = NOTHING, NOTHING
    for use in uses:
        if use.month == 0:
            continue
        price = prices.get(*use.item, region)
        if price is None or use.month is None:
            return Line(None, None)
        if price.unit.endswith("-month"):
            month += price.each * use.month
        else:
            hour += price.each * use.month / HOURS_A_MONTH
    return Line(month, hour)


def standing(resources: Mapping[str, Resource], prices: PriceList, region: str, since_ms: int) -> Standing:
    """The standing costs from a time on."""
    node = next((one for one in resources.values() if one.kind == "Instance"), None)
    public = node is None or bool(getattr(node, "public_ip", True))
    price = prices.get(*PUBLIC_ADDRESS, region)
    address = (None if price is None else price.each) if public else NOTHING
    return Standing(since_ms, lines(resources.values(), prices, region), address)


def machine_hours(prices: PriceList, region: str) -> dict[str, Decimal]:
    """The hourly price of each instance type in the list."""
    return {
        price.item: price.each
        for price in prices.prices
        if price.service == "ec2" and price.region == region and price.unit == "hour"
    }


BASELINES: Mapping[str, tuple[int, Decimal]] = {
    "nano": (2, Decimal("0.05")), "micro": (2, Decimal("0.1")), "small": (2, Decimal("0.2")),
    "medium": (2, Decimal("0.2")), "large": (2, Decimal("0.3")), "xlarge": (4, Decimal("0.4")),
    "2xlarge": (8, Decimal("0.4")),
}  # fmt: skip
"""Processors of a t3 or t4g by its size, and which part of each it may use all day.

Source: EC2 user guide, "Key concepts for burstable performance instances", the table of baselines.
"""


def bursts(prices: PriceList, region: str) -> dict[str, Burst]:
    """What types that the list knows cost beyond their hour, where they compute more than their baseline."""
    found = {}
    for kind in machine_hours(prices, region):
        family, _, size = kind.partition(".")
        price = prices.get("ec2", f"cpu-credits-{family}", region)
        if price is not None and size in BASELINES:
            processors, baseline = BASELINES[size]
            found[kind] = Burst(price.each * processors, price.each * processors * baseline)
    return found
