"""A command that is killed at any of its calls and run again ends where it would have ended.

`scripts/bench/death.py` tries every call; here is a spread sample, with everything on that is off by default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from account_listing import Shape, difference
from all_on import ALL_ON_VARIABLES
from death import Case, changed_package, die, kills, proven, tally
from env_on_cloud import Env, WarmCommand

SAMPLE = 3
DEPLOYS = 2


@dataclass(frozen=True)
class Undisturbed:
    """What commands do when nothing happens to them: how many requests they make, and what `up` leaves."""

    up: int
    down: int
    shape: Shape


@pytest.fixture(scope="module")
def make_env(make_env: Callable[..., Env]) -> Callable[..., Env]:
    """Makes an env in which nothing is switched off."""
    return lambda name: make_env(name, **ALL_ON_VARIABLES)


@pytest.fixture(scope="module")
def undisturbed(make_env: Callable[..., Env]) -> Undisturbed:
    env = make_env("model")
    up, shape = env.calls("up"), env.shape()
    return Undisturbed(up=up, down=env.calls("down"), shape=shape)


@pytest.mark.parametrize("part", range(SAMPLE))
def test_killed_at_a_call_and_run_again_up_and_down_end_where_they_would_have(
    make_env: Callable[..., Env], undisturbed: Undisturbed, part: int
) -> None:
    env = make_env(f"d{part}")
    died, _ = die(env, kills("up", undisturbed.up, SAMPLE)[part])
    assert died
    env.must("up")
    found = env.shape()
    assert found == undisturbed.shape, difference(found, undisturbed.shape)

    died, _ = die(env, kills("down", undisturbed.down, SAMPLE)[part])
    assert died
    env.must("down")
    assert env.shape() == Counter()


def test_a_command_really_dies_and_what_it_had_begun_stays(
    make_env: Callable[..., Env], undisturbed: Undisturbed
) -> None:
    env = make_env("half")
    middle = kills("up", undisturbed.up, 1)[0]
    died, _ = die(env, middle)
    half = env.account.of_env("half")
    assert died
    assert "parameter" in {thing.kind for thing in half}
    assert len(half) < undisturbed.shape.total()
    env.must("down")
    assert env.shape() == Counter()


def test_what_outlived_its_death_is_told_and_counts_for_nothing() -> None:
    def case(k: int, died: bool, failure: str = "") -> Case:
        return Case("up", k, after=False, died=died, operation="", failure=failure)

    cases = [case(1, True), case(2, True, "left over"), case(3, True), case(4, False), case(5, False, "no end")]
    counted = tally([*cases, case(0, False, "left in the account")], ["up", "down"])
    assert counted["up"] == {"cases": 5, "died": 3, "survived": 2, "converged": 2}
    assert proven(counted, ["up"])
    assert not proven(tally([case(1, False)], ["up"]), ["up"])
    assert not proven(counted, ["down"]), "no case at all"


@pytest.fixture(scope="module")
def another() -> Iterator[WarmCommand]:
    """The command line after a day of work on the router."""
    with changed_package() as package, WarmCommand(package) as command:
        yield command


def test_a_deploy_that_is_killed_and_run_again_publishes_the_new_code_once(
    make_env: Callable[..., Env], warm: WarmCommand, another: WarmCommand
) -> None:
    env = make_env("deploy")
    turns = (warm, another)
    env.must("up")
    calls = env.calls("up", warm=another)
    wanted = {}
    for turn in (0, 1, 0):
        env.must("up", warm=turns[turn])
        wanted[turn] = env.shape()
    for number, kill in enumerate(kills("deploy", calls, DEPLOYS)):
        turn = (number + 1) % 2
        died, _ = die(env, kill, warm=turns[turn])
        assert died, kill
        env.must("up", warm=turns[turn])
        found = env.shape()
        assert found == wanted[turn], difference(found, wanted[turn])
