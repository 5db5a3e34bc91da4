"""The real engine behind the worker: whatever text comes, whatever file lies there."""

from __future__ import annotations

from pathlib import Path

import pytest
from worker_model import write_model
from worker_rig import DEMO, Rig, await_value

from aistratus import wire
from aistratus.models import DEMO as CARD


def test_any_text_gets_a_reply_or_a_sentence_and_never_kills_the_model(rig: Rig) -> None:
    worker = rig.start()
    pid = worker.child().pid
    fine = ["😀" * 60, "a\0b", "\ud800 alone", "</s><s><unk></s>", "<|assistant|>\n", "\n", "é" * 100, "שלום 世界"]
    for prompt in fine:
        item = rig.await_final(rig.send(rig.job(prompt, max_tokens=32)))
        assert item["status"] == wire.DONE and item["text"], (prompt, item)
    for prompt in ("😀" * 8000, "word " * 20_000):
        item = rig.await_final(rig.send(rig.job(prompt)))
        assert item["status"] == wire.FAILED and f"the model's context holds {CARD.context_tokens}" in item["error"]
        assert item["attempt"] == 1, "another attempt would end the same way"
    rig.await_empty()
    assert worker.child().pid == pid
    assert rig.counts(rig.dead_url) == (0, 0)


def test_a_long_conversation_loses_its_oldest_turns_and_is_answered(rig: Rig) -> None:
    worker = rig.start()
    turns = [wire.Turn("user" if n % 2 == 0 else "assistant", f"turn {n}: what is sqs? " * 8) for n in range(40)]
    job = rig.send(rig.job(history=tuple(turns), max_tokens=64))
    item = rig.await_final(job)
    assert item["status"] == wire.DONE and item["text"]
    usage = item["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] <= CARD.context_tokens
    assert worker.await_event("job_done", job=job.job_id)["dropped_turns"] > 10


def test_a_stop_string_ends_the_reply_before_it_also_when_tokens_split_it(rig: Rig) -> None:
    rig.start()
    whole = rig.await_final(rig.send(rig.job()))["text"]
    middle = whole[len(whole) // 2 - 4 : len(whole) // 2 + 4]
    item = rig.await_final(rig.send(rig.job(stop=("", middle, "never said"))))
    assert item["text"] == whole[: whole.index(middle)]


def test_max_tokens_limits_the_reply(rig: Rig) -> None:
    rig.start()
    item = rig.await_final(rig.send(rig.job(max_tokens=3)))
    assert item["usage"]["completion_tokens"] == 3 and item["text"]


def test_one_seed_gives_one_text_and_another_seed_another(rig: Rig, tmp_path: Path) -> None:
    model = write_model(tmp_path / "random.gguf")
    rig.start(WORKER_MODEL_PATH=str(model))

    def ask(seed: int) -> str:
        text = rig.await_final(rig.send(rig.job("hi", temperature=1.0, seed=seed, max_tokens=40)))["text"]
        assert isinstance(text, str)
        return text

    assert ask(1) == ask(1) != ask(2)


def test_replies_of_random_bytes_are_always_valid_text(rig: Rig, tmp_path: Path) -> None:
    model = write_model(tmp_path / "random.gguf")
    rig.start(WORKER_MODEL_PATH=str(model))
    for seed in range(5):
        item = rig.await_final(rig.send(rig.job("go", temperature=1.5, seed=seed, max_tokens=200)))
        assert item["status"] == wire.DONE
        item["text"].encode("utf-8")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("truncated", "damaged or truncated"),
        ("one bit", "SHA-256"),
        ("version 1", "GGUF version 1"),
        ("not a model", "not a GGUF file"),
        ("missing", "doesn't exist"),
    ],
)
def test_a_damaged_model_is_refused_and_jobs_are_told_why(rig: Rig, tmp_path: Path, damage: str, reason: str) -> None:
    import hashlib

    whole = DEMO.read_bytes()
    path = tmp_path / "model.gguf"
    settings = {"WORKER_MODEL_PATH": str(path)}
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) - 50_000])
    elif damage == "one bit":
        path.write_bytes(whole[:-100] + bytes((whole[-100] ^ 1,)) + whole[-99:])
        settings["WORKER_MODEL_SHA256"] = hashlib.sha256(whole).hexdigest()
    elif damage == "version 1":
        path.write_bytes(whole[:4] + (1).to_bytes(4, "little") + whole[8:])
    elif damage == "not a model":
        path.write_bytes(b"<html>404 not found</html>")
    worker = rig.start(**settings)
    assert reason in worker.await_event("model_refused")["reason"]
    job = rig.send(rig.job())
    item = rig.await_final(job)
    assert item["status"] == wire.FAILED and reason in item["error"] and str(tmp_path) not in item["error"]
    beat = await_value(
        lambda: (item := rig.item(wire.HEARTBEAT_PK)) and item.get("reason") and item, "a heartbeat that tells"
    )
    assert isinstance(beat, dict) and beat["state"] == "loading" and reason in beat["reason"]
    assert worker.process.poll() is None

    path.write_bytes(whole)
    worker.await_event("model_loaded")
    assert rig.await_final(rig.send(rig.job()))["status"] == wire.DONE


def test_a_gpu_that_cannot_be_used_is_given_up_and_the_cpu_answers(rig: Rig) -> None:
    worker = rig.start(WORKER_GPU_LAYERS="99", CUDA_VISIBLE_DEVICES="")
    worker.await_event("gpu_given_up")
    loaded = worker.await_event("model_loaded")
    assert (loaded["library"] != "cuda", loaded["gpu"]) == (True, False)
    assert rig.await_final(rig.send(rig.job()))["status"] == wire.DONE
    beat = rig.item(wire.HEARTBEAT_PK)
    assert beat is not None and beat["gpu"] is False and beat["gpu_trouble"], "and nobody is told that it runs there"


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("WORKER_QUEUE_URL", "", "WORKER_QUEUE_URL is not set"),
        ("WORKER_THREADS", "many", "WORKER_THREADS is 'many', but it must be a whole number from 0 to 256"),
        ("WORKER_ENGINE", "gpt", "WORKER_ENGINE is 'gpt', but it must be one of ctransformers, echo"),
        ("WORKER_MODEL_SHA256", "xyz", "WORKER_MODEL_SHA256 must have 64 hexadecimal digits, or be empty"),
    ],
)
def test_a_wrong_setting_is_told_in_one_sentence(rig: Rig, setting: str, value: str, sentence: str) -> None:
    worker = rig.start(**{setting: value})
    assert worker.process.wait(timeout=30) == 2
    assert worker.log_file.read_text() == f"aistratus-worker: {sentence}\n"
