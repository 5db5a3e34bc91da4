"""What AWS's own figure of the month counts for."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from aistratus.spending import Records, counted


@pytest.mark.parametrize(
    "now, day, told, says, trusted",
    [
        ("2026-12-01T00:05", "2026-11-30", "18.5", "21.4", False),  # last month's, still
        ("2026-12-01T09:00", "2026-11-30", "18.5", "0.4", True),  # worked out anew
        ("2026-12-01T09:00", "2026-12-01", "0", "21.4", False),  # the summary was told since, without a figure
        ("2026-12-01T09:00", "2026-10-30", "30", "21.4", False),  # of a month that nobody was told of
        ("2026-12-01T09:00", "", "0", "21.4", False),  # there never was a summary
        ("2026-12-02T00:05", "2026-12-01", "0", "21.4", True),
        ("2026-12-20T09:00", "2026-11-30", "18.5", "21.4", True),  # summaries have stopped; the figure hasn't
    ],
)
def test_on_a_months_first_day_the_figure_of_the_last_month_is_never_taken_for_its_own(
    now: str, day: str, told: str, says: str, trusted: bool
) -> None:
    now_ms = round(datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp() * 1000)
    records = Records(now_ms, told={"day": day, "usd": told} if day else {})
    found = counted({"CalculatedSpend": {"ActualSpend": {"Amount": says, "Unit": "USD"}}}, records)
    assert found.usd == (Decimal(says) if trusted else None)
    assert ("last month's" in found.note) is not trusted
