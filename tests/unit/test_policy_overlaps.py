"""`iam policy` says when names can't keep an env's policy to itself."""

from __future__ import annotations

import pytest

from aistratus.cli.iam import overlaps


@pytest.mark.parametrize(
    ("env", "others", "told"),
    [
        ("dev", ["dev", "dev2", "prod"], []),
        ("dev", ["dev-x", "dev2", "dev-a"], ["this policy also covers dev-a, dev-x"]),
        ("dev-x", ["dev", "dev-x"], ["the policy of an env dev, if there is one in this account, also covers dev-x"]),
    ],
)
def test_envs_whose_names_begin_alike_are_told_of(env: str, others: list[str], told: list[str]) -> None:
    said = overlaps(env, others)
    assert len(said) == len(told)
    assert all(sentence.startswith(begin) for sentence, begin in zip(said, told, strict=True))
