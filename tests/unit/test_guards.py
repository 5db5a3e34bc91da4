"""A forgotten GPU: a hundred days with jobs, crashes and failing guards, on a simulated clock, by the real decisions.

What decides here is what decides on AWS: the worker's `power.left_s`, the guard's `quiet.why_stop`, and the mark that
keeps the router from waking what the budget has stopped. The world around them (EC2, the queue, who asks) is a model:
a minute is one step, a job takes one to five of them, and whoever has asked looks again each minute, as a client does.

Hypothesis decides what happens when, as a state machine whose rules are those events. Forty lives are enough for each
commit; `SIMULATED_LIVES=500 pytest tests/unit/test_guards.py` looks longer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aistratus.functions import quiet
from aistratus.worker import power

MINUTE = 60.0
DAY = 24 * 60
DAYS = 100
BOOT_M = 2
EVERY_M = 30
"""The rule `force-stop-build-runner`."""
GUARDS = ("worker", "function", "budget")


@dataclass
class World:
    """One node and everything that happens to it; `broken` are the guards that do nothing."""

    idle_m: int
    broken: frozenset[str]
    run_m: int = 12 * 60
    now: int = 0
    on_since: int | None = None
    worker_since: int | None = None
    hung: bool = False
    activity: power.Activity | None = None
    leaving: bool = False
    beat: dict[str, Any] = field(default_factory=dict)
    queue: list[int] = field(default_factory=list)
    busy_until: int | None = None
    last_job: int = 0
    accepted: int = 0
    done: int = 0
    spent: int = 0
    marked_until: int = 0
    longest: int = 0

    # --- what happens ---------------------------------------------------------------------------------------------

    def ask(self, minutes: int) -> None:
        """A prompt; refused, and so never accepted, while the budget's mark stands."""
        if self.marked_until > self.now and self.on_since is None:
            return
        self.accepted += 1
        self.queue.append(minutes)

    def crash(self, *, hang: bool) -> None:
        """The worker dies, and is started again by systemd; or it hangs, and nothing on the machine does anything."""
        if self.on_since is not None:
            self.hung = hang
            if self.busy_until is not None:  # its message becomes visible again
                self.busy_until = None
                self.queue.insert(0, 1)

    def minute(self) -> None:
        self.now += 1
        self._wake()
        self._work()
        self._switch_off()
        if self.now % EVERY_M == 0 and "function" not in self.broken:
            self._guard()
        if self.on_since is not None:
            self.spent += 1
            idle = self.now - max(self.last_job, self.on_since)
            self.longest = max(self.longest, 0 if self.busy_until is not None else idle)

    def pass_time(self, minutes: int) -> None:
        """Minute after minute; those in which the machine is off and nobody may wake it are passed at once."""
        end = self.now + minutes
        while self.now < end:
            if self.on_since is None and (not self.queue or self.marked_until > self.now):
                self.now = min(end, self.marked_until) - 1 if self.queue else end - 1
            self.minute()

    @property
    def unanswered(self) -> int:
        return len(self.queue) + (self.busy_until is not None)

    # --- the parts --------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """The router, when somebody waits for a queued job: no fresh heartbeat, so EC2 is asked to start the node."""
        if self.queue and self.on_since is None and self.marked_until <= self.now:
            self.on_since, self.hung, self.leaving = self.now, False, False
            began = (self.now + BOOT_M) * MINUTE
            self.activity = power.Activity(began=began, active=began)

    def _work(self) -> None:
        if self.on_since is None or self.hung or self.now < self.on_since + BOOT_M or self.activity is None:
            return
        if self.busy_until is not None and self.now >= self.busy_until:
            self.busy_until, self.done, self.last_job = None, self.done + 1, self.now
            self.activity = power.Activity(began=self.activity.began, active=self.now * MINUTE)
        if self.queue and self.busy_until is None and not (self.leaving and self._over()):
            self.busy_until = self.now + self.queue.pop(0)
            self.last_job = self.now
        busy, active = self.busy_until is not None, self.activity.active
        if busy:
            active, self.last_job = self.now * MINUTE, self.now
        self.activity = power.Activity(began=self.activity.began, active=active, busy=busy)
        idle_s = 0 if busy else self.now * MINUTE - active
        self.beat = {"instance_id": "i-1", "at_ms": self.now * MINUTE * 1000, "idle_s": idle_s}

    def _over(self) -> bool:
        assert self.activity is not None
        return power.has_run_long_enough(self.now * MINUTE, self.activity, self._worker_limits())

    def _switch_off(self) -> None:
        """The worker's last look lasts less than a minute: what has come by the next one keeps it awake."""
        if "worker" in self.broken or self.hung or self.activity is None or self.on_since is None:
            return
        due = power.left_s(self.now * MINUTE, self.activity, self._worker_limits()) <= 0
        if self.leaving and due and not self.activity.busy and (not self.queue or self._over()):
            self.off()
        self.leaving = due

    def _guard(self) -> None:
        if self.on_since is None:
            return
        machine = quiet.Machine(id="i-1", started=self.on_since * MINUTE, is_node=True)
        limits = quiet.Limits(idle_s=self.idle_m * MINUTE, run_s=self.run_m * MINUTE)
        if quiet.why_stop(machine, self.beat, limits, self.now * MINUTE) is not None:
            self.off()

    def kill(self, minutes: int) -> None:
        """The budget's killer: everything stops, and a mark keeps it so."""
        if "budget" not in self.broken:
            self.marked_until = self.now + minutes
            self.off()

    def off(self) -> None:
        """A machine that stops gives its job back."""
        if self.busy_until is not None:
            self.busy_until = None
            self.queue.insert(0, 1)
        self.on_since, self.activity, self.leaving = None, None, False

    def _worker_limits(self) -> power.Limits:
        return power.Limits(idle_s=self.idle_m * MINUTE, run_s=self.run_m * MINUTE)


