"""What the declared stack costs: every kind has an entry, and a stopped node costs next to nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aistratus.cli.session import described
from aistratus.core.graph import Stack
from aistratus.core.resource import Ref, Resource, kinds
from aistratus.costs.declared import UNKNOWN, as_it_is, cost, given_away, total
from aistratus.costs.prices import packaged
from aistratus.costs.uses import FREE, METERED, TAKES, runs_a_month, takes
from aistratus.resources.compute import Instance
from aistratus.settings_load import load

REGION = "eu-central-1"
PRICES = packaged()
PAGE = " ".join((Path(__file__).parents[2] / "aistratus" / "costs" / "README.md").read_text("utf-8").split())
TABLES = (TAKES, METERED, FREE)


def declared(**flags: Any) -> Stack:
    """The stack of an env on AWS, with everything that settings switch off beside it."""
    return described(load(environ={}, flags={"env": "dev", "region": REGION, **flags}))


STACK = declared(auth={"operator_email": "operator@example.com"})
BY_KEY = STACK.whole.by_key


def usd(resource: Resource, region: str = REGION) -> tuple[Decimal | None, Decimal | None]:
    found = cost(resource, PRICES, region)
    return found.idle_month, found.active_hour


def test_every_kind_has_exactly_one_entry() -> None:
    everything = {resource.kind for resource in STACK.whole.resources} | {kind.__name__ for kind in kinds()}
    ours = {kind.__name__ for kind in kinds() if kind.__module__.startswith("aistratus.")}
    assert {kind for kind in everything & ours if sum(kind in table for table in TABLES) != 1} == set()


def test_every_item_that_is_taken_has_a_price_in_each_region() -> None:
    items = {use.item for resource in STACK.whole.resources for use in takes(resource) or ()}
    items |= {item for metered in METERED.values() for item in metered} - {("scheduler", "runs")}
    for region in ("eu-central-1", "eu-west-1", "us-east-1"):
        assert [item for item in items if PRICES.get(*item, region) is None] == []


@pytest.mark.parametrize("region", ["eu-central-1", "eu-west-1", "us-east-1"])
def test_a_stopped_stack_costs_at_most_three_euros_a_month(region: str) -> None:
    """Line by line at list prices; what AWS gives away each month for good is taken off at the end, and told.

    Where others have used up what AWS gives away, one setting keeps that at list prices, too.
    """
    rate = Decimal(str(load(environ={}).budget.usd_per_eur))
    lines = {resource.key: cost(resource, PRICES, region).idle_month for resource in STACK.resources}
    assert [key for key, idle in lines.items() if idle is None] == []
    assert (
        sum(idle for idle in lines.values() if idle)
        == total(cost(resource, PRICES, region) for resource in STACK.resources).idle_month
    )
    listed = sum((idle for idle in lines.values() if idle), Decimal(0)) / rate
    given = sum(given_away(STACK.resources, PRICES, region).values()) / rate
    assert 0 < listed - given <= 3, {key: idle for key, idle in lines.items() if idle}
    bare = declared(watch={"dashboard": False})
    at_list = (total(cost(resource, PRICES, region) for resource in bare.resources).idle_month or Decimal(99)) / rate
    assert listed - given < at_list <= 3
    if region == "eu-central-1":
        told = f"€{listed:.2f} a month idle at list prices in {region}. Of that AWS gives €{given:.2f} away"
        assert told in PAGE and f"€{listed - given:.2f} on the bill" in PAGE
        assert f"`watch.dashboard = false` saves ours: €{at_list:.2f} a month idle at list prices" in PAGE


def test_the_volume_is_what_a_stopped_node_costs() -> None:
    node = BY_KEY["node"]
    idle, active = usd(node)
    assert idle == 20 * Decimal("0.0952")
    assert active == Decimal("0.0240") + Decimal("0.005"), "the machine and its public address"
    assert isinstance(node, Instance)
    assert usd(replace(node, public_ip=False))[1] == Decimal("0.0240")


def test_an_hour_costs_what_the_shape_costs_that_the_node_has_now() -> None:
    node = BY_KEY["node"]
    assert isinstance(node, Instance)
    on_gpu = as_it_is(node, replace(node, type="g4dn.xlarge"))
    assert usd(on_gpu)[1] == Decimal("0.658") + Decimal("0.005")


def test_a_volume_that_is_larger_than_declared_is_paid_for_as_it_is() -> None:
    node = BY_KEY["node"]
    assert isinstance(node, Instance)
    assert usd(as_it_is(node, replace(node, volume_gib=30)))[0] == 30 * Decimal("0.0952")
    assert as_it_is(node, replace(node, volume_gib=10)) == node, "`up` grows it"


def test_an_unknown_shape_makes_line_and_sum_unknown_and_never_nothing() -> None:
    node = BY_KEY["node"]
    assert isinstance(node, Instance)
    odd = cost(replace(node, type="x9.enormous"), PRICES, REGION)
    assert (odd.idle_month, odd.active_hour, odd.basis) == (20 * Decimal("0.0952"), None, "unknown")
    assert total([odd, cost(BY_KEY["vpc"], PRICES, REGION)]).active_hour is None


def test_an_unknown_region_or_kind_is_unknown() -> None:
    assert cost(BY_KEY["node"], PRICES, "mars-north-1").idle_month is None
    assert cost(Thing(key="t"), PRICES, REGION) == UNKNOWN


def test_what_is_free_costs_nothing_and_says_why() -> None:
    assert cost(BY_KEY["vpc"], PRICES, REGION).basis == "free"
    assert all(FREE.values())
    assert cost(BY_KEY["jobs_table"], PRICES, REGION).basis == "by use"
    assert cost(BY_KEY["daily_summary_schedule"], PRICES, REGION).basis == "by use", "its own price isn't known here"


# --- kinds by their name ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Thing(Resource):
    """No kind of ours."""


def kind(name: str, **fields: Any) -> Resource:
    """A resource of a kind that is known by its name and these fields."""
    made = type(name, (Resource,), {"__annotations__": dict.fromkeys(fields, Any), **fields})
    return dataclass(frozen=True, kw_only=True)(made)(key="it")


FUNCTION = kind("Function", memory_mb=512, architecture="arm64")


@pytest.mark.parametrize(
    "resource, idle_usd",
    [
        (kind("NatGateway"), "37.96"),
        (kind("ElasticIp"), "3.65"),
        (kind("Secret"), "0.4"),
        (kind("Dashboard"), "3"),
        (kind("Alarm"), "0.1"),
        (kind("Alarm", metrics=("requests", "errors")), "0.2"),
        (kind("Alarm", period_s=10), "0.3"),
        (kind("Alias", provisioned=1, memory_mb=512, architecture="arm64"), "4.38"),
        (kind("Alias", provisioned=0, memory_mb=512, architecture="arm64"), "0"),
        (kind("EventRule", schedule="rate(5 minutes)", target=Ref(FUNCTION)), "0.06"),
        (kind("EventRule", schedule="rate(5 minutes)", target=Ref(FUNCTION), enabled=False), "0"),
    ],
    ids=lambda value: value.kind if isinstance(value, Resource) else value,
)
def test_what_costs_by_the_month(resource: Resource, idle_usd: str) -> None:
    idle, active = usd(resource)
    assert idle is not None and active == 0
    assert idle.quantize(Decimal("0.01")) == Decimal(idle_usd).quantize(Decimal("0.01"))


def test_a_leftover_volume_has_a_size_that_nobody_knows() -> None:
    assert usd(kind("Volume")) == (None, 0)


def test_aws_gives_away_three_dashboards_and_ten_alarms_of_an_account() -> None:
    four = [kind("Dashboard")] * 4
    assert given_away(four, PRICES, REGION) == {("cloudwatch", "dashboard"): 9}
    assert given_away([kind("Alarm")] * 12, PRICES, REGION) == {("cloudwatch", "alarm"): 1}
    assert given_away([kind("Secret")], PRICES, REGION) == {}


@pytest.mark.parametrize(
    "expression, runs",
    [
        ("rate(30 minutes)", 1460),
        ("rate(1 hour)", 730),
        ("rate(1 day)", Decimal(730) / 24),
        ("cron(0 8 * * ? *)", Decimal(730) / 24),
        ("cron(0/15 * * * ? *)", 2920),
        ("cron(0 8,20 * * ? *)", Decimal(730) / 12),
        ("cron(0 9 ? * MON-FRI *)", Decimal(730) / 24 * 5 / 7),
        ("cron(30 1 1 * ? *)", 1),
        ("at(2030-01-01T08:00:00)", 0),
        ("rate(0 minutes)", None),
        ("cron(0 8 L * ? *)", None),
        ("now and then", None),
    ],
)
def test_how_often_a_schedule_fires_in_a_month(expression: str, runs: Decimal | int | None) -> None:
    assert runs_a_month(expression) == (None if runs is None else pytest.approx(Decimal(runs)))


def test_a_schedule_that_cannot_be_read_has_no_known_price() -> None:
    assert usd(kind("EventRule", schedule="now and then"))[0] is None
