"""How prices look in a plan: what a line costs, what it costs more or less, and what is unknown."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from rich.console import Console

from aistratus.cli import show
from aistratus.cli.quotes import Quotes, hourly, monthly
from aistratus.cli.session import described
from aistratus.core.diff import FieldChange
from aistratus.core.plan import Action, Change
from aistratus.core.resource import Found, Resource
from aistratus.costs.prices import Rate, packaged
from aistratus.resources.compute import Instance
from aistratus.settings_load import load

QUOTES = Quotes("eu-central-1", Rate(Decimal(1), date(2025, 1, 1)), packaged())
STACK = described(load(environ={}, flags={"env": "dev", "region": "eu-central-1"}))
BY_KEY = STACK.whole.by_key
NODE = BY_KEY["node"]


def found(resource: Resource, **fields: object) -> Found:
    return Found(state=replace(resource, **fields), ids={"id": f"{resource.key}-1"})  # type: ignore[arg-type]


def change(key: str, action: Action, **fields: object) -> Change:
    """A line about something that is there, except for what is to be created."""
    resource = BY_KEY[key]
    differences = tuple(FieldChange(name, value, getattr(resource, name)) for name, value in fields.items())
    return Change(resource, action, differences, None if action == "create" else found(resource, **fields))


@pytest.mark.parametrize(
    "line, month, hour",
    [
        (change("vpc", "create"), "free", ""),
        (change("jobs_table", "create"), "by use", ""),
        (change("node", "create"), "€1.90", "€0.0290"),
        (change("node", "update", volume_gib=12), "€1.14 → €1.90", "€0.0290"),
        (change("node", "delete"), "−€1.90", "−€0.0290"),
        (change("nat_gateway", "delete"), "−€37.96", ""),
        (change("nat_address", "delete"), "−€3.65", ""),
        (change("vpc", "delete"), "free", ""),
        (Change(replace(NODE, type="x9.enormous"), "create"), "€1.90", "unknown"),  # type: ignore[call-arg]
        (Change(NODE, "unchanged", found=found(NODE, type="g4dn.xlarge")), "€1.90", "€0.6630"),
    ],
)
def test_a_line_says_what_it_costs(line: Change, month: str, hour: str) -> None:
    assert QUOTES.columns(line) == (month, hour)


def test_the_total_counts_what_stays() -> None:
    lines = [change("node", "unchanged"), change("vpc", "create"), change("nat_gateway", "delete")]
    assert (
        QUOTES.told(lines)
        == "On AWS: €1.90 a month idle at list prices, €0.0290 more for each hour in which the node runs"
    )
    dashboard = QUOTES.told([change("dashboard", "create"), *lines])
    assert (
        dashboard.startswith("On AWS: €4.90 a month idle at list prices") and "On the bill €1.90 a month" in dashboard
    )
    assert QUOTES.document(QUOTES.total(lines)) == {"idle_month_eur": 1.904, "active_hour_eur": 0.029}
    assert QUOTES.document(QUOTES.saved(lines)) == {"idle_month_eur": 37.96, "active_hour_eur": 0.0}


def test_one_unknown_line_makes_the_total_unknown() -> None:
    assert isinstance(NODE, Instance)
    lines = [Change(replace(NODE, type="x9.enormous"), "create"), change("vpc", "create")]
    assert "unknown more for each hour" in QUOTES.told(lines)
    assert QUOTES.document(QUOTES.total(lines)) == {"idle_month_eur": 1.904, "active_hour_eur": None}
    nowhere = replace(QUOTES, region="mars-north-1")
    assert nowhere.told(lines).startswith("On AWS: unknown a month idle")


@pytest.mark.parametrize(
    "euros, month, hour",
    [
        (None, "unknown", "unknown"),
        ("0", "€0", "€0"),
        ("0.001", "under €0.01", "€0.0010"),
        ("0.00001", "under €0.01", "under €0.0001"),
        ("2.855", "€2.86", "€2.8550"),
        ("1234.5", "€1234.50", "€1234.5000"),
    ],
)
def test_amounts_are_never_rounded_to_nothing(euros: str | None, month: str, hour: str) -> None:
    amount = None if euros is None else Decimal(euros)
    assert (monthly(amount), hourly(amount)) == (month, hour)


def printed(*lines: Change) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    show.priced(lines, console, QUOTES, STACK.group_of)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_plan_is_grouped_with_one_line_a_resource() -> None:
    lines = printed(
        change("node", "create"),
        change("vpc", "unchanged"),
        change("router_log", "update", retention_days=3),
        change("nat_gateway", "delete"),
    )
    assert lines == [
        "network                                   a month idle   an hour active",
        "  vpc                Vpc                          free                   vpc-1",
        "- nat_gateway        NatGateway                −€37.96                   nat_gateway-1",
        "router",
        "~ router_log         LogGroup                   by use                   router_log-1",
        "    retention_days: 3 → 30",
        "node",
        "+ node               Instance                    €1.90          €0.0290",
    ]


def test_a_leftover_that_nobody_declares_stands_among_others() -> None:
    stranger = replace(BY_KEY["vpc"], key="old_vpc")
    assert printed(Change(stranger, "delete", found=found(stranger)))[0].startswith("others ")


def test_drift_has_its_price() -> None:
    lines = [change("nat_gateway", "delete"), change("node", "update", volume_gib=12), change("vpc", "unchanged")]
    assert QUOTES.drift(lines[:1]) == "as it is now: nat_gateway left on: +€37.96 a month"
    assert QUOTES.drift(lines) == (
        "as it is now: nat_gateway left on: +€37.96 a month; node: −€0.76 a month; together +€37.20 a month"
    )
    assert QUOTES.drift([change("node", "update", volume_gib=12)]) == "as it is now: node: −€0.76 a month"
    assert QUOTES.drift(lines[2:]) == ""
