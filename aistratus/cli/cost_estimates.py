"""`cost --idle` and `cost --what-if`: what something would cost, from declarations and prices alone; no account."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from aistratus.cli import show
from aistratus.cli.cost_report import SIGNS
from aistratus.cli.cost_tables import NAME, plain
from aistratus.cli.quotes import quotes
from aistratus.cli.session import described
from aistratus.core.errors import UsageError
from aistratus.costs import declared
from aistratus.costs.standing import PUBLIC_ADDRESS

if TYPE_CHECKING:
    from aistratus.cli.options import Options

Currency = Literal["EUR", "USD"]
MOST_HOURS = 100_000


def region_of(options: Options) -> str:
    """The env's region, without asking anybody."""
    settings = options.load()
    if settings.region is not None:
        return settings.region
    assert options.embedded is not None
    access = options.embedded.access(settings, False)
    return access.region if access is not None else "eu-central-1"


def idle(options: Options, currency: Currency) -> None:
    """The declared stack's cost in an idle month, in which the node is stopped and no prompt comes."""
    settings, region = options.load(), region_of(options)
    stack, quoted = described(settings), quotes(settings, region)
    rate = quoted.rate.usd_per_eur if currency == "EUR" else Decimal(1)
    costs = {one.key: declared.cost(one, quoted.prices, region) for one in stack.resources}
    lines = {key: cost.idle_month for key, cost in costs.items() if cost.idle_month is None or cost.idle_month}
    total = declared.total(costs.values()).idle_month
    given = declared.given_away(stack.resources, quoted.prices, region)
    free = {item: usd / rate for item, usd in given.items()}
    saved = sum(free.values(), Decimal(0))
    if options.json:
        show.emit(
            {
                "env": settings.env,
                "region": region,
                "currency": currency,
                "lines": [
                    {"key": key, "amount": None if usd is None else round(float(usd / rate), 6)}
                    for key, usd in lines.items()
                ],
                "idle_month": None if total is None else round(float(total / rate), 6),
                "given_away": [
                    {"item": " ".join(item), "amount": round(float(amount), 6)} for item, amount in free.items()
                ],
                "left": None if total is None else round(float(total / rate - saved), 6),
            }
        )
        return
    console, sign = show.results(options), SIGNS[currency]

    def told(usd: Decimal | None) -> str:
        return "unknown" if usd is None else plain(usd / rate, sign)

    console.print(f"a month of env {settings.env} with the node stopped, in {region}:", markup=False)
    for key, usd in sorted(lines.items(), key=lambda line: -(line[1] or Decimal(0))):
        console.print(f"{'volume' if key == 'node' else key:<{NAME}} {told(usd):>10}", markup=False)
    console.print(f"{'at list prices':<{NAME}} {told(total):>10}", markup=False)
    for item, amount in sorted(free.items(), key=lambda line: -line[1]):
        console.print(f"{'free tier: ' + ' '.join(item):<{NAME}} {'−' + plain(amount, sign):>10}", markup=False)
    if total is None:
        show.people(options).print(
            "`aistratus cost prices --refresh` asks AWS's price list, which is free, for what is unknown", markup=False
        )
    if total is not None:
        left = "on the bill with the whole free tier"
        console.print(f"{left:<{NAME}} {plain(total / rate - saved, sign):>10}", markup=False)


def what_if(options: Options, asked: str, currency: Currency) -> None:
    """What so many hours of a type of machine cost.

    Raises:
        UsageError: the question can't be read.
        PriceUnknown: the type has no known price.
    """
    settings, region = options.load(), region_of(options)
    hours, kind = _question(asked, settings.node.cpu_type)
    quoted = quotes(settings, region)
    rate = quoted.rate.usd_per_eur if currency == "EUR" else Decimal(1)
    machine = quoted.prices.require("ec2", kind, region).each / rate
    address = quoted.prices.require(*PUBLIC_ADDRESS, region).each / rate
    address = Decimal(0) if settings.network.enable_nat_gw else address
    total = (machine + address) * hours
    if options.json:
        show.emit(
            {
                "region": region,
                "currency": currency,
                "type": kind,
                "hours": float(hours),
                "machine_hour": round(float(machine), 6),
                "address_hour": round(float(address), 6),
                "amount": round(float(total), 6),
            }
        )
        return
    sign = SIGNS[currency]
    show.results(options).print(
        f"{hours:g} hour{'' if hours == 1 else 's'} of {kind} in {region}: {plain(total, sign)} "
        f"({sign}{machine:.4f} an hour, its public address "
        f"{sign}{address:.4f}); on top of what the stack costs anyway (`aistratus cost --idle`)",
        markup=False,
    )


def _question(asked: str, default: str) -> tuple[Decimal, str]:
    """Hours and type of `hours=10,type=g4dn.xlarge`."""
    said = dict(part.partition("=")[::2] for part in asked.replace(" ", "").split(",") if part)
    example = "write it like hours=10,type=g4dn.xlarge"
    if unknown := {*said} - {"hours", "type"}:
        raise UsageError(f"--what-if {asked}: {', '.join(sorted(unknown))} isn't known", todo=example)
    if "hours" not in said:
        raise UsageError(f"--what-if {asked!r} doesn't say how many hours", todo=example)
    try:
        hours = Decimal(said["hours"])
    except ArithmeticError as error:
        raise UsageError(f"--what-if {asked}: hours has to be a number", todo=example) from error
    if not (hours.is_finite() and 0 <= hours <= MOST_HOURS):
        raise UsageError(f"--what-if {asked}: hours has to be between 0 and {MOST_HOURS}", todo=example)
    return hours, said.get("type") or default
