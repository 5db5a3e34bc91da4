"""The node's states and steps: from every state a command reaches its goal, and two at once end alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistratus import wire
from aistratus.node.states import (
    ASLEEP,
    AWAKE,
    BOOT_WITHIN_S,
    GPU_WITHIN_S,
    Do,
    Goal,
    Seen,
    Shapes,
    State,
    answered_sooner,
    state,
    step,
    vcpus,
)

CPU, GPU, OTHER = "t3.small", "g4dn.xlarge", "g5.xlarge"
LIVING = ("pending", "running", "stopping", "stopped")
SHAPES = Shapes(cpu=CPU, gpus=(GPU, OTHER))
GOALS = [ASLEEP, AWAKE, *(Goal(running, type_) for running in (True, False) for type_ in (CPU, GPU))]


class Machine:
    """EC2's lifecycle, as its user guide draws it; what isn't allowed there fails the test."""

    def __init__(self, state: str, type_: str) -> None:
        self.state, self.type = state, type_

    def do(self, what: Do, goal: Goal) -> None:
        if what is Do.STOP:
            assert self.state in ("running", "stopping", "stopped"), self.state
            self.state = "stopping" if self.state == "running" else self.state
        elif what is Do.START:
            assert self.state in ("stopped", "pending", "running"), self.state
            self.state = "pending" if self.state == "stopped" else self.state
        elif what is Do.CHANGE:
            if self.state == "stopped":  # else IncorrectInstanceState: whoever asked looks again
                self.type = goal.type
        elif what is Do.WAIT:
            self.state = {"pending": "running", "stopping": "stopped"}.get(self.state, self.state)


def reached(goal: Goal, machine: Machine) -> bool:
    is_there = machine.state == ("running" if goal.running else "stopped")
    return (is_there or not goal.running) and goal.type in ("", machine.type)


@given(st.sampled_from(GOALS), st.sampled_from(LIVING), st.sampled_from((CPU, GPU)))
def test_every_goal_is_reached_from_every_state_and_then_nothing_is_done(goal: Goal, begin: str, type_: str) -> None:
    machine = Machine(begin, type_)
    for _ in range(8):
        machine.do(step(goal, machine.state, machine.type), goal)
    assert reached(goal, machine)
    assert step(goal, machine.state, machine.type) is Do.NOTHING


@given(st.sampled_from(GOALS), st.sampled_from(LIVING), st.lists(st.booleans(), min_size=24, max_size=24))
def test_two_with_one_goal_end_alike_however_their_steps_mix(goal: Goal, begin: str, turns: list[bool]) -> None:
    """Each acts on what it saw last, which the other may have changed meanwhile."""
    machine = Machine(begin, CPU)
    seen = {True: step(goal, begin, CPU), False: step(goal, begin, CPU)}
    for who in turns:
        if seen[who] is not Do.STOP or machine.state in ("running", "stopping", "stopped"):
            machine.do(seen[who], goal)
        seen[who] = step(goal, machine.state, machine.type)
    for _ in range(12):
        machine.do(step(goal, machine.state, machine.type), goal)
    assert reached(goal, machine)


@pytest.mark.parametrize("machine", ["", "terminated", "shutting-down"])
def test_without_a_machine_there_is_nothing_to_do(machine: str) -> None:
    assert state(Seen(machine=machine)) is State.ABSENT
    assert {step(goal, machine, CPU) for goal in GOALS} == {Do.GIVE_UP}


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (Seen(machine="stopped", type=CPU), State.STOPPED),
        (Seen(machine="pending", type=CPU), State.PENDING),
        (Seen(machine="stopping", type=CPU), State.STOPPING),
        (Seen(machine="running", type=CPU, up_s=5), State.WARMING),
        (Seen(machine="running", type=CPU, beat="loading"), State.WARMING),
        (Seen(machine="running", type=CPU, beat="ready"), State.READY),
        (Seen(machine="running", type=CPU, beat="busy"), State.READY),
        (Seen(machine="running", type=CPU, up_s=BOOT_WITHIN_S), State.RUNNING),
        (Seen(machine="running", type=GPU, beat="ready", up_s=300, gpu_coming=True), State.WARMING),
        (Seen(machine="running", type=GPU, beat="ready", up_s=GPU_WITHIN_S, gpu_coming=True), State.READY),
        (Seen(machine="stopping", type=CPU, wanted=GPU), State.SHAPE_CHANGING),
        (Seen(machine="running", type=GPU, beat="ready", wanted=GPU), State.READY),
    ],
)
def test_one_word_for_what_is_seen(seen: Seen, told: State) -> None:
    assert state(seen) is told


def test_where_there_is_no_room_every_gpu_is_tried_once_and_the_cpu_type_at_last() -> None:
    assert SHAPES.after(OTHER) == (GPU, CPU)
    assert SHAPES.after(CPU) == ()
    tried = [GPU]
    while (following := wire.next_shape(SHAPES.all, tried[-1])) is not None:
        tried.append(following)
    assert tried == [GPU, OTHER, CPU]
    assert wire.next_shape(SHAPES.all, "m5.large") == CPU, "a type that settings no longer name"


def test_the_cpu_answers_first_only_what_it_answers_sooner() -> None:
    """Ten tokens a second, and 70 s for the change: two prompts of 256 tokens take 51 s, three take 77."""
    assert [answered_sooner(waiting, 10, 70) for waiting in (0, 1, 2, 3)] == [False, True, True, False]
    assert not answered_sooner(1, 0, 70), "how fast it is isn't known"


def test_people_name_shapes_and_quotas_count_processors() -> None:
    assert [SHAPES.named(word) for word in ("cpu", "gpu", OTHER, "p5.48xlarge")] == [CPU, GPU, OTHER, None]
    assert Shapes(cpu=CPU, gpus=()).named("gpu") is None
    assert [vcpus(name) for name in ("g4dn.xlarge", "g5.2xlarge", "g6.48xlarge")] == [4, 8, 192]
