"""The bottom line shows what is known, counts on by itself, and makes nothing up."""

from __future__ import annotations

import threading

import pytest

from aistratus.cli.chat_terminal.bottom_line import Known, ReplyFigures, Watch, bottom_line, euros, span
from aistratus.client.errors import ApiUnreachable, SignInError

ALL = {
    "depth": 2,
    "heartbeat_age_s": 3.0,
    "node": {"state": "ready", "type": "t3.small", "stops_in_s": 430, "eta_s": None},
    "cost": {"today_eur": 0.12, "month_eur": 3.4, "eur_per_hour": 0.6, "limit_eur": 20},
}


@pytest.mark.parametrize(
    ("health", "line"),
    [
        ({}, "dev"),
        ({"depth": 0, "heartbeat_age_s": None}, "dev · queue 0"),
        ({"heartbeat_age_s": 3}, "dev · node awake"),
        ({"heartbeat_age_s": 600}, "dev · node last seen 10 min ago"),
        ({"node": {"state": "stopped"}, "cost": None}, "dev · stopped"),
        (
            {"node": {"state": "pending", "type": "g4dn.xlarge", "eta_s": 70}},
            "dev · g4dn.xlarge pending · ready in 70 s",
        ),
        ({"cost": {"today_eur": None, "month_eur": 0.0}}, "dev │ month €0.00"),
        ({"node": "ready", "cost": [], "depth": None, "heartbeat_age_s": "x"}, "dev"),
        (ALL, "dev · t3.small ready · stops in 7 min · queue 2 │ today €0.12 · month €3.40 · limit €20.00"),
    ],
)
def test_it_shows_whichever_is_there(health: dict[str, object], line: str) -> None:
    assert bottom_line("dev", Known(health=health, at=10), 10) == line


def test_it_counts_on_between_two_looks() -> None:
    known = Known(health=ALL, at=10)
    assert "stops in 30 s" in bottom_line("dev", known, 410)
    assert "stops in 0 s" in bottom_line("dev", known, 9_999)


def test_what_says_least_goes_first_where_there_is_no_room() -> None:
    known = Known(health=ALL, at=0, reply=ReplyFigures(tokens_per_second=34, first_s=0.41, eur=0.0005))
    whole = bottom_line("dev", known, 0)
    assert "│ 34 tokens/s · first 0.4 s · €0.00050 │" in whole
    for width in range(len(whole), 50, -1):
        assert len(bottom_line("dev", known, 0, width)) <= width
    assert bottom_line("dev", known, 0, 60) == "dev · t3.small ready · stops in 7 min │ today €0.12"


def test_amounts_and_times_are_told_as_people_say_them() -> None:
    assert [euros(amount) for amount in (0, 1e-6, 0.00012, 0.01, 12.345)] == [
        "€0.00",
        "<€0.00001",
        "€0.00012",
        "€0.01",
        "€12.35",
    ]
    assert [span(seconds) for seconds in (9, 99, 100, 3_600, 9_000)] == ["9 s", "99 s", "2 min", "60 min", "2.5 h"]


def test_a_look_that_fails_keeps_what_was_known_and_says_so() -> None:
    answers: list[object] = [ALL, ApiUnreachable("no"), SignInError("no"), RuntimeError("no"), ALL]

    def look() -> dict[str, object]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return ALL

    watch = Watch(look, lambda: None)
    told = []
    for _ in range(5):
        watch.look_once()
        told.append(watch.known.trouble)
        assert watch.known.health == ALL
    assert told == ["", "no connection", "signed out", "state unknown", ""]


def test_a_watch_looks_at_once_when_something_is_awaited_and_ends_when_told() -> None:
    looked = threading.Semaphore(0)
    watch = Watch(lambda: ALL, looked.release)
    watch.start()
    assert looked.acquire(timeout=30)
    watch.busy(True)
    assert looked.acquire(timeout=30)
    watch.close()
