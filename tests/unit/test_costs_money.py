"""What is told besides the meter: a forecast, AWS's own figures, its price list, and bars."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from aistratus.core.errors import Failure
from aistratus.costs import billed, meter, price_api, prices
from aistratus.costs.forecast import forecast
from aistratus.costs.meter import HOUR_MS, Line, Standing, Tariff
from aistratus.costs.prices import PriceList
from aistratus.costs.spans import Span
from aistratus.pictures.bars import bar
from aistratus.router import spending

D = Decimal


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


BEGIN, NOW = ms("2026-11-01"), ms("2026-11-16")
TARIFF = Tariff((Standing(BEGIN, {"volume": Line(month=D(3))}),), {"t3.small": D("0.1")})


def daily(hours: list[float]) -> list[Span]:
    """So many hours of each day, from its noon on."""
    starts = [BEGIN + day * 24 * HOUR_MS + 12 * HOUR_MS for day in range(len(hours))]
    return [Span("i", "t3.small", at, at + int(long * HOUR_MS)) for at, long in zip(starts, hours, strict=True)]


# --- forecast ---------------------------------------------------------------------------------------------------------


def test_days_that_are_all_alike_leave_no_doubt() -> None:
    found = forecast(daily([5.0] * 15), TARIFF, NOW, BEGIN)
    assert found.usd == pytest.approx(D(3) + 30 * D("0.5"))
    assert found.high - found.low < D("0.001")
    assert found.days == 14


def test_days_that_differ_make_a_range_around_what_is_expected_and_none_ends_below_what_stands() -> None:
    found = forecast(daily([0.0, 12.0] * 7 + [0.0]), TARIFF, NOW, BEGIN)
    assert D(3) + D("8.4") <= found.low < found.usd < found.high
    nothing = forecast([], TARIFF, NOW, BEGIN)
    assert nothing.low == nothing.usd == nothing.high == pytest.approx(D(3))


def test_of_a_first_day_little_is_known_and_the_range_says_so() -> None:
    now = BEGIN + 15 * HOUR_MS
    found = forecast(daily([2.0]), TARIFF, now, BEGIN)
    assert found.days == 0 and found.high > 2 * found.usd > 2 * found.low


def test_of_what_was_taken_down_no_more_is_expected_than_was_spent() -> None:
    down = TARIFF.changed(Standing(NOW - HOUR_MS, {}))
    found = forecast(daily([5.0] * 14), down, NOW, BEGIN)
    spent = meter.bill(meter.stretches(daily([5.0] * 14), down, NOW), BEGIN, NOW).usd
    assert found.usd == found.low == found.high == spent > 0


# --- what AWS has billed ----------------------------------------------------------------------------------------------


def group(service: str, usd: str) -> dict[str, Any]:
    return {"Keys": [service], "Metrics": {"UnblendedCost": {"Amount": usd, "Unit": "USD"}}}


def test_what_is_billed_is_laid_beside_what_was_metered_and_each_gap_has_its_reason() -> None:
    answer = {
        "ResultsByTime": [{"Groups": [group(billed.EC2, "1.00"), group("Tax", "0.50"), group("AmazonSQS", "0.02")]}]
    }
    found = billed.answered([answer], date(2026, 11, 1), date(2026, 11, 17), NOW)
    assert billed.Billed.read(json.loads(json.dumps(found.document()))) == found
    metered = {"machine t3.small": D("1.00"), "volume": D("1.40"), "dashboard": D("1.5")}
    lines = {gap.service: gap for gap in billed.gaps(metered, {"dashboard": "Dashboard"}, found)}
    assert lines[billed.EC2].why == ""
    assert "without tax" in lines["Tax"].why and "by use" in lines["AmazonSQS"].why
    assert "gives away" in lines["AmazonCloudWatch"].why and "behind" in lines[billed.EC2_OTHER].why
    assert sum(gap.billed for gap in lines.values()) == found.usd == D("1.52")


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        ("AccessDeniedException", "User not enabled for cost explorer access", "Cost Explorer isn't switched on"),
        ("DataUnavailableException", "Data is not available", "Cost Explorer has no data yet"),
    ],
)
def test_an_account_that_never_used_cost_explorer_is_told_so_and_not_of_a_permission(
    code: str, message: str, told: str
) -> None:
    def call(**parameters: Any) -> dict[str, Any]:
        raise ClientError({"Error": {"Code": code, "Message": message}}, "GetCostAndUsage")

    with pytest.raises(Failure, match=told):
        billed.asked(call, {})


def test_cost_explorer_is_asked_until_there_is_no_further_page() -> None:
    pages = {None: {"ResultsByTime": [], "NextPageToken": "2"}, "2": {"ResultsByTime": []}}
    assert billed.asked(lambda **asked: pages[asked.get("NextPageToken")], {}) == list(pages.values())


# --- the price list ---------------------------------------------------------------------------------------------------


def product(usage: str, *tiers: tuple[str, str, str]) -> dict[str, Any]:
    """Tiers are where they begin, USD, and the unit."""
    dimensions = {
        str(number): {"beginRange": begin, "unit": unit, "pricePerUnit": {"USD": usd}}
        for number, (begin, usd, unit) in enumerate(tiers)
    }
    return {
        "product": {"attributes": {"usagetype": usage}},
        "terms": {"OnDemand": {"t": {"priceDimensions": dimensions}}},
    }


def test_a_price_is_taken_where_it_is_the_only_one_and_in_the_right_unit() -> None:
    query = price_api.machine("t3.small")
    mine = product("EUC1-BoxUsage:t3.small", ("0", "0.0240000000", "Hrs"))
    others = [
        product("EUC1-UnusedBox:t3.small", ("0", "0.03", "Hrs")),
        product("BoxUsage:t3.smaller", ("0", "1", "Hrs")),
    ]
    assert price_api.price_of([*others, mine], query) == D("0.024")
    assert price_api.price_of([product("BoxUsage:t3.small", ("0", "0.02", "Hrs"))], query) == D("0.02")
    assert price_api.price_of(others, query) is None
    assert price_api.price_of([mine, product("EU-BoxUsage:t3.small", ("0", "0.025", "Hrs"))], query) is None
    assert price_api.price_of([product("BoxUsage:t3.small", ("0", "0.02", "Quantity"))], query) is None


def test_of_tiers_the_first_that_costs_anything_counts() -> None:
    query = next(query for query in price_api.QUERIES if query.item == "http-requests")
    tiers = (("300000000", "0.00000108", "Requests"), ("0", "0.0000012000", "Requests"))
    assert price_api.price_of([product("EUC1-ApiGatewayHttpRequest", *tiers)], query) == D("0.0000012")


def test_each_query_is_about_an_item_of_the_list_in_its_unit() -> None:
    units = {(price.service, price.item): price.unit for price in prices.packaged().prices}
    assert [query for query in price_api.QUERIES if units.get((query.service, query.item)) != query.unit] == []


def test_a_dashboard_is_asked_for_in_no_region_because_it_belongs_to_the_account() -> None:
    asked: list[dict[str, str]] = []

    class Client:
        def get_paginator(self, operation: str) -> Client:
            return self

        def paginate(self, *, ServiceCode: str, Filters: list[dict[str, str]]) -> list[dict[str, list[str]]]:
            asked.append({one["Field"]: one["Value"] for one in Filters})
            of_account = product("DashboardsUsageHour-Basic", ("0", "0", "Dashboards"), ("3", "3.0", "Dashboards"))
            return [{"PriceList": [json.dumps(of_account)] if "regionCode" not in asked[-1] else []}]

    found, _ = price_api.ask(Client(), "eu-central-1", [])
    assert [(price.item, price.usd, price.region) for price in found] == [("dashboard", D(3), "eu-central-1")]
    assert sum("regionCode" not in fields and "fromRegionCode" not in fields for fields in asked) == 1


def test_prices_that_were_heard_win_over_the_package_and_an_unreadable_file_over_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    old = prices.packaged().require("ec2", "t3.small", "eu-central-1")
    heard = price_api._price(price_api.machine("t3.small"), "eu-central-1", D("0.5"), date(2026, 11, 26))
    prices.remember([heard])
    prices.remember([price_api._price(price_api.machine("t3.nano"), "eu-central-1", D("0.1"), date(2026, 11, 26))])
    known: PriceList = prices.known()
    assert known.require("ec2", "t3.small", "eu-central-1").usd == D("0.5") != old.usd
    assert known.require("ec2", "t3.nano", "eu-central-1").usd == D("0.1")
    boards = next(query for query in price_api.QUERIES if query.item == "dashboard")
    prices.remember(
        [price_api._price(boards, place, D(4), date(2026, 11, 26)) for place in ("eu-west-1", "eu-north-1")]
    )
    assert [prices.known().require("cloudwatch", "dashboard", place).free for place in ("eu-west-1", "eu-north-1")] == [
        D(3),
        D(3),
    ]
    prices._cache().write_text("service,item\nnonsense", encoding="utf-8")
    assert prices.known().require("ec2", "t3.small", "eu-central-1") == old


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_bar_is_as_long_as_its_share_and_what_is_more_than_nothing_is_seen() -> None:
    assert [bar(D(value), D(8), 8) for value in ("8", "4", "0")] == ["█" * 8, "█" * 4, ""]
    assert bar(D("0.0001"), D(8), 8) == "▏"


# --- beside a conversation --------------------------------------------------------------------------------------------


def test_the_router_counts_on_from_what_the_guard_found_and_is_silent_where_that_is_old() -> None:
    item = {"at_ms": NOW, "month": "2026-11", "month_usd": 5.0, "day_usd": 0.0, "usd_per_hour": 1.2, "unknown": []}
    told = spending.cost(item, NOW + 300_000, 1.25, 20.0)
    assert told == {"today_eur": 0.08, "month_eur": 4.08, "eur_per_hour": 0.96, "limit_eur": 20.0}
    assert spending.cost(item, NOW + 3 * HOUR_MS, 1.25, 20.0) is None
    assert spending.cost({**item, "unknown": ["machine x9"]}, NOW, 1.25, 20.0) is None
    assert spending.cost(None, NOW, 1.25, 20.0) is None
    midnight = {**item, "at_ms": ms("2026-11-19T23:58:00"), "day_usd": 9.0}
    told = spending.cost(midnight, ms("2026-11-20T00:05:00"), 1.0, 20.0)
    assert told is not None and told["today_eur"] == pytest.approx(0.1)
    assert spending.cost({**item, "month": "2026-10"}, NOW, 1.25, 20.0) is None


def test_the_days_of_a_month_add_up_to_it() -> None:
    spans = daily([5.0, 2.0])
    made = meter.stretches(spans, TARIFF, NOW)
    assert sum(
        (meter.bill(made, since, until).usd for _, since, until in meter.days(BEGIN, NOW)), D(0)
    ) == pytest.approx(meter.bill(made, BEGIN, NOW).usd)
