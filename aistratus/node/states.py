"""The node's state machine: its states, and the next step towards a goal. Pure, without a call.

EC2 knows the machine's state, the worker's heartbeat whether a worker serves jobs, and the jobs table whether its type
is being changed. `state` combines the three, for `status` and for decisions. `step` returns the next step towards a
goal; a command looks, does that one step, and looks again. So every command is safe in every state, two commands at
once end the same way, and a command that died is continued by the next one.

    absent          there is no machine, or it is being terminated
    stopped         it costs its volume only; the next prompt wakes it
    pending         EC2 allocates capacity and starts it
    warming         it runs, and its worker starts, loads the model, or waits for its GPU's driver
    ready           its worker takes jobs
    running         it runs, but no worker has sent a heartbeat in the time that a boot takes
    stopping        it ends its programs
    shape-changing  it stops, is changed and starts again as another type

Source: EC2 user guide, "Instance lifecycle" (`pending` can't be stopped, `stopping` can't be started) and "Change the
instance type" (only while stopped).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

BOOT_WITHIN_S: Final = 900.0
"""A first boot installs packages and fetches 670 MB; what takes longer isn't coming (as in `client/api.py`)."""

GPU_WITHIN_S: Final = 1800.0
"""The first boot on a type with a GPU builds its driver; the cap of the bootstrap script (`node/launch.py`)."""

GONE: Final = frozenset({"shutting-down", "terminated"})


class State(StrEnum):
    """Where the node is, in one word."""

    ABSENT = "absent"
    STOPPED = "stopped"
    PENDING = "pending"
    WARMING = "warming"
    READY = "ready"
    RUNNING = "running"
    STOPPING = "stopping"
    SHAPE_CHANGING = "shape-changing"


UNDER_WAY: Final = frozenset({State.PENDING, State.WARMING, State.SHAPE_CHANGING})
"""On the way to ready."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of the node.

    machine: EC2's word for the instance's state; empty if there is none.
    type: its instance type.
    beat: the state in a fresh heartbeat (`loading`, `ready`, `busy`); empty if there is no fresh one.
    up_s: seconds since its latest start.
    gpu_coming: it has a GPU that may yet be used; its worker answers on the processor meanwhile.
    wanted: the type that it is being changed to; empty if it isn't.
    """

    machine: str
    type: str = ""
    beat: str = ""
    up_s: float = 0.0
    gpu_coming: bool = False
    wanted: str = ""


def state(seen: Seen) -> State:
    """One word for all that is known."""
    if not seen.machine or seen.machine in GONE:
        return State.ABSENT
    if seen.wanted and seen.wanted != seen.type:
        return State.SHAPE_CHANGING
    if seen.machine != "running":
        return State(seen.machine)
    if seen.beat:
        waits = seen.gpu_coming and seen.up_s < GPU_WITHIN_S
        return State.WARMING if waits or seen.beat == "loading" else State.READY
    return State.WARMING if seen.up_s < BOOT_WITHIN_S else State.RUNNING


class Do(Enum):
    """The next step towards a goal."""

    NOTHING = "nothing"
    WAIT = "wait"
    STOP = "stop"
    CHANGE = "change"
    START = "start"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Goal:
    """Where a machine is to be: does it run, and as which type (empty: as it is).

    A machine that has the type already isn't stopped for it.
    """

    running: bool
    type: str = ""


ASLEEP: Final = Goal(running=False)
AWAKE: Final = Goal(running=True)


def step(goal: Goal, machine: str, type_: str) -> Do:
    """What to do next with a machine in this state (EC2's word) and of this type; `GIVE_UP` where there is none."""
    if not machine or machine in GONE:
        return Do.GIVE_UP
    other = bool(goal.type) and goal.type != type_
    if machine == "stopped":
        if other:
            return Do.CHANGE
        return Do.START if goal.running else Do.NOTHING
    if machine == "running":
        return Do.STOP if other or not goal.running else Do.NOTHING
    return Do.WAIT  # `pending` can't be stopped and `stopping` can't be started


# --- shapes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shapes:
    """The types that settings allow: one with processors only, and those with a GPU in the order they are tried in."""

    cpu: str
    gpus: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Those with a GPU, then the one that is always to be had."""
        return (*self.gpus, self.cpu)

    def named(self, word: str) -> str | None:
        """The type that a person means: `cpu`, `gpu`, or a type that is allowed."""
        meant = {"cpu": self.cpu, "gpu": self.gpus[0] if self.gpus else ""}.get(word, word)
        return meant if meant in self.all else None

    def after(self, type_: str) -> tuple[str, ...]:
        """What to try when AWS has no room for this type: the other GPUs in their order, at last the CPU type."""
        if type_ not in self.gpus:
            return ()
        return (*(one for one in self.gpus if one != type_), self.cpu)


REPLY_TOKENS: Final = 256
"""What a prompt asks for unless it says otherwise (`wire.Job.max_tokens`); most replies are shorter."""


def answered_sooner(waiting: int, tokens_per_second: float, change_s: float) -> bool:
    """Are all prompts that wait answered by the machine as it is before it could be there as another type?

    Args:
        waiting: prompts in the queue and in hand.
        tokens_per_second: of the machine as it is; 0 where it isn't known.
        change_s: seconds until it is ready as the other type.
    """
    return waiting > 0 and tokens_per_second > 0 and waiting * REPLY_TOKENS / tokens_per_second <= change_s


def is_gpu(type_: str) -> bool:
    """Does this type count for the quota of G and VT instances?"""
    return type_[:1] == "g" or type_[:2] == "vt"


def vcpus(type_: str) -> int:
    """Virtual processors of a G type, which its quota counts.

    Every size is so many times `xlarge`, and an `xlarge` has four. Source: EC2 instance types, "Accelerated computing".
    """
    size = type_.partition(".")[2].removesuffix("xlarge")
    return 4 * int(size or 1)
