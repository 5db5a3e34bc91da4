"""`aistratus model`: a file is checked before it is kept, kept under its hash, and answers while the node runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fastjsonschema
import pytest
from cli_parts import ROOT, Person, client
from conftest import Built
from documents import MODEL_ADDED, MODEL_CHOSEN, MODEL_REMOVED, MODELS

from aistratus import wire
from aistratus.core.errors import Failure, UsageError
from aistratus.node.models import Stored, answers, fitting, require_room, the_one
from aistratus.node.room import own_size, require_own, require_volume
from aistratus.settings import TINYLLAMA_BYTES, ModelSettings, NodeSettings, Settings

sys.path.insert(0, str(ROOT / "tests" / "e2e"))  # whose models are written in a moment
from worker_model import write_model

pytestmark = pytest.mark.xdist_group("cli")

DEMO = (ROOT / "aistratus" / "models" / "demo.gguf").read_bytes()


def test_a_model_is_added_and_chosen_and_the_settings_own_comes_back(built: Built, tmp_path: Path) -> None:
    person, file = built.person, tmp_path / "another.gguf"
    file.write_bytes(DEMO + b"\0" * 32)  # the same model, told apart by its hash
    added = person.run("model", "add", str(file), "-o", "json")
    fastjsonschema.validate(MODEL_ADDED, added.document)
    assert (added.document["uploaded"], added.document["model"]["fits"][0]) == (True, "t3.small")
    assert "it was in the bucket already" in person.run("model", "add", str(file)).out
    used = person.run("model", "use", "another", "-o", "json")
    fastjsonschema.validate(MODEL_CHOSEN, used.document)
    assert (used.code, used.document["answers"]) == (0, True)
    assert person.run("chat", "How do I stop the GPU?", "-o", "json").document["model"] == "another"
    listed = person.run("model", "list", "-o", "json").document
    fastjsonschema.validate(MODELS, listed)
    assert [(one["name"], one["in_use"]) for one in listed["models"]] == [("another", True)]
    elsewhere = person.with_variables(AISTRATUS_NODE__GPU_TYPES='["gr6.xlarge"]').run("model", "list", "-o", "json")
    assert (elsewhere.code, elsewhere.document["models"][0]["fits"]) == (0, ["t3.small"]), elsewhere.words
    assert "eu-central-1 has no gr6.xlarge" in elsewhere.err
    kept = person.run("model", "remove", "another")
    assert (kept.code, "another isn't removed: it answers now" in kept.err) == (2, True)
    assert "the settings' model answers now" in person.run("model", "use", "settings").out

    again = person.run("model", "add", str(file), "--name", "other").out
    assert "the same bytes were kept as another: that name is gone" in again
    removed = person.run("model", "remove", "other", "-o", "json")
    fastjsonschema.validate(MODEL_REMOVED, removed.document)
    assert removed.document["freed"] > len(DEMO), "all its versions and its description"
    versions = client(built.endpoint, "s3").list_object_versions(Bucket=_bucket(built), Prefix="models/")
    left = {one["Key"] for kind in ("Versions", "DeleteMarkers") for one in versions.get(kind, [])}
    assert not [key for key in left if removed.document["removed"]["sha256"] in key]
    assert person.run("model", "remove", "other").code == 2


def test_the_settings_own_bytes_stay_under_whatever_name(built: Built) -> None:
    person, file = built.person, ROOT / "aistratus" / "models" / "demo.gguf"
    assert "answer as aistratus-demo" in person.run("model", "add", str(file), "--name", "twin").out
    assert "; it answers as aistratus-demo, which has the same bytes" in person.run("model", "list").out
    assert "its bytes stay" in person.run("model", "remove", "twin").out
    assert person.run("plan").code == 0, "nothing of the stack is gone"
    refused = person.run("model", "remove", "settings")
    assert (refused.code, "the model that settings name isn't removed" in refused.err) == (2, True)


def _bucket(built: Built) -> str:
    named = client(built.endpoint, "s3").list_buckets()["Buckets"]
    return next(str(one["Name"]) for one in named if "-local-data-" in one["Name"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (DEMO[:-1000], "is damaged or truncated; take another file"),
        (b"GGUF\1\0\0\0" + DEMO[8:], "has GGUF version 1, but the engine reads 2 and 3"),
        (b"<html>", "is not a GGUF file"),
    ],
)
def test_what_the_engine_could_not_load_is_never_uploaded(
    built: Built, tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    said = built.person.run("model", "add", str(tmp_path / "bad.gguf"))
    assert said.code == 2 and told in said.err and "Traceback" not in said.words


def test_an_address_that_is_not_https_is_no_file(person: Person) -> None:
    said = person.run("model", "add", "ftp://example.com/model.gguf")
    assert (said.code, "ftp://example.com/model.gguf isn't an https address" in said.err) == (2, True)


def test_a_file_that_is_too_large_for_every_type_is_never_uploaded(built: Built, tmp_path: Path) -> None:
    """A t3.nano has 512 MiB, of which 112 are left for a model: the demo fits, these 38 MiB and their context don't."""
    narrow = built.person.with_variables(AISTRATUS_NODE__CPU_TYPE="t3.nano", AISTRATUS_NODE__GPU_TYPES="[]")
    file = write_model(tmp_path / "wide.gguf", dim=448, layers=5)
    said = narrow.run("model", "add", str(file))
    assert said.code == 1 and "and t3.nano, the widest type that settings allow, has 112 MiB for it" in said.err
    assert "wide" not in built.person.run("model", "list").out