class Life(RuleBasedStateMachine):
    """A hundred days, in which one guard fails at any time: the same one, or another one later."""

    fails = staticmethod(lambda guard: frozenset({guard}))

    @initialize(idle_m=st.sampled_from((5, 15, 60, 240)), guard=st.sampled_from(GUARDS))
    def begin(self, idle_m: int, guard: str) -> None:
        self.world = World(idle_m=idle_m, broken=self.fails(guard))

    @rule(minutes=st.lists(st.integers(1, 5), min_size=1, max_size=40), apart=st.integers(0, 30))
    def ask(self, minutes: list[int], apart: int) -> None:
        for each in minutes:
            self.world.ask(each)
            self.world.pass_time(apart)

    @rule(minutes=st.integers(1, 4) | st.integers(1, 90))
    def pass_minutes(self, minutes: int) -> None:
        self.world.pass_time(minutes)

    @rule(days=st.integers(1, 5))
    def pass_days(self, days: int) -> None:
        self.world.pass_time(days * DAY)

    @rule()
    def die(self) -> None:
        self.world.crash(hang=False)

    @precondition(lambda self: "function" not in self.world.broken)
    @rule()
    def hang(self) -> None:
        """The worker's own guard hangs with it, so that no other one may fail."""
        self.world.crash(hang=True)

    @rule(minutes=st.integers(0, DAY))
    def reach_the_limit(self, minutes: int) -> None:
        self.world.kill(minutes)

    @precondition(lambda self: not self.world.hung or self.world.on_since is None)
    @rule(guard=st.sampled_from(GUARDS))
    def another_guard_fails(self, guard: str) -> None:
        self.world.broken = self.fails(guard)

    @invariant()
    def is_never_on_for_an_hour_beyond_its_limit(self) -> None:
        assert self.world.longest <= self.world.idle_m + 60, self.world.broken

    @invariant()
    def loses_no_job(self) -> None:
        assert self.world.done + self.world.unanswered == self.world.accepted

    def teardown(self) -> None:
        """The rest of the hundred days; then nobody asks any more, what waits is answered, and it sleeps."""
        world = self.world
        world.pass_time(max(0, DAYS * DAY - world.now))
        for _ in range(2 * DAY + world.accepted * 6):
            if world.done == world.accepted:
                break
            world.minute()
        assert world.done == world.accepted
        world.pass_time(world.idle_m + 60)
        self.is_never_on_for_an_hour_beyond_its_limit()
        assert world.on_since is None


