"""Promoting settings edits the file in place: the right tables change, and nothing else does."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistratus.cli.promote import Difference, choose, edited
from aistratus.core.errors import Failure, UsageError

FILE = Path("aistratus.toml")

HEADS = ["", "# mine\n", 'region = "eu-west-1"  # Dublin\n\n[node]  # all\nvolume_gib = 40\n', "\n\n[api]\n\n"]
DEVS = ["", '[envs.dev.node]\ncpu_type = "t3.medium" # bigger\n\n', '[envs.dev]\nnode = { cpu_type = "t3.medium" }\n']
QAS = [
    "",
    "# qa\n[envs.qa]\n",
    '[envs.qa.node]  # of qa\n  cpu_type = "t3.nano"  # small\n# end\n',
    "[envs.qa]\nnode.volume_gib = 8 # dotted\n",
    "[envs.qa]\nnode = { cpu_type = 't3.nano', volume_gib = 8 }\n",
    '[envs.qa.api]\nthrottles."POST /infer" = { rate = 1, burst = 2 }\ncors_origins = [\n  "https://a", # one\n]\n',
    '[envs.qa.api.throttles."POST /infer"]\nrate = 1\nburst = 2\n',
]
TAILS = ["", "\n[envs.prod.node]\ncpu_type = 't3.large'\n", '# the end\n[model]\nname = "m"', "[auth]\n\n\n"]

CHANGES: list[tuple[tuple[str, ...], Any]] = [
    (("region",), "eu-west-3"),
    (("node", "cpu_type"), 't3."medium"'),
    (("node", "volume_gib"), 50),
    (("api", "throttles", "POST /infer", "rate"), 2.5),
    (("api", "cors_origins"), ["https://b", "https://c"]),
    (("model", "temperature"), 0.5),
]


def put(tables: dict[str, Any], way: tuple[str, ...], value: Any) -> None:
    for name in way[:-1]:
        tables = tables.setdefault(name, {})
    tables[way[-1]] = value


def kept_in_order(before: str, after: str) -> list[str]:
    """The lines of the first text that the second doesn't have in the same order."""
    left = iter(after.splitlines())
    return [line for line in before.splitlines() if line.strip() and not any(line == other for other in left)]


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(*(st.sampled_from(parts) for parts in (HEADS, DEVS, QAS, TAILS))),
    st.lists(st.sampled_from(CHANGES), min_size=1, unique_by=lambda change: change[0]),
    st.booleans(),
)
def test_the_tables_change_as_wanted_and_comments_stay(
    parts: tuple[str, ...], changes: list[tuple[tuple[str, ...], Any]], turned: bool
) -> None:
    head, dev, qa, tail = parts
    text = head + (qa + dev if turned else dev + qa) + tail
    wanted = copy.deepcopy(tomllib.loads(text))
    for way, value in changes:
        put(wanted, ("envs", "qa", *way), value)
    after = edited(text, "qa", [Difference(way, None, value) for way, value in changes], FILE)
    assert tomllib.loads(after) == wanted
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    assert [comment for comment in comments if comment and comment not in after and "one" not in comment] == []
    assert kept_in_order(head, after) == []


def test_only_the_lines_of_the_change_differ() -> None:
    text = HEADS[2] + DEVS[1] + QAS[2] + TAILS[1]
    after = edited(text, "qa", [Difference(("node", "cpu_type"), "t3.nano", "t3.medium")], FILE)
    assert after == text.replace('"t3.nano"  # small', '"t3.medium"  # small')
    windows = text.replace("\n", "\r\n")
    assert edited(windows, "qa", [Difference(("node", "cpu_type"), 1, "t3.medium")], FILE) == after.replace(
        "\n", "\r\n"
    )


def test_what_can_not_be_edited_safely_is_left_and_told() -> None:
    text = '[envs]\nqa = "no table"\n'
    with pytest.raises(Failure, match=r"can't be edited without risk; nothing was changed; write .*node\.cpu_type"):
        edited(text, "qa", [Difference(("node", "cpu_type"), None, "t3.medium")], FILE)


OWN = {
    ("region",): "eu-west-2",
    ("profile",): "me-dev",
    ("node", "cpu_type"): "t3.medium",
    ("node", "image"): "ami-0123456789abcdef0",
    ("delivery", "connection_arn"): "…",
    ("delivery", "key"): "arn:aws:kms:eu-west-2:123456789012:key/1",
    ("network", "groups"): ["sg-01234567"],
    ("api", "throttles", "POST /infer", "rate"): 3,
}


def test_ids_are_never_chosen() -> None:
    chosen, ids = choose(OWN, [], "dev")
    assert {way[-1] for way in ids} == {"profile", "image", "connection_arn", "key", "groups"}
    assert set(chosen) == set(OWN) - set(ids)
    assert choose(OWN, ["node"], "dev") == ({("node", "cpu_type"): "t3.medium"}, [("node", "image")])
    with pytest.raises(UsageError, match=r"node\.image names something of dev's own"):
        choose(OWN, ["node.image"], "dev")


@pytest.mark.parametrize(
    "name", ['api.throttles."POST /infer".rate', "api.throttles.'POST /infer'", "api", ' api . "throttles"']
)
def test_a_setting_is_named_as_in_the_file(name: str) -> None:
    assert choose(OWN, [name], "dev")[0] == {("api", "throttles", "POST /infer", "rate"): 3}


@pytest.mark.parametrize("name", ["nod", "node.cpu", "node.cpu_type.x", "region.x", "", "a b", "a = 1\nb", "[node]"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        choose(OWN, [name], "dev")
