"""What the guard has metered reaches the dashboard, and costs no more than it must."""

from __future__ import annotations

import pytest

from aistratus.cli.session import described
from aistratus.functions.metering import Metered, metric
from aistratus.resources.dashboards import Dashboard
from aistratus.settings_load import load

SIX = 1_795_672_800  # 2026-11-26 06:00 UTC
HOUR = 3600


def metered(at_s: int, *unknown: str) -> Metered:
    return Metered(at_s * 1000, month_usd=3.14159, day_usd=0.2, usd_per_hour=0.01, limit_usd=24.68, unknown=unknown)


def test_the_dashboard_draws_the_metric_that_the_guard_emits() -> None:
    told = metric(metered(SIX), "dev", running=True)
    assert told is not None
    (described_as,) = told["_aws"]["CloudWatchMetrics"]
    assert (told["SpendUSD"], told["Env"]) == (3.1416, "dev")
    dashboard = described(load(environ={}, flags={"env": "dev", "region": "eu-central-1"})).by_key["dashboard"]
    assert isinstance(dashboard, Dashboard)
    rows = [row[:4] for widget in dashboard.body["widgets"] for row in widget["properties"].get("metrics", [])]
    assert [
        described_as["Namespace"],
        described_as["Metrics"][0]["Name"],
        *described_as["Dimensions"][0],
        "dev",
    ] in rows


@pytest.mark.parametrize(
    ("at_s", "running", "tells"),
    [(SIX + HOUR, True, True), (SIX + HOUR, False, False), (SIX, False, True), (SIX + 240, False, True),
     (SIX + 480, False, False), (SIX + 6 * HOUR, False, True)],
)  # fmt: skip
def test_while_nothing_runs_it_is_emitted_four_times_a_day(at_s: int, running: bool, tells: bool) -> None:
    assert (metric(metered(at_s), "dev", running=running) is not None) is tells


def test_a_month_that_cannot_be_counted_has_no_figure() -> None:
    assert metric(metered(SIX, "machine t3.micro"), "dev", running=True) is None
