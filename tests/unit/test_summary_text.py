"""What people read about money: figures with their currency, one line on a quiet day, and no surprise in a subject."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aistratus.functions.metering import Summary
from aistratus.functions.summary_text import Rate, Running, Spend, body, subject

RATE = Rate(1.25, "2025-12-31")
NOW = datetime(2026, 11, 5, 7, 0, tzinfo=UTC)


def node(hours: float = 3.5) -> Running:
    return Running("node", "i-0abc", "g4dn.xlarge", NOW - timedelta(hours=hours))


def test_a_day_without_spend_is_one_line() -> None:
    quiet = Spend(limit=25, actual=2.5, forecast=5, since=0.0, counted=True)
    assert body("dev", quiet, [], RATE, NOW) == (
        "Env dev: nothing was spent and nothing is running. "
        "This month: €2.00 of €20.00 (10%); expected by its end: €4.00."
    )
    assert subject("dev", quiet, [], RATE) == "Aistratus dev: nothing spent"


def test_a_day_with_spend_tells_the_day_the_month_and_what_runs() -> None:
    text = body("dev", Spend(limit=25, actual=12.5, forecast=30, since=1.25, counted=True), [node()], RATE, NOW)
    assert text.splitlines() == [
        "Env dev, 5 November 2026.",
        "",
        "Since the last summary: €1.00.",
        "This month: €10.00 of €20.00 (50%); expected by its end: €24.00.",
        "",
        "Running: node i-0abc (g4dn.xlarge) for 3 h 30 min.",
        "To stop it: aistratus --env dev node stop",
        "",
        "AWS works these figures out up to three times a day, without tax. "
        "€1 is counted as $1.25 (rate of 2025-12-31).",
    ]


def test_a_machine_that_runs_makes_no_quiet_day_and_an_empty_bill_says_what_may_be_missing() -> None:
    text = body("dev", Spend(limit=25, actual=0, forecast=None, since=0.0), [node()], RATE, NOW)
    assert "cost allocation tags" in text
    assert "not known yet" in text
    assert "Running: node" in text


def test_what_was_never_counted_is_not_called_a_quiet_day() -> None:
    never = Spend(limit=25, actual=0.0, since=0.0)
    line = body("dev", never, [], RATE, NOW)
    assert line.count("\n") == 0
    assert "nothing was spent" not in line and "cost allocation tags" in line
    assert subject("dev", never, [], RATE) == "Aistratus dev: nothing counted yet"
    since_then = body("dev", Spend(limit=25, actual=0.0, since=0.0, counted=True), [node()], RATE, NOW)
    assert "cost allocation tags" not in since_then


def test_a_new_month_whose_figure_is_the_last_ones_says_that_it_is_not_known() -> None:
    unknown = Spend(limit=25, actual=None, counted=True)
    text = body("dev", unknown, [], RATE, NOW)
    assert "This month: not known yet (of €20.00)" in text
    assert "Since the last summary" not in text and "cost allocation tags" not in text
    assert subject("dev", unknown, [], RATE) == "Aistratus dev: a new month, not known yet"


def test_without_a_budget_it_says_so() -> None:
    assert "`aistratus up` makes it again" in body("dev", None, [], RATE, NOW)
    assert subject("dev", None, [], RATE) == "Aistratus dev: no budget"


@pytest.mark.parametrize("actual", [0.0, 12.5, 123456789.0])
def test_a_subject_is_one_short_line_of_ascii(actual: float) -> None:
    line = subject("a" * 16, Spend(limit=25, actual=actual), [node()], RATE)
    assert line.isascii()
    assert len(line) < 100


def test_a_limit_of_nothing_divides_nothing() -> None:
    assert "(" not in body("dev", Spend(limit=0, actual=0, counted=True), [], RATE, NOW)


RECORD = Summary(yesterday=0.25, ran=True, month=5.0, expected=10.0, low=7.5, high=12.5)


def test_the_mail_tells_what_was_metered_beside_what_aws_counts_and_how_to_stop_what_runs() -> None:
    spend = Spend(limit=25, actual=2.5, forecast=5, since=0.0, counted=True)
    text = body("dev", spend, [node()], RATE, NOW, RECORD)
    assert (
        "By the env's own record: yesterday €0.20, this month €4.00 of €20.00; expected by its end: €8.00, between "
        "€6.00 and €10.00."
    ) in text
    assert "To stop it: aistratus --env dev node stop" in text
    assert subject("dev", spend, [node()], RATE, RECORD) == "Aistratus dev: EUR 4.00 of EUR 20.00 this month"


def test_a_day_on_which_nothing_ran_is_one_line_also_by_our_own_record() -> None:
    spend = Spend(limit=25, actual=2.5, forecast=5, since=0.09, counted=True)
    line = body("dev", spend, [], RATE, NOW, replace(RECORD, ran=False))
    assert line.startswith("Env dev: nothing ran yesterday and nothing is running. ") and line.count("\n") == 0
    assert subject("dev", spend, [], RATE, replace(RECORD, ran=False)).startswith(
        "Aistratus dev: nothing ran, EUR 4.00"
    )
    never = replace(spend, counted=False)
    assert "cost allocation tags" in body("dev", never, [], RATE, NOW, replace(RECORD, ran=False))
    assert "whose price isn't known" in body("dev", spend, [], RATE, NOW, replace(RECORD, unknown=("machine x9",)))
