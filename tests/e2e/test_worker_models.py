"""The worker changes its model while it runs, and stays up on the old one when the new one is bad."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from worker_model import write_model
from worker_rig import DEMO, Rig, await_value

from aistratus import wire

BUCKET = "models-of-the-test"


def choose(rig: Rig, content: bytes, name: str, **more: Any) -> str:
    """What `model add` and `model use` leave behind."""
    s3, sha256 = rig._client("s3"), hashlib.sha256(content).hexdigest()
    place = {"LocationConstraint": "eu-central-1"}
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    s3.put_object(Bucket=BUCKET, Key=f"{wire.MODELS}{sha256}.gguf", Body=content)
    item = {"pk": wire.MODEL_PK, "sha256": sha256, "name": name, **more}
    rig.dynamodb.put_item(TableName=rig.table, Item=wire.pack(item))
    return sha256


def beat(rig: Rig, **wanted: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        item = rig.item(wire.HEARTBEAT_PK) or {}
        return item if all(text in str(item.get(name, "")) for name, text in wanted.items()) else None

    return await_value(look, f"a heartbeat with {wanted}")


def test_a_good_model_takes_over_and_is_there_after_the_next_boot(rig: Rig, tmp_path: Path) -> None:
    choose(rig, write_model(tmp_path / "tiny.gguf").read_bytes(), "tiny")
    worker = rig.start(WORKER_BUCKET=BUCKET)
    beat(rig, model="tiny", state="ready")
    assert rig.await_final(rig.send(rig.job(max_tokens=8)))["model"] == "tiny"
    worker.stop()
    again = rig.start(WORKER_BUCKET=BUCKET)
    assert again.await_event("model_loaded")["context_tokens"] == 512, "the demo model isn't loaded first"
    beat(rig, model="tiny")
    rig.dynamodb.put_item(TableName=rig.table, Item=wire.pack({"pk": wire.MODEL_PK, "sha256": ""}))
    again.await_event("model_in_use", model="demo")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("truncated", DEMO.read_bytes()[:-1000], "damaged or truncated"),
        ("version 1", b"GGUF\1\0\0\0" + DEMO.read_bytes()[8:], "GGUF version 1, but the engine reads 2 and 3"),
        ("not a model", b"<html>" * 100, "not a GGUF file"),
    ],
)
def test_a_bad_model_is_refused_with_the_reason_and_the_old_one_goes_on(
    rig: Rig, name: str, content: bytes, reason: str
) -> None:
    sha256 = choose(rig, content, name)
    worker = rig.start(WORKER_BUCKET=BUCKET)
    pid = worker.child().pid
    beat(rig, model_refused=reason, model_refused_sha256=sha256, model="demo", state="ready")
    assert worker.child().pid == pid, "it was refused before it was used"
    assert rig.await_final(rig.send(rig.job()))["model"] == "demo"


def test_a_model_that_is_too_large_for_the_memory_is_refused_before_it_is_loaded(rig: Rig, tmp_path: Path) -> None:
    """A whole and sound file of 38 MiB where 16 are left beside what the engine needs; the demo model fits."""
    content = write_model(tmp_path / "wide.gguf", dim=448, layers=5).read_bytes()
    assert len(content) > 36 << 20
    sha256 = choose(rig, content, "wide")
    small = {"WORKER_BUCKET": BUCKET, "WORKER_MEMORY_MIB": "112"}
    worker = rig.start(**small)
    pid = worker.child().pid
    told = beat(
        rig, model_refused="MiB of memory, but 112 MiB are available", model_refused_sha256=sha256, state="ready"
    )
    assert (told["model"], worker.child().pid) == ("demo", pid)
    assert rig.await_final(rig.send(rig.job()))["model"] == "demo"
    assert not list((rig.folder / "state" / "models").glob("*")), "and its file is gone again"
    worker.stop()
    # The same by the manifest: nothing is loaded, and whoever asks is told why.
    rig.dynamodb.put_item(TableName=rig.table, Item=wire.pack({"pk": wire.MODEL_PK, "sha256": ""}))
    alone = rig.start(**small, WORKER_MODEL_PATH=str(tmp_path / "wide.gguf"))
    assert "but 112 MiB are available" in alone.await_event("model_refused")["reason"]
    assert rig.await_final(rig.send(rig.job()))["status"] == wire.FAILED


def test_one_that_the_engine_gives_up_makes_way_for_the_old_one(rig: Rig, tmp_path: Path) -> None:
    """Its file is whole but lacks a tensor; one that nobody has uploaded is refused as well."""
    whole = write_model(tmp_path / "wide.gguf", leave_out="blk.1.attn_norm.weight").read_bytes()
    choose(rig, whole, "wide")
    worker = rig.start(WORKER_BUCKET=BUCKET)
    assert "can't be loaded" not in str(beat(rig, model="demo", state="ready").get("reason"))
    worker.await_event("model_refused", kept="demo")
    assert rig.await_final(rig.send(rig.job()))["model"] == "demo"
    item = {"pk": wire.MODEL_PK, "sha256": "0" * 64, "name": "missing"}
    rig.dynamodb.put_item(TableName=rig.table, Item=wire.pack(item))
    beat(rig, model_refused="the bucket has no model 000000000000", model_refused_sha256="0" * 64)
