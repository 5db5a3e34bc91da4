"""When a node switches itself off: decided without AWS, from its own clock, and never with a job in hand."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aistratus import wire
from aistratus.worker.keeper import LOAD_LIMIT_S
from aistratus.worker.log import Log
from aistratus.worker.power import Activity, Limits, Power, left_s
from aistratus.worker.settings import machine_type, read_settings
from aistratus.worker.state import PowerNotes, StateFolder

LIMITS = Limits(idle_s=900, run_s=43_200)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.booleans(), st.booleans())
def test_there_is_always_an_end_and_none_comes_early(began: float, later: float, busy: bool, loading: bool) -> None:
    active = began + later
    activity = Activity(began=began, active=active, busy=busy, loading=loading)
    end = left_s(active, activity, LIMITS) + active
    assert end <= began + LIMITS.run_s + 1e-6
    if not busy:
        assert end <= active + LIMITS.idle_s + LOAD_LIMIT_S + 1e-6
        assert end >= min(began + LIMITS.run_s, active + LIMITS.idle_s) - 1e-6


def test_a_model_that_loads_and_a_job_in_hand_are_waited_for() -> None:
    idle = Activity(began=0, active=0)
    assert left_s(901, idle, LIMITS) < 0
    assert left_s(901, Activity(began=0, active=0, loading=True), LIMITS) > 0
    assert left_s(901, Activity(began=0, active=0, busy=True), LIMITS) > 0


def test_when_it_goes_off_is_told_as_soon_as_the_model_is_ready_and_with_a_job_in_hand(tmp_path: Path) -> None:
    """A heartbeat is written at that moment, before the watch has looked again."""
    log, now = Log(io.StringIO()), {"busy": False, "loading": True}
    power = Power(
        clients=None, table="", limits=LIMITS, notes=PowerNotes(StateFolder(tmp_path, log), ""), log=log, last_look_s=0,
        look=lambda: (now["busy"], now["loading"]), leave=str, stay=str, off=str,
    )  # fmt: skip
    assert power.report()["stops_in_s"] is None
    for now["loading"], now["busy"] in ((False, False), (False, True)):
        assert power.report()["stops_in_s"] in (899, 900)


def test_what_was_noted_in_this_boot_counts_and_in_no_other(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path, Log(io.StringIO()))
    assert PowerNotes(folder, "a").recall() is None
    PowerNotes(folder, "a").note(10.0, 20.0)
    assert PowerNotes(folder, "a").recall() == (10.0, 20.0)
    assert PowerNotes(folder, "b").recall() is None
    PowerNotes(folder, "").note(1.0, 2.0)
    assert PowerNotes(folder, "").recall() is None, "where boots can't be told apart, nothing is taken over"
    (tmp_path / "power.json").write_text("{half")
    assert PowerNotes(folder, "a").recall() is None


def test_a_limit_out_of_bounds_is_none() -> None:
    assert [wire.idle_minutes({"minutes": minutes}) for minutes in (4, 5, 720, 721, "9", True, None)] == [
        None, 5, 720, None, None, None, None,
    ]  # fmt: skip


def test_the_machine_says_its_type_itself(tmp_path: Path) -> None:
    told = []
    for text in ("g4dn.xlarge\n", "Standard PC (i440FX)\n", "u-6tb1.56xlarge"):
        (tmp_path / "name").write_text(text)
        told.append(machine_type(tmp_path / "name"))
    assert told == ["g4dn.xlarge", "", "u-6tb1.56xlarge"]
    assert machine_type(tmp_path / "none") == ""


def test_without_a_manifests_word_there_is_a_limit_all_the_same() -> None:
    settings = read_settings(
        {"WORKER_QUEUE_URL": "q", "WORKER_JOBS_TABLE": "t", "AWS_REGION": "r", "WORKER_STATE_DIR": "s",
         "WORKER_MODEL_PATH": "m"}
    )  # fmt: skip
    assert (settings.idle_s, settings.run_s) == (900, 43_200)
