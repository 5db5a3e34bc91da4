"""What counts as a difference, and what doesn't."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistratus.core.diff import canonical_policy, diff
from aistratus.core.resource import UNKNOWN, Found, Ref, Resource, at_create, at_least, one_of, policy_document

TAGS = {"Project": "tinyllama", "Env": "t"}


@dataclass(frozen=True, kw_only=True)
class Thing(Resource):
    size: int | None = None
    words: tuple[str, ...] | None = None
    settings: Mapping[str, Any] | None = None
    parent: Ref | str | None = None
    policy: Any = policy_document(default=None)
    image: str | None = at_create(default=None)
    places: tuple[Any, ...] | None = one_of(default=None)
    gib: int | None = at_least(default=None)


values = st.builds(
    Thing,
    key=st.just("t"),
    size=st.none() | st.integers(),
    words=st.none() | st.lists(st.text(max_size=3), max_size=3).map(tuple),
    settings=st.none() | st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
)


@given(values)
def test_a_thing_as_wanted_differs_in_nothing(thing: Thing) -> None:
    assert diff(thing, Found(state=thing, ids={}, tags=TAGS), TAGS) == ()


@given(values, values)
def test_changes_name_just_the_managed_fields_that_differ(want: Thing, have: Thing) -> None:
    changed = {change.field for change in diff(want, Found(state=have, ids={}), {})}
    expected = {
        name for name in ("size", "words", "settings") if getattr(want, name) not in (None, getattr(have, name))
    }
    assert changed == expected


@given(values, values)
def test_applying_the_changes_leaves_no_difference(want: Thing, have: Thing) -> None:
    changes = {change.field for change in diff(want, Found(state=have, ids={}), {})}
    mended = replace(have, **{name: getattr(want, name) for name in changes})
    assert diff(want, Found(state=mended, ids={}), {}) == ()


def test_a_mapping_shows_only_the_entries_that_differ() -> None:
    want, have = Thing(key="t", settings={"a": 1, "b": 2}), Thing(key="t", settings={"a": 1, "b": 3, "c": 4})
    (change,) = diff(want, Found(state=have, ids={}), {})
    assert (change.field, change.old, change.new) == ("settings", {"b": 3, "c": 4}, {"b": 2, "c": None})


def test_tags_of_others_are_no_difference_but_a_wrong_value_of_ours_is() -> None:
    thing = Thing(key="t")
    assert diff(thing, Found(state=thing, ids={}, tags={**TAGS, "cost-centre": "7"}), TAGS) == ()
    (change,) = diff(thing, Found(state=thing, ids={}, tags={**TAGS, "Env": "x"}), TAGS)
    assert (change.field, change.old, change.new) == ("tags", {"Env": "x"}, {"Env": "t"})


def test_a_kind_without_tags_never_differs_in_them() -> None:
    thing = Thing(key="t")
    assert diff(thing, Found(state=thing, ids={}, tags=None), TAGS) == ()


def test_an_unknown_parent_is_a_difference() -> None:
    want = Thing(key="t", parent=Ref(Thing(key="p"))).resolve({})
    assert want.parent is UNKNOWN
    (change,) = diff(want, Found(state=Thing(key="t", parent="p-1"), ids={}), {})
    assert change.field == "parent"


def test_a_field_that_matters_at_creation_only_is_no_drift() -> None:
    have = Found(state=Thing(key="t", image="old"), ids={})
    assert diff(Thing(key="t", image="new"), have, {}) == ()


# --- policies by meaning

actions = st.sampled_from(["s3:GetObject", "sqs:SendMessage", "ec2:StartInstances"])
statements = st.builds(
    lambda effect, action, resource, sid: {"Sid": sid, "Effect": effect, "Action": action, "Resource": resource},
    st.sampled_from(["Allow", "Deny"]),
    st.lists(actions, min_size=1, max_size=3),
    st.lists(st.sampled_from(["*", "arn:aws:s3:::a", "arn:aws:s3:::b"]), min_size=1, max_size=2),
    st.text(alphabet="abc", min_size=1, max_size=3),
)


@given(st.lists(statements, max_size=4), st.randoms())
def test_writing_a_policy_otherwise_is_no_difference(written: list[dict[str, Any]], random: Any) -> None:
    def otherwise(statement: dict[str, Any]) -> dict[str, Any]:
        changed = {name: value for name, value in statement.items() if name != "Sid"}
        for name in ("Action", "Resource"):
            entries = list(dict.fromkeys(statement[name]))
            random.shuffle(entries)
            changed[name] = entries[0] if len(entries) == 1 else entries
        changed["Action"] = (
            [a.upper() for a in changed["Action"]] if isinstance(changed["Action"], list) else changed["Action"]
        )
        return changed

    shuffled = [otherwise(statement) for statement in written]
    random.shuffle(shuffled)
    one = {"Version": "2012-10-17", "Statement": written}
    other = json.dumps({"Version": "2012-10-17", "Statement": shuffled})
    assert canonical_policy(one) == canonical_policy(other)


def test_policies_of_different_meaning_differ() -> None:
    one = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "a"}}
    other = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "b"}}
    assert canonical_policy(one) != canonical_policy(other)
    want, have = Thing(key="t", policy={"p": one}), Thing(key="t", policy={"p": one, "extra": other})
    (change,) = diff(want, Found(state=have, ids={}), {})
    assert change.field == "policy" and change.old == {"extra": other}


def test_an_account_and_its_root_are_one_principal() -> None:
    def policy(principal: str) -> dict[str, Any]:
        return {"Statement": [{"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}]}

    assert canonical_policy(policy("123456789012")) == canonical_policy(policy("arn:aws:iam::123456789012:root"))


@pytest.mark.parametrize(("found", "differs"), [(None, True), (7, True), (8, False), (9, False)])
def test_what_can_only_grow_differs_where_it_is_smaller(found: int | None, differs: bool) -> None:
    have = Found(state=Thing(key="t", gib=found), ids={}, tags=TAGS)
    assert bool(diff(Thing(key="t", gib=8), have, TAGS)) is differs


def test_one_of_several_places_will_do_until_it_is_to_be_made_anew() -> None:
    want = Thing(key="t", places=("first", "second"))
    for place, differs, differs_anew in (("first", False, False), ("second", False, True), ("third", True, True)):
        have = Found(state=Thing(key="t", places=(place,)), ids={}, tags=TAGS)
        assert bool(diff(want, have, TAGS)) is differs
        assert bool(diff(want, have, TAGS, anew=True)) is differs_anew
    assert diff(want, Found(state=Thing(key="t"), ids={}, tags=TAGS), TAGS)[0].new == ("first",)
    # A place that is to be made anew is none of those where it may stay.
    gone = Thing(key="t", places=(UNKNOWN, "second"))
    assert diff(gone, Found(state=Thing(key="t", places=("first",)), ids={}, tags=TAGS), TAGS)
