"""A lock that is held for long: renewed while its owner lives, and noticed when somebody else has it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from test_core_execute import Memory

from aistratus.cli.options import Options
from aistratus.cli.outcomes import cut_short
from aistratus.cli.session import LOCK_LASTS_S, Session
from aistratus.core.errors import Interrupted, Locked
from aistratus.core.execute import Outcome
from aistratus.core.ledger import Ledger
from aistratus.core.lock import Holder, Lock
from aistratus.core.settle import RealClock

HOUR = 3600.0
FIVE_MINUTES = 300.0
LOCK = "/t/e/lock"
TAKEN = r"the lock of this env was taken over by `aistratus down` of bob@other \(process 2\)"


class Broken(Memory):
    """A store that nobody reaches when `away`."""

    away = False

    def get(self, names: Any) -> Any:
        if self.away:
            raise ConnectionError("no route")
        return super().get(names)


@dataclass
class Time:
    """A clock that goes on only in waits, each of which does what is to happen meanwhile."""

    now: float = 1_800_000_000.0
    waits: list[Callable[[], object]] = field(default_factory=list)

    def ended(self, seconds: float) -> bool:
        self.now += seconds
        if not self.waits:
            return True
        self.waits.pop(0)()
        return False


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store() -> Broken:
    return Broken()


def lock(store: Memory, time: Time, pid: int = 1) -> Lock:
    command, user, host = ("aistratus up", "ann", "laptop") if pid == 1 else ("aistratus down", "bob", "other")
    me = Holder(command, user, host, pid, 0.0, time.now, time.now + HOUR)
    return Lock(Ledger(store, "/t/e"), me, now=lambda: time.now, is_dead=lambda _: False)


def keep(mine: Lock, time: Time) -> str:
    return mine.keep(every=FIVE_MINUTES, lasts=HOUR, ended=time.ended)


def nothing() -> None: ...


def test_an_owner_at_work_for_longer_than_the_lock_lasts_still_holds_it(store: Broken, time: Time) -> None:
    mine = lock(store, time)
    mine.take()
    time.waits = [nothing] * 24  # two hours
    assert keep(mine, time) == ""
    with pytest.raises(Locked, match=r"ann@laptop.*started 125 min ago"):
        lock(store, time, 2).take()
    mine.release()
    assert store.values == {}, "no claim is left behind"


def test_a_dead_owners_lock_still_expires(store: Broken, time: Time) -> None:
    mine = lock(store, time)
    mine.take()
    time.waits = [nothing]
    keep(mine, time)
    time.now += HOUR
    assert "had expired" in lock(store, time, 2).take()


def test_who_lost_it_is_told_who_has_it_and_leaves_it_alone(store: Broken, time: Time) -> None:
    mine, other = lock(store, time), lock(store, time, 2)
    mine.take()
    time.waits = [nothing, lambda: other.take(steal=True), pytest.fail]
    lost = keep(mine, time)
    assert lost.startswith("the lock of this env was taken over by `aistratus down` of bob@other (process 2)")
    mine.release()
    assert json.loads(store.values[LOCK].value)["user"] == "bob"


@pytest.mark.parametrize(
    ("meanwhile", "told"),
    [
        (lambda store: store.delete([LOCK]), "was removed, and no command holds it now"),
        (lambda store: store.overwrite(LOCK, "rubbish"), "holds no readable owner now"),
    ],
)
def test_a_lock_that_is_gone_is_not_written_anew(
    store: Broken, time: Time, meanwhile: Callable[[Memory], object], told: str
) -> None:
    mine = lock(store, time)
    mine.take()
    meanwhile(store)
    before = dict(store.values)
    assert told in mine.renew(HOUR)
    assert store.values == before


def test_one_who_takes_over_while_it_is_renewed_is_not_overwritten(store: Broken, time: Time) -> None:
    """The other one has read an expired lock, and has the claim to it: the renewal waits for what comes of that."""
    mine, other = lock(store, time), lock(store, time, 2)
    mine.take()
    store.create(f"{LOCK}.1", json.dumps(asdict(Holder("x", "bob", "other", 2, 0.0, time.now, time.now + 60))), key="x")
    with pytest.raises(Locked, match="bob@other"):
        mine.renew(HOUR)
    store.delete([f"{LOCK}.1"])
    other.take(steal=True)
    assert "taken over by `aistratus down` of bob" in mine.renew(HOUR)


def test_a_renewal_that_fails_is_tried_again_until_the_lock_expires(store: Broken, time: Time) -> None:
    def away(is_away: bool) -> Callable[[], None]:
        return lambda: setattr(store, "away", is_away)

    mine = lock(store, time)
    mine.take()
    time.waits = [away(True), *[nothing] * 5, away(False)]
    assert keep(mine, time) == ""
    assert json.loads(store.values[LOCK].value)["expires"] == time.now - FIVE_MINUTES + HOUR
    time.waits = [away(True), *[nothing] * 20]
    assert keep(mine, time) == "the lock of this env has expired, because it couldn't be renewed (no route)"


# --- a command -------------------------------------------------------------------------------------------------


def session(store: Memory) -> Session:
    """One whose cloud nobody asks."""
    nobody: Any = None
    stop = threading.Event()
    return Session(Options(), nobody, nobody, Ledger(store, "/t/e"), nobody, stop, RealClock(stop), {})


def test_a_short_command_writes_its_lock_once(store: Broken) -> None:
    with session(store).locked("aistratus up", steal=False):
        held = store.values[LOCK]
        assert held.version == 1
        assert json.loads(held.value)["expires"] - json.loads(held.value)["since"] == LOCK_LASTS_S
    assert store.values == {}


def test_a_command_that_lost_its_lock_starts_nothing_more_and_says_who_has_it(store: Broken, time: Time) -> None:
    here = session(store)
    with (
        pytest.raises(Locked, match=TAKEN + r".*; interrupted while waiting; `aistratus up` continues"),
        here.locked("aistratus up", steal=False, every=0.001),
    ):
        other = json.dumps(asdict(Holder("aistratus down", "bob", "other", 2, 0.0, time.now, time.now + HOUR)))
        store.overwrite(LOCK, other)
        here.clock.wait(60)
    assert here.stop.is_set()
    assert store.values[LOCK].value == other


def test_the_end_tells_a_lost_lock_from_ctrl_c() -> None:
    outcome = Outcome((), interrupted=True)
    lost = cut_short(outcome, "aistratus up", "the lock of this env was taken over by somebody")
    assert isinstance(lost, Locked)
    assert str(lost).startswith("the lock of this env was taken over by somebody; interrupted: 0 done, 0 not (none); ")
    assert isinstance(cut_short(outcome, "aistratus up", ""), Interrupted)