def test_a_model_that_is_too_large_is_refused_with_what_would_do() -> None:
    room = {"t3.small": 1_648, "g4dn.xlarge": 15_984}
    wide = Stored(sha256="0" * 64, name="wide", size=1, needed=4 << 30, context_tokens=1, added=0)
    assert fitting(wide, room) == ["g4dn.xlarge"]
    require_room(wide, room, "g4dn.xlarge")
    with pytest.raises(
        Failure, match=r"needs about 4096 MiB of memory, and the node as t3\.small has 1648.*resize g4dn"
    ):
        require_room(wide, room, "t3.small")
    vast = Stored(sha256="0" * 64, name="vast", size=1, needed=64 << 30, context_tokens=1, added=0)
    with pytest.raises(Failure, match=r"g4dn\.xlarge, the widest type that settings allow, has 15984 MiB"):
        require_room(vast, room)
    with pytest.raises(Failure, match="the region has none of the types that settings allow"):
        require_room(wide, {})


def test_a_model_that_the_volume_has_no_room_for_is_refused_with_what_to_set(built: Built, tmp_path: Path) -> None:
    """Beside 7 GiB of system and 0.6 of TinyLlama a volume of 20 has room for 12.4."""
    require_volume("wide", 12 << 30, 20, beside=TINYLLAMA_BYTES)
    said = r"of its 20 GiB the system takes 7 and other models 0\.6; set node\.volume_gib = 21 and run `aistratus up`"
    with pytest.raises(Failure, match=said):
        require_volume("wide", 13 << 30, 20, beside=TINYLLAMA_BYTES)
    described = {"sha256": "e" * 64, "name": "vast", "size": 14 << 30, "needed": 1, "context_tokens": 1, "added": 0}
    place = {"Bucket": _bucket(built), "Key": f"{wire.MODELS}{'e' * 64}.json"}
    client(built.endpoint, "s3").put_object(**place, Body=json.dumps(described).encode())
    used = built.person.run("model", "use", "vast")
    assert (used.code, "vast, which has 14.0 GiB" in used.words, "node.volume_gib = 2" in used.words) == (1, True, True)
    client(built.endpoint, "s3").delete_object(**place)
    with (tmp_path / "wide.gguf").open("wb") as file:
        file.write(b"GGUF")
        file.truncate(14 << 30)  # without a byte of its own on this disk
    path = str(tmp_path / "wide.gguf")
    assert own_size(ModelSettings(path=Path(path))) == 14 << 30
    with pytest.raises(Failure, match=r"no room for the model wide, which has 14\.0 GiB.*node\.volume_gib = 21"):
        require_own(Settings(model=ModelSettings(path=Path(path))), None)
    require_own(Settings(model=ModelSettings(path=Path(path)), node=NodeSettings(volume_gib=21)), None)


def test_a_name_that_two_models_have_says_nothing_of_which_one_is_to_go() -> None:
    twins = [Stored(sha256=digit * 64, name="twin", size=1, needed=1, context_tokens=1, added=0) for digit in "ab"]
    with pytest.raises(UsageError, match=r"2 models are named 'twin'; .*a{12}, b{12}"):
        the_one(twins, "twin")
    assert the_one(twins, "b" * 8) is twins[1]


def test_a_refusal_counts_only_if_it_is_of_the_model_that_is_wanted() -> None:
    bad, good = "b" * 64, "a" * 64
    beat = {"state": "ready", "model": "demo", "model_sha256": "0" * 64}
    refused = {**beat, "model_refused": "it is not a GGUF file", "model_refused_sha256": bad}
    assert not answers(refused, good), "the worker hasn't looked yet"
    assert answers({**refused, "model_sha256": good}, good)
    with pytest.raises(Failure, match="the worker stays with demo: it is not a GGUF file"):
        answers(refused, bad)
    del refused["model_refused_sha256"]  # a worker from before
    with pytest.raises(Failure, match="the worker stays with demo"):
        answers(refused, good)
