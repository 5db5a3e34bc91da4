"""The generated validator and the model it comes from are one and the same rule."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aistratus import wire
from aistratus.client.request import InferRequest
from aistratus.router import validator

ROOT = Path(__file__).resolve().parents[2]

any_text = st.text(st.characters(exclude_categories=()) | st.sampled_from("\0\ud800\udfff\n🙂"), max_size=12)
numbers = (
    st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from([0, -0.0, 1, 1.0, 256.0, 1024, 1025, 2, 2.0, 2**31 - 1, 2**31, 10**400, 1e308, float("inf")])
)
uuids = st.uuids().map(str) | st.uuids().map(lambda u: str(u).upper()) | st.uuids().map(lambda u: u.hex)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
lengths = st.sampled_from([0, 1, 64, 65, 7_999, 8_000, 8_001, 16_000, 31_999, 32_000, 32_001])
long_text = st.builds(lambda n, c: c * n, lengths, st.sampled_from("x🙂é"))
roles = st.sampled_from(["user", "assistant", "system", "User", "user "])
turns = st.fixed_dictionaries(
    {}, optional={"role": roles | json_values, "content": any_text | long_text | json_values, "x": json_values}
)
plausible = {
    "prompt": any_text | long_text,
    "conversation": uuids | st.none() | any_text,
    "history": st.lists(turns, max_size=4) | st.lists(turns, min_size=63, max_size=66),
    "system": any_text | long_text | st.none(),
    "max_tokens": numbers,
    "temperature": numbers,
    "top_p": numbers,
    "seed": numbers | st.none(),
    "stop": st.lists(any_text | long_text, max_size=6),
}
bodies = st.fixed_dictionaries(
    {}, optional={name: values | json_values for name, values in plausible.items()} | {"unknown": json_values}
)


def model_accepts(body: Any) -> bool:
    try:
        InferRequest.model_validate(body)
    except ValidationError:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(bodies | json_values)
@example({"prompt": "x", "max_tokens": 5.0})
@example({"prompt": "x", "max_tokens": True})
@example({"prompt": "x", "temperature": False})
@example({"prompt": "x", "seed": None, "system": None, "conversation": None})
@example({"prompt": "x", "stop": None})
@example({"prompt": "x", "history": None})
@example({"prompt": "x", "conversation": "00000000-0000-0000-0000-000000000000\n"})
@example({"prompt": "x", "\ud800": 1})
@example({"prompt": "\ud83d\ude00"})
def test_model_and_validator_accept_and_refuse_the_same(body: Any) -> None:
    assert model_accepts(body) == (not validator.refusals(body))


valid = st.fixed_dictionaries(
    {"prompt": st.text("ab🙂\n", min_size=1, max_size=20)},
    optional={
        "conversation": st.uuids().map(str) | st.none(),
        "history": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "assistant"]), "content": st.text("ab🙂", min_size=1)}
            )
        ),
        "system": st.text("ab🙂") | st.none(),
        "max_tokens": st.integers(1, wire.MAX_TOKENS),
        "temperature": st.floats(0, 2) | st.integers(0, 2),
        "top_p": st.floats(0, 1) | st.integers(0, 1),
        "seed": st.integers(0, 2**31 - 1) | st.none(),
        "stop": st.lists(st.text("ab🙂", min_size=1, max_size=64), max_size=4),
    },
)


@settings(max_examples=300, deadline=None)
@given(valid)
def test_a_valid_request_is_accepted_by_both_and_means_the_same(body: dict[str, Any]) -> None:
    assert validator.refusals(body) == []
    filled = validator.with_defaults(body)
    assert filled == json.loads(InferRequest.model_validate(body).model_dump_json())


@settings(max_examples=200, deadline=None)
@given(valid)
def test_what_the_client_sends_is_what_the_router_takes(body: dict[str, Any]) -> None:
    sent = InferRequest.model_validate(body).body()
    assert validator.refusals(json.loads(json.dumps(sent))) == []


@settings(max_examples=300, deadline=None)
@given(bodies)
def test_each_refusal_names_a_field_and_quotes_no_value(body: dict[str, Any]) -> None:
    for refusal in validator.refusals(body):
        name = refusal["field"].split(".")[0].split("[")[0]
        assert name in plausible or name == "unknown"
        assert refusal["message"] in {"is required", "is not a field of this request"} or refusal["message"].startswith(
            "must be "
        )


def test_every_bad_field_is_named_at_once() -> None:
    body = {name: {"wrong": True} for name in plausible}
    assert [refusal["field"] for refusal in validator.refusals(body)] == list(plausible)


@pytest.mark.parametrize(
    ("history", "accepted"), [([16_000, 16_000], True), ([16_000, 16_001], False), ([32_000], True), ([500] * 64, True)]
)
def test_history_is_limited_in_all(history: list[int], accepted: bool) -> None:
    body = {"prompt": "x", "history": [{"role": "user", "content": "é" * n} for n in history]}
    assert (not validator.refusals(body)) is accepted
    assert model_accepts(body) is accepted


def test_the_committed_validator_is_the_generated_one() -> None:
    script = ROOT / "scripts" / "generate_validator.py"
    for seed in ("0", "1"):
        done = subprocess.run([sys.executable, script, "--check"], env={"PYTHONHASHSEED": seed}, check=False)
        assert done.returncode == 0, "run: python scripts/generate_validator.py"


def test_the_validator_needs_the_standard_library_only() -> None:
    tree = ast.parse(Path(validator.__file__).read_text("utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert imported <= sys.stdlib_module_names
