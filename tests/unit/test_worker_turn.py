"""A job and a change of the model never meet, although a long poll goes on while the model changes."""

from __future__ import annotations

import threading

import pytest

from aistratus.worker.clients import GaveUp
from aistratus.worker.turn import Turn


def test_the_model_changes_only_when_no_job_is_worked_on() -> None:
    turn = Turn(threading.Event())
    with turn.working():
        assert not turn.park(True)
    assert turn.park(True)


def test_a_job_that_comes_while_the_model_changes_waits_for_the_end_of_it() -> None:
    turn, came, began = Turn(threading.Event()), threading.Event(), threading.Event()
    steps: list[str] = []

    def work() -> None:
        came.set()
        with turn.working():
            steps.append("worked")
            began.set()

    assert turn.park(True)
    job = threading.Thread(target=work)
    job.start()
    assert came.wait(20)
    assert not began.wait(0.2)
    assert turn.park(True), "it waits, and so the model may go on changing"
    steps.append("changed")
    turn.park(False)
    job.join(20)
    assert steps == ["changed", "worked"]


def test_a_worker_that_stops_begins_no_job() -> None:
    stopping = threading.Event()
    turn = Turn(stopping)
    turn.park(True)
    stopping.set()
    with pytest.raises(GaveUp), turn.working():
        raise AssertionError
