"""`cost prices`: shows and refreshes the price list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aistratus.cli import show as shown
from aistratus.cli.cost_estimates import region_of
from aistratus.core.errors import Failure
from aistratus.costs import price_api
from aistratus.costs.prices import Price, known, remember

if TYPE_CHECKING:
    from aistratus.cli.options import Options


def show(options: Options) -> None:
    """The list for the env's region."""
    region = region_of(options)
    listed = [price for price in known().prices if price.region == region]
    if not listed:
        raise Failure(
            f"there are no prices for {region}", todo="`aistratus cost prices --refresh` asks AWS's price list for them"
        )
    if options.json:
        shown.emit({"region": region, "prices": [_document(price) for price in listed]})
        return
    console = shown.results(options)
    for price in listed:
        what = f"{price.service} {price.item}"
        free = f", {price.free.normalize():f} free" if price.free else ""
        console.print(f"{what:<36} ${price.usd:<13f} {price.unit}{free}  {price.asof}  {price.source}", markup=False)
    console.print("free: what AWS gives away each month, per account; it isn't taken off", markup=False)


def refresh(options: Options) -> None:
    """Asks AWS's price list for the env's region, and keeps what it says on this machine."""
    from aistratus.cli.session import open_session

    session = open_session(options)
    region = session.cloud.region
    listed = [price for price in known().prices if price.region == region]
    kinds = sorted({session.settings.node.cpu_type, *price_api.machine_types(known().prices)})
    found, silent = price_api.ask(session.cloud.elsewhere("pricing", price_api.REGIONS[0]), region, kinds)
    if not found:
        raise Failure(f"AWS's price list knows nothing for {region}", todo="the prices in the package stay as they are")
    remember(found)
    before = {(price.service, price.item): price.usd for price in listed}
    changed = [price for price in found if before.get((price.service, price.item)) != price.usd]
    if options.json:
        shown.emit(
            {"region": region, "found": len(found), "changed": [_document(price) for price in changed],
             "not_found": silent}
        )  # fmt: skip
        return
    console = shown.results(options)
    for price in changed:
        old = before.get((price.service, price.item))
        was = f"${old:f}" if old is not None else "unknown"
        console.print(f"{price.service} {price.item}: {was} → ${price.usd:f} a {price.unit}", markup=False)
    console.print(f"{len(found)} prices of {region} as of today, {len(changed)} of them changed", markup=False)
    if silent:
        console.print(f"as they were, because the price list didn't say: {', '.join(silent)}", markup=False)
    shown.people(options).print("`aistratus up` writes them down for the guard", markup=False)


def _document(price: Price) -> dict[str, object]:
    return {
        "service": price.service,
        "item": price.item,
        "unit": price.unit,
        "usd": float(price.usd),
        "free": float(price.free),
        "asof": price.asof.isoformat(),
        "source": price.source,
    }
