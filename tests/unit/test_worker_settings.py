"""The worker's environment, folder and machine."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from aistratus.models import DEMO as CARD
from aistratus.worker.log import Log
from aistratus.worker.preflight import ModelRefused, available_memory, check_model
from aistratus.worker.processor import library, threads
from aistratus.worker.settings import SettingsError, read_settings
from aistratus.worker.state import Held, StateError, StateFolder

NEEDED = {
    "WORKER_QUEUE_URL": "https://sqs/q.fifo",
    "WORKER_JOBS_TABLE": "jobs",
    "WORKER_STATE_DIR": "/var/lib/worker",
    "WORKER_MODEL_PATH": "/models/tiny.gguf",
    "AWS_REGION": "eu-central-1",
}
DEMO = Path(__file__).parents[2] / "aistratus" / "models" / "demo.gguf"


def test_what_is_not_set_has_a_default() -> None:
    settings = read_settings(NEEDED)
    assert settings.model_name == "tiny" and settings.endpoint_url is None and settings.poll_s == 20
    assert settings.model.engine == "ctransformers" and settings.model.threads == 0


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_what_is_needed_is_named_when_it_is_missing(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is not set$"):
        read_settings({**NEEDED, name: ""})


@pytest.mark.parametrize("value", ["-1", "1.5", "x", "257", "²"])
def test_a_number_out_of_range_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"WORKER_THREADS is .* whole number from 0 to 256"):
        read_settings({**NEEDED, "WORKER_THREADS": value})


def test_the_log_writes_json_lines_and_survives_a_full_disk() -> None:
    stream = io.StringIO()
    Log(stream).event("job_done", job="j", reason=None, attempt=1)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["job"], line["attempt"]) == ("job_done", "j", 1) and "reason" not in line
    full = Path("/dev/full").open("w")  # noqa: SIM115 (its closing is part of the test)
    Log(full).event("still here")
    with pytest.raises(OSError, match="No space left"):
        full.close()  # the stream really refused the line


def test_the_note_of_a_held_message_is_found_by_the_next_worker(tmp_path: Path) -> None:
    log = Log(io.StringIO())
    first = StateFolder(tmp_path / "state", log)
    first.open()
    assert first.held() is None
    first.hold(Held(queue_url="q", receipt="r"))
    assert StateFolder(tmp_path / "state", log).held() == Held(queue_url="q", receipt="r")
    first.release()
    assert first.held() is None


def test_a_damaged_note_is_no_note(tmp_path: Path) -> None:
    stream = io.StringIO()
    folder = StateFolder(tmp_path, Log(stream))
    (tmp_path / "held.json").write_text("{half")
    assert folder.held() is None and "note_unreadable" in stream.getvalue()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="can't be used"):
        StateFolder(tmp_path / "file" / "state", Log(io.StringIO())).open()


@pytest.mark.parametrize(
    ("flags", "name"),
    [("fma avx f16c avx2", "avx2"), ("avx f16c", "avx"), ("avx2", "basic"), ("sse2", "basic")],
)
def test_the_library_follows_the_processor(tmp_path: Path, flags: str, name: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags : fpu {flags}\n")
    assert library(0, cpuinfo) == name
    assert library(20, cpuinfo) == "cuda"


def test_without_a_list_of_flags_the_library_looks_by_itself(tmp_path: Path) -> None:
    assert library(0, tmp_path / "none") is None


def test_a_tiny_model_runs_on_one_thread_and_a_large_one_on_some() -> None:
    assert threads(2_000_000) == 1
    assert threads(700_000_000) >= 1


def test_the_control_group_limits_the_memory(tmp_path: Path) -> None:
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal: 4000 kB\nMemAvailable: 3000 kB\n")
    limit.write_text("max\n")
    assert available_memory(meminfo, limit) == 3_000 * 1024
    limit.write_text("1000000\n")
    assert available_memory(meminfo, limit) == 1_000_000
    assert available_memory(tmp_path / "a", tmp_path / "b") is None


def test_the_demo_model_passes_and_keeps_its_control_tokens() -> None:
    facts = check_model(DEMO, sha256="", context_tokens=0)
    assert facts.context_tokens == CARD.context_tokens and {facts.bos, facts.eos} <= set(facts.control)


def test_a_context_larger_than_the_model_was_made_for_is_refused() -> None:
    with pytest.raises(ModelRefused, match=f"4096 tokens was asked for, .* for {CARD.context_tokens}"):
        check_model(DEMO, sha256="", context_tokens=4096)


def test_every_truncation_of_a_model_is_refused(tmp_path: Path) -> None:
    whole = DEMO.read_bytes()
    path = tmp_path / "cut.gguf"
    for kept in (0, 3, 4, 7, 8, 20, 100, 1_000, 10_000, len(whole) // 2, len(whole) - 64, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(ModelRefused):
            check_model(path, sha256="", context_tokens=0)
