"""AWS's list prices from the package's `prices.csv`: one row per price, each with its source and date.

Prices are USD without tax, on demand, of the first tier that isn't free. The permanent monthly free allowance (`free`,
per account, shared with whatever else runs there) is listed and only subtracted on request; free trials and credits
aren't listed. A price of 0 is listed with its reason. A price that isn't in the list is unknown: `None` where it is
shown, `PriceUnknown` where something depends on it, never 0.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path

from aistratus.core.errors import Failure

HOURS_A_MONTH = Decimal(730)
"""A twelfth of a year, as in AWS's own calculator."""
SECONDS_AN_HOUR = Decimal(3600)

UNITS = {
    "ten thousand": Decimal(10_000),
    "thousand": Decimal(1_000),
    "hundred thousand": Decimal(100_000),
    "million": Decimal(1_000_000),
}
"""Units that stand for many; every other unit counts as one."""


class PriceUnknown(Failure):
    """The list doesn't have a price that something depends on."""

    kind = "price"


@dataclass(frozen=True)
class Price:
    """One row of the list.

    unit: what `usd` buys: `hour`, `GiB-month`, `million` …
    free: how many of these units AWS gives away each month, per account and for good.
    asof: the day on which the price was known to be right.
    source: the address of AWS's page that states it.
    """

    service: str
    item: str
    region: str
    unit: str
    usd: Decimal
    free: Decimal
    asof: date
    source: str
    note: str = ""

    @property
    def each(self) -> Decimal:
        """USD for a single unit: one request, where the row says `million`."""
        return self.usd / UNITS.get(self.unit, Decimal(1))

    @property
    def free_each(self) -> Decimal:
        """The single units that are free each month."""
        return self.free * UNITS.get(self.unit, Decimal(1))


class PriceList:
    """Prices by service, item and region."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self.prices = tuple(prices)
        self._by_place: Mapping[tuple[str, str, str], Price] = {
            (price.service, price.item, price.region): price for price in self.prices
        }

    def get(self, service: str, item: str, region: str) -> Price | None:
        """The price, or `None` if it is unknown."""
        return self._by_place.get((service, item, region))

    def require(self, service: str, item: str, region: str) -> Price:
        """The price.

        Raises:
            PriceUnknown: it isn't in the list.
        """
        price = self.get(service, item, region)
        if price is None:
            raise PriceUnknown(
                f"there is no price for {service} {item} in {region}",
                todo=self._elsewhere(region),
            )
        return price

    def _elsewhere(self, region: str) -> str:
        regions = sorted({known.region for known in self.prices})
        if region in regions:
            return "check its name; `aistratus cost prices --refresh` asks AWS's price list for what is missing here"
        return f"the price list has {', '.join(regions)}; `aistratus cost prices --refresh` adds this region"


@dataclass(frozen=True)
class Rate:
    """The exchange rate of a day: AWS bills in USD, and costs are shown in EUR.

    Raises:
        Failure: it isn't above zero.
    """

    usd_per_eur: Decimal
    asof: date

    def __post_init__(self) -> None:
        if self.usd_per_eur <= 0:
            raise Failure(f"an exchange rate of {self.usd_per_eur} makes no sense", todo="state USD for one EUR")

    def euros(self, usd: Decimal | None) -> Decimal | None:
        """USD in EUR; unknown stays unknown."""
        return None if usd is None else usd / self.usd_per_eur


@cache
def packaged() -> PriceList:
    """The package's list."""
    text = resources.files("aistratus.costs").joinpath("prices.csv").read_text(encoding="utf-8")
    return PriceList(_row(row) for row in csv.DictReader(text.splitlines()))


def known() -> PriceList:
    """The package's list, overridden by what `aistratus cost prices --refresh` has stored.

    The price list doesn't say what AWS gives away, which is the same in every region; so that stays the package's.
    """
    prices = {(price.service, price.item, price.region): price for price in packaged().prices}
    free = {(price.service, price.item, price.unit): price.free for price in packaged().prices}
    for price in _remembered():
        place = (price.service, price.item, price.region)
        old = prices.get(place)
        if old is None or price.asof >= old.asof:
            given = free.get((price.service, price.item, price.unit), price.free)
            prices[place] = replace(price, free=given, note=old.note if old else price.note)
    return PriceList(prices.values())


def remember(prices: Iterable[Price]) -> None:
    """Stores prices on this machine, beside those of other regions.

    Raises:
        Failure: they can't be written.
    """
    kept = {(price.service, price.item, price.region): price for price in (*_remembered(), *prices)}
    try:
        path = _cache()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        with part.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(_columns(price) for price in kept.values())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        raise Failure(f"prices can't be kept on this machine: {error}", todo="the package's list counts") from error


COLUMNS = ("service", "item", "region", "unit", "usd", "free", "date", "source", "note")


def _columns(price: Price) -> tuple[str, ...]:
    return (price.service, price.item, price.region, price.unit, f"{price.usd:f}", f"{price.free:f}",
            price.asof.isoformat(), price.source, price.note)  # fmt: skip


def _cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("aistratus") / "prices.csv"


def _remembered() -> list[Price]:
    """The stored prices; empty where they can't be read, because the package's list is there."""
    try:
        rows = list(csv.DictReader(_cache().read_text(encoding="utf-8").splitlines()))
        return [_row(row) for row in rows]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, ArithmeticError):
        return []


def _row(row: Mapping[str, str]) -> Price:
    return Price(
        service=row["service"],
        item=row["item"],
        region=row["region"],
        unit=row["unit"],
        usd=Decimal(row["usd"]),
        free=Decimal(row["free"] or 0),
        asof=date.fromisoformat(row["date"]),
        source=row["source"],
        note=row["note"],
    )
