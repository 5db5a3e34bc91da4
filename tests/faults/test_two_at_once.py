"""Two commands on one env at the same time: one of them works, the other is told who that is.

The one that works is stopped (SIGSTOP) as soon as it holds the lock, so that the other one meets it for certain.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from env_on_cloud import Death, Ended, Env, Slow, WarmCommand

SMALL = ("up", "--only", "vpc", "--only", "jobs_table")
"""The lock doesn't care how much `up` does."""

LOCKED_WITHIN_S = 60
LOOK_EVERY_S = 0.02


@pytest.fixture(scope="module")
def second() -> Iterator[WarmCommand]:
    """Another place that command processes are forked from, for one beside the first."""
    with WarmCommand() as command:
        yield command


def lock(env: Env) -> dict[str, object] | None:
    """Who holds the env's lock."""
    found = env.account.clients["ssm"].get_parameters(Names=[f"/tinyllama/{env.name}/lock"])["Parameters"]
    return dict(json.loads(found[0]["Value"])) if found else None


def put_lock(env: Env, *, expires_in: float) -> None:
    """A lock of somebody on another machine, whose process nobody can look for from here."""
    now = time.time()
    holder = {"command": "aistratus down", "user": "ada", "host": "elsewhere", "pid": 77, "pid_started": now - 200,
              "since": now - 190, "expires": now + expires_in, "nonce": "hers"}  # fmt: skip
    name = f"/tinyllama/{env.name}/lock"
    env.account.clients["ssm"].put_parameter(Name=name, Value=json.dumps(holder), Type="String")


@contextmanager
def holding(env: Env, command: Sequence[str]) -> Iterator[tuple[int, Callable[[], Ended]]]:
    """Runs a command until it holds the lock and stops it there; gives its pid and what lets it go on to its end."""
    begun: list[int] = []
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Slow, so that it can't be over before it is stopped.
        running = pool.submit(env.run, *command, faults=[Slow(every=1, seconds=0.2)], started=begun.append)
        deadline = time.monotonic() + LOCKED_WITHIN_S
        while lock(env) is None:
            assert not running.done(), running.result().output
            assert time.monotonic() < deadline, f"{command} never took the lock"
            time.sleep(LOOK_EVERY_S)
        os.kill(begun[0], signal.SIGSTOP)

        def go_on() -> Ended:
            env.front.faults = ()
            os.kill(begun[0], signal.SIGCONT)
            return running.result()

        try:
            yield begun[0], go_on
        finally:
            if not running.done():
                os.kill(begun[0], signal.SIGCONT)


@pytest.mark.parametrize(("first", "other"), [("up", "up"), ("up", "down"), ("down", "up")])
def test_a_second_command_is_told_who_holds_the_lock_and_how_to_take_it_over(
    make_env: Callable[..., Env], second: WarmCommand, first: str, other: str
) -> None:
    commands = {"up": SMALL, "down": ("down",)}
    name = f"{first}-{other}"
    env, beside = make_env(name), make_env(name, warm=second)
    if first == "down":
        env.must(*SMALL)
    with holding(env, commands[first]) as (pid, go_on):
        refused = beside.run(*commands[other])
        ended = go_on()
    assert refused.status == 1
    told = refused.output.strip().splitlines()[-1]
    assert re.search(
        rf"being changed by `aistratus {first}` of \S+@{socket.gethostname()} \(process {pid}\), "
        r"started less than a minute ago; .*--steal-lock",
        told,
    ), told
    assert ended.status == 0, ended.output
    assert lock(env) is None
    env.must("down")
    assert env.shape() == Counter()


def test_the_lock_of_a_killed_process_is_recognised_and_taken_over(make_env: Callable[..., Env]) -> None:
    calls = make_env("counted").calls(*SMALL)
    env = make_env("killed")
    assert env.run(*SMALL, faults=[Death(only=calls * 2 // 3)]).status == -signal.SIGKILL
    assert lock(env) is not None
    told = env.must("down")
    assert re.search(r"a lock was left by `aistratus up` of .* whose process has ended; it was taken over", told), told
    assert env.shape() == Counter()


def test_an_up_with_nothing_to_do_heeds_a_living_lock_and_clears_a_dead_one(make_env: Callable[..., Env]) -> None:
    """Whoever was killed right at the end has done everything but give the lock back."""
    env = make_env("late")
    env.must(*SMALL)
    put_lock(env, expires_in=600)
    refused = env.run(*SMALL)
    assert refused.status == 1
    assert "ada@elsewhere" in refused.output

    assert "the lock was taken over from" in env.must(*SMALL, "--steal-lock")
    assert lock(env) is None
    put_lock(env, expires_in=-1)
    assert "it was taken over" in env.must(*SMALL)
    assert lock(env) is None


def test_a_lock_from_another_machine_holds_until_it_expires_or_is_stolen(make_env: Callable[..., Env]) -> None:
    env = make_env("stolen")
    put_lock(env, expires_in=600)
    refused = env.run("down")
    assert refused.status == 1
    assert "`aistratus down` of ada@elsewhere (process 77), started 3 min ago" in refused.output
    told = env.must(*SMALL, "--steal-lock")
    assert "the lock was taken over from `aistratus down` of ada@elsewhere" in told

    put_lock(env, expires_in=-1)
    told = env.must("down")
    assert "had expired; it was taken over" in told
    assert env.shape() == Counter()
