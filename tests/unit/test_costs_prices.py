"""The price list is complete, dated and sourced, and what it doesn't know stays unknown."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from aistratus.core.errors import Failure
from aistratus.costs.prices import PriceUnknown, Rate, packaged

REGIONS = {"eu-central-1", "eu-west-1", "us-east-1"}
NOT_OFFERED = {("ec2", "g6.xlarge", "eu-west-1")}
"""What AWS doesn't sell there; not listing it is right."""
NOT_SEEN = {("scheduler", "runs", "eu-central-1"), ("scheduler", "runs", "eu-west-1")}
"""What nobody has looked up yet; another region's price is no price."""


def test_every_row_says_where_its_price_comes_from_and_when() -> None:
    for price in packaged().prices:
        assert price.source.startswith("https://aws.amazon.com/"), price
        assert date(2024, 1, 1) <= price.asof <= date.today(), price
        assert price.usd >= 0 and price.free >= 0, price
        assert all((price.service, price.item, price.unit)), price


def test_what_is_free_says_why() -> None:
    free = [price for price in packaged().prices if price.usd == 0]
    assert free
    assert all(price.note.startswith("free: ") for price in free)


def test_every_item_has_one_price_in_each_region() -> None:
    places = [(price.service, price.item, price.region) for price in packaged().prices]
    assert len(places) == len(set(places))
    items = {(service, item) for service, item, _ in places}
    missing = {(*item, region) for item in items for region in REGIONS} - set(places)
    assert missing == NOT_OFFERED | NOT_SEEN


def test_a_price_that_was_taken_from_another_region_says_so() -> None:
    taken = [
        price for price in packaged().prices if price.item.startswith("provisioned") and price.region != "us-east-1"
    ]
    assert taken
    assert all(price.note.startswith("as in us-east-1: ") for price in taken)


@pytest.mark.parametrize(
    "service, item, usd",
    [
        ("ec2", "t3.small", "0.024"),
        ("ebs", "gp3", "0.0952"),
        ("vpc", "public-ipv4", "0.005"),
        ("lambda", "requests", "0.0000002"),
        ("dynamodb", "writes", "0.0000007625"),
        ("sns", "emails", "0.00002"),
        ("secretsmanager", "requests", "0.000005"),
    ],
)
def test_a_price_is_told_for_a_single_one(service: str, item: str, usd: str) -> None:
    assert packaged().require(service, item, "eu-central-1").each == Decimal(usd)


def test_what_is_given_away_is_counted_in_single_ones_too() -> None:
    assert packaged().require("lambda", "requests", "us-east-1").free_each == 1_000_000
    assert packaged().require("cloudwatch", "dashboard", "us-east-1").free_each == 3


@pytest.mark.parametrize("place", [("ec2", "p5.48xlarge", "us-east-1"), ("ec2", "t3.small", "mars-north-1")])
def test_a_missing_price_is_unknown_and_an_error_where_it_matters(place: tuple[str, str, str]) -> None:
    assert packaged().get(*place) is None
    with pytest.raises(PriceUnknown, match=f"no price for {place[0]} {place[1]} in {place[2]}"):
        packaged().require(*place)


def test_unknown_stays_unknown_in_euros() -> None:
    rate = Rate(Decimal("1.25"), date(2025, 1, 1))
    assert (rate.euros(Decimal(5)), rate.euros(Decimal(0)), rate.euros(None)) == (4, 0, None)


@pytest.mark.parametrize("worth", ["0", "-1"])
def test_a_rate_that_makes_no_sense_is_refused(worth: str) -> None:
    with pytest.raises(Failure, match="makes no sense"):
        Rate(Decimal(worth), date(2025, 1, 1))
