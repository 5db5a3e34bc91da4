"""`aistratus model`: a file is checked before it is kept, kept under its hash, and answers while the node runs."""

from __future__ import annotations

from pathlib import Path

import fastjsonschema
import pytest
from cli_parts import ROOT, Person
from conftest import Built
from documents import MODEL_ADDED, MODEL_CHOSEN, MODELS

from aistratus.core.errors import Failure
from aistratus.node.models import Stored, answers, fitting, require_room

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
    assert "the settings' model answers now" in person.run("model", "use", "settings").out


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