LIVES = int(os.environ.get("SIMULATED_LIVES", "40"))
TestWhicheverGuardFailsNoGpuIsForgottenAndNoJobIsLost = Life.TestCase
TestWhicheverGuardFailsNoGpuIsForgottenAndNoJobIsLost.settings = settings(
    max_examples=LIVES, stateful_step_count=40, deadline=None
)


def test_the_simulation_finds_it_when_two_guards_fail() -> None:
    """So it can fail."""

    class Careless(Life):
        fails = staticmethod(lambda guard: frozenset({"worker", "function"}))

    fixed = settings(
        max_examples=500,
        stateful_step_count=10,
        deadline=None,
        phases=[Phase.generate],
        derandomize=True,
        report_multiple_bugs=False,
        database=None,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Careless, settings=fixed)


@pytest.mark.parametrize("alone", ["worker", "function"])
def test_each_guard_stops_a_forgotten_machine_with_the_other_two_switched_off(alone: str) -> None:
    world = World(idle_m=15, broken=frozenset({*GUARDS} - {alone}))
    world.ask(1)
    for _ in range(15 + 60 + 5):
        world.minute()
    assert (world.on_since, world.done) == (None, 1)


def test_without_any_guard_it_would_run_for_ever() -> None:
    """The test can fail: nothing else in this world stops a machine."""
    world = World(idle_m=15, broken=frozenset(GUARDS))
    world.ask(1)
    for _ in range(3 * DAY):
        world.now += 1
        world._wake()
        world._work()
    assert world.on_since is not None


LIMITS = quiet.Limits(idle_s=900, run_s=43_200)


def test_the_function_ends_what_has_run_for_too_long_though_it_works() -> None:
    node = quiet.Machine(id="i-1", started=0, is_node=True)
    beat = {"instance_id": "i-1", "at_ms": 50_000_000, "idle_s": 0}
    assert quiet.why_stop(node, beat, LIMITS, 43_200 + quiet.GRACE_S) is None
    told = quiet.why_stop(node, beat, LIMITS, 43_201 + quiet.GRACE_S)
    assert told is not None and "it has run for 12.4 hours" in told


def test_a_node_whose_worker_is_dead_is_ended_long_before_it_may_be_idle_for_so_long() -> None:
    node, patient = quiet.Machine(id="i-1", started=0, is_node=True), quiet.Limits(idle_s=14_400, run_s=43_200)
    dead = {"instance_id": "i-1", "at_ms": 600_000, "idle_s": 0}
    assert quiet.why_stop(node, dead, patient, 600 + quiet.QUIET_S) is None
    assert quiet.why_stop(node, dead, patient, 601 + quiet.QUIET_S) == "no heartbeat and no job for 55 minutes"
    alive = {**dead, "at_ms": 4_000_000, "idle_s": 3_990}
    assert quiet.why_stop(node, alive, patient, 4_000 + quiet.QUIET_S) is None


def test_signs_of_life_are_only_taken_from_the_machines_own_worker() -> None:
    builder = quiet.Machine(id="i-1", started=1_000.0, is_node=False)
    late = 1_000.0 + quiet.QUIET_S + 1
    fresh = {"instance_id": "i-1", "at_ms": late * 1000}
    assert quiet.why_stop(builder, fresh, LIMITS, late) is None
    for beat in ({}, {**fresh, "instance_id": "i-2"}, {**fresh, "at_ms": "soon"}, {**fresh, "at_ms": 1}):
        assert quiet.why_stop(builder, beat, LIMITS, late) == "no heartbeat and no job for 55 minutes"
