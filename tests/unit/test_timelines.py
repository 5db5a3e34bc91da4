"""The sums of the published stages keep what is promised, and the estimate before the first boot agrees with them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from aistratus import wire

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "boot_timeline.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("boot_timeline", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["boot_timeline"] = module
    spec.loader.exec_module(module)
    return module


def test_a_sleeping_node_answers_and_an_env_is_gone_in_time(bench: ModuleType) -> None:
    assert bench.whole(bench.BOOT) <= bench.FIRST_TOKEN_WITHIN_S == 45
    assert bench.whole(bench.TEARDOWN) <= bench.TEARDOWN_WITHIN_S == 20
    assert all(stage.source and stage.seconds > 0 for stage in (*bench.BOOT, *bench.TEARDOWN))


def test_a_stage_waits_for_all_that_it_stands_on(bench: ModuleType) -> None:
    stages = (bench.Stage("a", 1, "x"), bench.Stage("b", 5, "x"), bench.Stage("c", 2, "x", ("a", "b")))
    assert bench.timeline(stages)["c"] == (5, 7)


def test_the_estimate_is_the_stages_up_to_a_ready_worker_and_then_what_boots_have_taken(bench: ModuleType) -> None:
    ready = bench.timeline(bench.BOOT)["worker: self-test of 16 tokens"][1]
    assert abs(wire.BOOT_DEFAULT_S - ready) <= 3
    boots = [{"type": "t3.small", "total_s": seconds} for seconds in (900, 30, 34, 32, 31, 33)]
    assert wire.boot_s(boots, "t3.small") == 32, "the median of the latest five"
    assert wire.boot_s(boots, "g4dn.xlarge") == wire.BOOT_DEFAULT_S
    assert wire.boot_s([*boots, {"type": "t3.small"}, {"type": "t3.small", "total_s": "soon"}], "t3.small") > 0
