"""The operator's key for nodes: one pair for an env's name, for as long as an env of that name uses it."""

from __future__ import annotations

from pathlib import Path

from aistratus.node.keys import given_back, key_path, public_key, taken


def test_the_pair_goes_with_the_last_env_of_its_name_and_another_name_keeps_its_own(tmp_path: Path) -> None:
    taken("dev", "1-eu-west-1", tmp_path)
    given_back("dev", "1-eu-west-1", tmp_path)  # there is nothing yet, and that is fine
    made, other = public_key("dev", tmp_path), public_key("dev-2", tmp_path)
    key_path("dev", tmp_path).with_suffix(".hosts").touch()
    for place in ("1-eu-west-1", "2-eu-west-1"):
        taken("dev", place, tmp_path)
    given_back("dev", "1-eu-west-1", tmp_path)
    assert public_key("dev", tmp_path) == made
    given_back("dev", "2-eu-west-1", tmp_path)
    assert [path.name for path in key_path("dev", tmp_path).parent.iterdir()] == ["dev-2.ed25519"]
    assert public_key("dev-2", tmp_path) == other and public_key("dev", tmp_path) != made
