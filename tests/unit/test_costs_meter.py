"""The meter: a month of known truth, lost and doubled signs, and what holds for every record."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistratus import spending, wire
from aistratus.costs import meter
from aistratus.costs.meter import HOUR_MS, Burst, Line, Standing, Stretch, Tariff
from aistratus.costs.spans import Span, spans
from aistratus.wire import Sign

MINUTE = 60_000
NODE = "i-0abc"


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


BEGIN = ms("2026-11-01")
END = ms("2026-12-01")
VOLUME = Line(month=Decimal("2.856"))
TARIFF = Tariff(
    (Standing(BEGIN, {"volume": VOLUME}, Decimal("0.005")),),
    {"t3.small": Decimal("0.024"), "g4dn.xlarge": Decimal("0.658")},
)


def start(at: int, kind: str = "t3.small", by: str = "router") -> Sign:
    return Sign(verb=wire.START, instance=NODE, since_ms=at, at_ms=at, type=kind, by=by)


def stop(at: int) -> Sign:
    return Sign(verb=wire.STOP, instance=NODE, since_ms=at, at_ms=at, by="guard")


def seen(since: int, at: int, kind: str = "") -> Sign:
    return Sign(verb=wire.SEEN, instance=NODE, since_ms=since, at_ms=at, type=kind, by="worker")


def times(signs: list[Sign], now: int) -> list[tuple[int, int, bool, bool]]:
    return [(one.begin_ms, one.end_ms, one.running, one.assumed) for one in spans(signs, now)]


# --- a month whose truth is known -------------------------------------------------------------------------------------


def simulated(seed: int, lost_stops: int = 0) -> tuple[Decimal, list[Sign], list[Span]]:
    """Forty runs of a node through a month, as it would really cost, and the signs that were left of it."""
    drawn = random.Random(seed)
    truth, signs, runs = Decimal("2.856"), [], []
    lost = set(drawn.sample(range(40), lost_stops))
    for number in range(40):
        kind = "g4dn.xlarge" if number % 4 == 0 else "t3.small"
        begin = BEGIN + number * 18 * HOUR_MS + drawn.randrange(2 * HOUR_MS)
        end = begin + drawn.randrange(20 * MINUTE, 10 * HOUR_MS)
        truth += (TARIFF.hours[kind] + Decimal("0.005")) * (end - begin) / HOUR_MS
        signs += [start(begin, kind), start(begin, kind)]  # the answer was lost, and the sign left again
        launch, boot = begin - drawn.randrange(2_000), begin + drawn.randrange(60_000)
        last = end - drawn.randrange(MINUTE)
        signs += [seen(boot, moment) for moment in (begin + 5 * MINUTE, last)]  # a worker's clock, a minute apart
        signs += [seen(launch, end - drawn.randrange(4 * MINUTE), kind)]
        runs.append(Span(NODE, kind, begin, end))
        if number not in lost:
            signs.append(stop(end + drawn.randrange(-2_000, 2_000)))
    drawn.shuffle(signs)
    return truth, signs, runs


@pytest.mark.parametrize("seed", range(5))
def test_a_month_of_known_truth_is_metered_within_half_a_percent(seed: int) -> None:
    truth, signs, runs = simulated(seed)
    found = spans(signs, END)
    assert len(found) == len(runs) and not any(span.assumed for span in found)
    metered = meter.bill(meter.stretches(found, TARIFF, END), BEGIN, END)
    assert abs(metered.usd / truth - 1) < Decimal("0.005")
    assert metered.unknown == frozenset()


@pytest.mark.parametrize("seed", range(5))
def test_with_a_quarter_of_the_stops_lost_it_is_within_five_percent_and_says_so(seed: int) -> None:
    truth, signs, _ = simulated(seed, lost_stops=10)
    found = spans(signs, END)
    assert sum(span.assumed for span in found) == 10
    metered = meter.bill(meter.stretches(found, TARIFF, END), BEGIN, END).usd
    assert abs(metered / truth - 1) < Decimal("0.05")


# --- one sign less, or one too many -----------------------------------------------------------------------------------

NOON = ms("2026-11-10T12:00:00")


def test_a_start_and_a_stop_are_a_span_however_often_and_by_whom_they_are_told() -> None:
    signs = [start(NOON), start(NOON + 1500, by="operator"), seen(NOON - 900, NOON + HOUR_MS), stop(NOON + 2 * HOUR_MS)]
    signs += [stop(NOON + 2 * HOUR_MS + 40_000)]
    assert times(signs, END) == [(NOON - 900, NOON + 2 * HOUR_MS, False, False)]


def test_without_a_stop_it_ends_with_the_last_sign_of_life_when_it_starts_again() -> None:
    signs = [start(NOON), seen(NOON, NOON + HOUR_MS), start(NOON + 5 * HOUR_MS), stop(NOON + 6 * HOUR_MS)]
    assert times(signs, END) == [
        (NOON, NOON + HOUR_MS, False, True),
        (NOON + 5 * HOUR_MS, NOON + 6 * HOUR_MS, False, False),
    ]


def test_a_witness_tells_a_start_that_nobody_recorded() -> None:
    now = NOON + HOUR_MS + MINUTE
    assert times([seen(NOON, NOON + HOUR_MS)], now) == [(NOON, now, True, False)]
    again = [start(NOON), stop(NOON + HOUR_MS), seen(NOON + 3 * HOUR_MS, NOON + 4 * HOUR_MS), stop(NOON + 5 * HOUR_MS)]
    assert times(again, END)[1] == (NOON + 3 * HOUR_MS, NOON + 5 * HOUR_MS, False, False)


def test_what_is_seen_after_its_stop_never_stopped_but_for_the_moment_of_stopping() -> None:
    signs = [start(NOON), stop(NOON + HOUR_MS), seen(NOON, NOON + HOUR_MS + 30_000)]
    assert times(signs, END) == [(NOON, NOON + HOUR_MS, False, False)]
    signs = [start(NOON), stop(NOON + HOUR_MS), seen(NOON, NOON + 2 * HOUR_MS), stop(NOON + 3 * HOUR_MS)]
    assert times(signs, END) == [(NOON, NOON + 3 * HOUR_MS, False, False)]


def test_another_launch_time_tells_that_it_was_off_in_between() -> None:
    first, second = (replace(seen(at, at + HOUR_MS), by="guard") for at in (NOON, NOON + 5 * HOUR_MS))
    assert times([first, second, stop(NOON + 6 * HOUR_MS)], END) == [
        (NOON, NOON + HOUR_MS, False, True),
        (NOON + 5 * HOUR_MS, NOON + 6 * HOUR_MS, False, False),
    ]


def test_a_worker_that_begins_again_on_a_machine_that_runs_on_ends_no_span() -> None:
    worker = [seen(NOON + 20_000, NOON + HOUR_MS), seen(NOON + 3 * HOUR_MS, NOON + 4 * HOUR_MS)]
    guard = replace(seen(NOON, NOON + 4 * HOUR_MS + MINUTE, "t3.small"), by="guard")
    beat = seen(NOON + 4 * HOUR_MS, NOON + 4 * HOUR_MS)
    signs = [start(NOON), *worker, guard, beat, stop(NOON + 5 * HOUR_MS)]
    assert times(signs, END) == [(NOON, NOON + 5 * HOUR_MS, False, False)]


def test_what_runs_now_is_as_ec2_says_and_without_its_word_as_fresh_as_the_last_sign() -> None:
    signs, later = [start(NOON), seen(NOON, NOON + HOUR_MS)], NOON + 3 * HOUR_MS
    assert spans(signs, later, running={NODE})[0].end_ms == later
    assert spans(signs, later, running=())[0] == Span(NODE, "t3.small", NOON, NOON + HOUR_MS, False, True)
    assert spans(signs, later)[0].assumed
    assert spans(signs, NOON + HOUR_MS + 5 * MINUTE)[0].running


def test_a_clock_that_is_ahead_makes_no_time_that_has_not_passed() -> None:
    (span,) = spans([start(NOON), seen(NOON, NOON + 9 * HOUR_MS)], NOON + HOUR_MS)
    assert span.end_ms == NOON + HOUR_MS


def test_a_type_that_a_witness_does_not_know_is_that_of_the_span_before() -> None:
    signs = [start(NOON, "g4dn.xlarge"), stop(NOON + HOUR_MS), seen(NOON + 3 * HOUR_MS, NOON + 4 * HOUR_MS)]
    assert [span.type for span in spans(signs, END)] == ["g4dn.xlarge", "g4dn.xlarge"]


# --- money ------------------------------------------------------------------------------------------------------------


def cost(begin: int, end: int, kind: str = "t3.small") -> Decimal:
    return meter.bill(meter.stretches([Span(NODE, kind, begin, end)], TARIFF, END), BEGIN, END).usd


def test_a_start_costs_a_minute_at_least() -> None:
    assert cost(NOON, NOON + 5_000) == cost(NOON, NOON + 60_000) < cost(NOON, NOON + 61_000)


def test_a_burstable_machine_costs_more_where_its_model_works_beyond_the_baseline() -> None:
    """Two processors at $0.05 an hour, of which a fifth is in the price."""
    tariff = replace(TARIFF, bursts={"t3.small": Burst(Decimal("0.10"), Decimal("0.02"))})
    worker = [seen(NOON, NOON + HOUR_MS), replace(seen(NOON, NOON + 2 * HOUR_MS), busy_ms=HOUR_MS)]
    other = replace(seen(NOON + 2 * HOUR_MS, NOON + 4 * HOUR_MS), busy_ms=HOUR_MS // 2)
    found = spans([start(NOON), *worker, other, stop(NOON + 4 * HOUR_MS)], END)
    assert [span.busy_ms for span in found] == [1.5 * HOUR_MS]
    lines = meter.bill(meter.stretches(found, tariff, END), BEGIN, END).lines
    assert lines[meter.CREDITS] == pytest.approx(Decimal("0.10") * Decimal("1.5") - Decimal("0.02") * 4)
    idle = [replace(found[0], busy_ms=HOUR_MS // 4)]
    assert meter.CREDITS not in meter.bill(meter.stretches(idle, tariff, END), BEGIN, END).lines


def test_a_price_that_is_missing_is_unknown_and_never_nothing() -> None:
    told = meter.bill(meter.stretches([Span(NODE, "x9.huge", NOON, NOON + HOUR_MS)], TARIFF, END), BEGIN, END)
    assert told.unknown == {"machine x9.huge"} and "machine x9.huge" not in told.lines
    unread = replace(TARIFF, standings=(Standing(BEGIN, {"volume": Line(month=None)}),))
    assert meter.bill(meter.stretches([], unread, END), BEGIN, END).unknown == {"volume"}


def test_a_month_costs_a_month_however_long_it_is_and_what_went_costs_nothing_after() -> None:
    for month in ("2027-02-15", "2026-12-15", "2026-11-15"):
        begin, end = meter.month_of(ms(month))
        assert Stretch("volume", 0, 2 * END, VOLUME).usd(begin, end) == Decimal("2.856")
    gone = TARIFF.changed(Standing(ms("2026-11-16"), {}))
    assert meter.bill(meter.stretches([], gone, END), BEGIN, END).usd == Decimal("2.856") / 2


def test_the_next_hour_costs_what_is_on() -> None:
    node = Span(NODE, "t3.small", NOON, NOON + HOUR_MS, running=True)
    told = meter.per_hour(meter.stretches([node, replace(node, running=False)], TARIFF, NOON + HOUR_MS), NOON + HOUR_MS)
    assert told.lines["machine t3.small"] == Decimal("0.024") and told.lines["address"] == Decimal("0.005")


def test_days_are_those_of_the_place_and_one_may_have_25_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    begin, end = ms("2026-10-24T12:00:00"), ms("2026-10-27T00:00:00")
    lengths = {str(day): (until - since) / HOUR_MS for day, since, until in meter.days(begin, end, berlin)}
    assert lengths == {"2026-10-24": 10, "2026-10-25": 25, "2026-10-26": 24, "2026-10-27": 1}


MOMENTS = st.integers(BEGIN, END)
KINDS = st.sampled_from(sorted(TARIFF.hours))
SPANS = st.lists(
    st.builds(lambda a, b, kind: Span(NODE, kind, min(a, b), max(a, b)), MOMENTS, MOMENTS, KINDS), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(SPANS, MOMENTS)
def test_it_is_never_negative_and_adds_up_over_splits_of_time(found: list[Span], split: int) -> None:
    made = meter.stretches(found, TARIFF, END)
    whole, first, second = (meter.bill(made, *time).usd for time in ((BEGIN, END), (BEGIN, split), (split, END)))
    assert first >= 0 and second >= 0
    assert abs(first + second - whole) < Decimal("1e-15")


@settings(max_examples=60, deadline=None)
@given(MOMENTS, st.integers(0, 100 * HOUR_MS), st.integers(0, 100 * HOUR_MS))
def test_longer_never_costs_less(begin: int, length: int, more: int) -> None:
    assert cost(begin, begin + length) <= cost(begin, begin + length + more)


VERBS = st.sampled_from([wire.START, wire.STOP, wire.SEEN])
LENGTHS = st.integers(0, 20 * HOUR_MS)


def left(verb: str, since: int, length: int) -> Sign:
    return Sign(verb=verb, instance=NODE, since_ms=since, at_ms=since + (length if verb == wire.SEEN else 0), by="x")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.builds(left, VERBS, MOMENTS, LENGTHS), max_size=12))
def test_whatever_the_signs_say_spans_are_in_order_and_apart_and_signs_told_twice_are_one(signs: list[Sign]) -> None:
    found = spans(signs, END)
    assert all(span.begin_ms <= span.end_ms <= END for span in found)
    assert all(one.end_ms <= other.begin_ms for one, other in pairwise(found))
    assert spans(signs + signs, END) == found


# --- as it lies in the table ------------------------------------------------------------------------------------------


@given(VERBS, MOMENTS, st.sampled_from(["", "t3.small"]))
def test_a_sign_is_read_as_it_was_left(verb: str, at: int, kind: str) -> None:
    sign = Sign(verb=verb, instance="i-0123456789abcdef0", since_ms=at, at_ms=at, type=kind, by="guard")
    update = sign.update()
    (name,), value = update["ExpressionAttributeNames"].values(), update["ExpressionAttributeValues"][":sign"]
    assert Sign.read(name, wire.unpack({"v": value})["v"]) == sign
    assert wire.unpack(update["Key"])["pk"] == wire.power_pk(at)


def test_what_is_no_sign_is_passed_over() -> None:
    assert Sign.read("expires_at", 1) is None
    assert Sign.read("start_i_0abc_12", "now t3.small") is None


def test_a_tariff_is_read_as_it_was_written() -> None:
    tariff = TARIFF.changed(Standing(NOON, {"odd": Line(month=None)}, None))
    tariff = replace(tariff, bursts={"t3.small": Burst(Decimal("0.10"), Decimal("0.02"))})
    assert Tariff.read(wire.unpack(wire.pack(tariff.document()))) == tariff
    assert tariff.changed(Standing(END, {"odd": Line(month=None)}, None)) is tariff
    assert Tariff.read({}) == Tariff()


def test_what_is_kept_over_down_costs_the_same_afterwards_and_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    signs = (start(NOON), replace(seen(NOON, NOON + HOUR_MS), busy_ms=5), stop(NOON + HOUR_MS))
    records = spending.Records(END, TARIFF.changed(Standing(END, {})), signs, running=frozenset())
    file = tmp_path / "cost" / "env.json"
    spending.keep(file, records)
    assert spending.kept(file, END) == records
    file.write_text(file.read_text()[:-9])
    assert spending.kept(file, END) is None
