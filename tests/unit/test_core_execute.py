"""The walk over the graph: order, failures, interruption, replacement, sweep. Uses kinds that live in a dictionary."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from aistratus.core import resource
from aistratus.core.errors import Failure, Interrupted, Stranger
from aistratus.core.execute import Outcome, Run
from aistratus.core.graph import Stack
from aistratus.core.ledger import Ledger, Parameter
from aistratus.core.plan import Plan, Survey, plan, survey
from aistratus.core.resource import Found, Ref, Resource, reconciles


class World:
    """A cloud that is a dictionary.

    `broken` names the keys whose next change fails, `strange` those that have lost their tags, `unlisted` says why
    nothing can be listed, and `log` what happened.
    """

    def __init__(self) -> None:
        self.things: dict[str, Found] = {}
        self.broken: dict[str, Exception] = {}
        self.strange: set[str] = set()
        self.unlisted: Exception | None = None
        self.log: list[str] = []
        self.lock = threading.Lock()
        self.on_change: Any = None
        self.ledger = Ledger(Memory(), "/t/e")

    def tags(self, key: str) -> Mapping[str, str]:
        return {"key": key}

    def recorded(self, key: str) -> Mapping[str, str]:
        return self.ledger.read([key]).get(key, {})

    def fresh(self) -> World:
        return self

    def change(self, what: str, key: str) -> None:
        with self.lock:
            self.log.append(f"{what} {key}")
        if self.on_change:
            self.on_change(key)
        if key in self.broken:
            raise self.broken[key]


@dataclass(frozen=True, kw_only=True)
class Box(Resource):
    replace_on: ClassVar[frozenset[str]] = frozenset({"shape", "inside"})
    size: int = 1
    shape: str = "cube"
    inside: Ref | str | None = None
    beside: tuple[Ref | str, ...] = ()


def find_box(world: World, want: Box) -> Found | None:
    if want.key in world.strange:
        raise Stranger(f"{want.key} isn't ours")
    return world.things.get(want.key)


def remove_box(world: World, have: Found) -> None:
    world.change("remove", have.state.key)
    world.things.pop(have.ids["id"].split("-")[0], None)
    world.things.pop(have.ids["id"], None)


def owned_boxes(world: World) -> list[Found]:
    if world.unlisted is not None:
        raise world.unlisted
    return [found for found in world.things.values() if found.state.key not in world.strange]


@reconciles(Box, find=find_box, remove=remove_box, owned=owned_boxes)
def ensure_box(world: World, want: Box, have: Found | None, changes: frozenset[str]) -> Found:
    world.change("create" if have is None else f"update {','.join(sorted(changes))} of", want.key)
    found = Found(state=want, ids={"id": f"{want.key}-{want.shape}"}, tags={"key": want.key})
    with world.lock:
        world.things[want.key] = found
    return found


BOXES = {Box: resource._RECONCILERS.pop(Box)}


@pytest.fixture(autouse=True)
def just_boxes() -> Iterator[None]:
    """Boxes are the only kind while these tests run, and no kind at all in anybody else's."""
    others = dict(resource._RECONCILERS)
    resource._RECONCILERS.clear()
    resource._RECONCILERS.update(BOXES)
    yield
    resource._RECONCILERS.clear()
    resource._RECONCILERS.update(others)


@dataclass
class Memory:
    """A ledger's store in memory."""

    values: dict[str, Parameter] = field(default_factory=dict)

    def get(self, names: Iterable[str]) -> Mapping[str, Parameter]:
        return {name: self.values[name] for name in names if name in self.values}

    def create(self, name: str, value: str, *, key: str, secret: bool = False) -> bool:
        if name in self.values:
            return False
        self.values[name] = Parameter(value, 1)
        return True

    def overwrite(self, name: str, value: str) -> int:
        version = self.values[name].version + 1 if name in self.values else 1
        self.values[name] = Parameter(value, version)
        return version

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self.values.pop(name, None)

    def below(self, prefix: str) -> list[str]:
        return [name for name in self.values if name.startswith(prefix + "/")]


class StillClock:
    def now(self) -> float:
        return 0.0

    def wait(self, seconds: float) -> None:
        return None


@pytest.fixture
def world() -> Iterator[World]:
    yield World()


def run(world: World, stack: Stack, memory: Memory | None = None, stop: threading.Event | None = None) -> Run:
    world.ledger = Ledger(memory or Memory(), "/t/e")
    return Run(stack, world, world.ledger, StillClock(), stop or threading.Event())


def planned(world: World, stack: Stack) -> Plan:
    return plan(stack, world, survey(stack, world))


def up(world: World, stack: Stack, **options: Any) -> Outcome:
    allowed = options.pop("replace_allowed", False)
    return run(world, stack, **options).up(planned(world, stack), replace_allowed=allowed)


def actions(outcome: Outcome) -> dict[str, str]:
    return {change.key: change.action for change in outcome.changes}


outer = Box(key="outer")
inner = Box(key="inner", inside=Ref(outer))
friend = Box(key="friend")
last = Box(key="last", beside=(Ref(inner), Ref(friend)))
STACK = Stack((last, friend, inner, outer))


def test_up_twice_changes_nothing(world: World) -> None:
    assert set(actions(up(world, STACK)).values()) == {"create"}
    world.log.clear()
    assert planned(world, STACK).empty
    assert set(actions(up(world, STACK)).values()) == {"unchanged"}
    assert world.log == []


def test_references_are_the_order_and_reach_the_child_resolved(world: World) -> None:
    up(world, STACK)
    assert world.log.index("create outer") < world.log.index("create inner") < world.log.index("create last")
    found = world.things["inner"].state
    assert isinstance(found, Box) and found.inside == "outer-cube"


def test_a_change_outside_is_planned_and_repaired_field_by_field(world: World) -> None:
    up(world, STACK)
    have = world.things["friend"]
    world.things["friend"] = replace(have, state=replace(have.state, size=9))  # type: ignore[call-arg]
    (change,) = [c for c in planned(world, STACK).changes if c.action != "unchanged"]
    assert (change.key, [c.field for c in change.changes]) == ("friend", ["size"])
    world.log.clear()
    up(world, STACK)
    assert world.log == ["update size of friend"]
    assert planned(world, STACK).empty


def test_a_failure_blocks_only_what_stands_on_it_and_all_failures_show(world: World) -> None:
    world.broken = {"inner": Failure("no"), "friend": Failure("neither")}
    outcome = up(world, STACK)
    assert actions(outcome) == {"outer": "create", "inner": "failed", "friend": "failed", "last": "blocked"}
    assert not outcome.ok
    world.broken = {}
    assert up(world, STACK).ok


def test_ids_are_recorded_right_after_each_ensure(world: World) -> None:
    memory = Memory()
    world.broken = {"last": Failure("no")}
    up(world, STACK, memory=memory)
    assert set(Ledger(memory, "/t/e").read(STACK.by_key)) == {"outer", "inner", "friend"}


def test_a_lost_ledger_is_written_anew_without_touching_anything(world: World) -> None:
    up(world, STACK)
    world.log.clear()
    memory = Memory()
    memory.values["/t/e/outer"] = Parameter("not json", 3)
    up(world, STACK, memory=memory)
    assert world.log == []
    assert Ledger(memory, "/t/e").read(STACK.by_key)["outer"] == {"id": "outer-cube"}


def test_ctrl_c_starts_nothing_new_and_the_next_up_continues(world: World) -> None:
    stop = threading.Event()
    world.on_change = lambda key: stop.set()
    chain = Stack((outer, inner))
    outcome = up(world, chain, stop=stop)
    assert outcome.interrupted and actions(outcome) == {"outer": "create", "inner": "blocked"}
    assert isinstance(outcome.changes[1].error, Interrupted)
    world.on_change = None
    assert actions(up(world, chain)) == {"outer": "unchanged", "inner": "create"}


def test_what_cant_change_in_place_needs_permission_and_takes_its_children_along(world: World) -> None:
    up(world, STACK)
    other = Box(key="outer", shape="ball")
    child = Box(key="inner", inside=Ref(other))
    stack = Stack((other, child, friend, Box(key="last", beside=(Ref(child), Ref(friend)))))
    assert {c.key: c.action for c in planned(world, stack).changes if c.action != "unchanged"} == {
        "outer": "replace",
        "inner": "replace",
        "last": "update",
    }
    refused = up(world, stack)
    assert actions(refused)["outer"] == "failed" and "--replace" in str(refused.failures[0].error)
    world.log.clear()
    assert up(world, stack, replace_allowed=True).ok
    assert world.log[:2] == ["remove inner", "remove outer"]
    assert planned(world, stack).empty


def test_down_goes_backwards_and_leaves_nothing(world: World) -> None:
    memory = Memory()
    up(world, STACK, memory=memory)
    world.log.clear()
    outcome = run(world, STACK, memory).down(survey(STACK, world))
    assert outcome.ok and world.things == {} and memory.values == {}
    assert world.log.index("remove last") < world.log.index("remove inner") < world.log.index("remove outer")


def test_down_sweeps_what_the_names_dont_know(world: World) -> None:
    up(world, STACK)
    world.things["old-1"] = Found(state=Box(key="old"), ids={"id": "old-1"}, tags={"key": "old"})
    outcome = run(world, STACK).down(survey(STACK, world))
    assert outcome.ok and world.things == {}
    assert actions(outcome)["old"] == "delete"


def test_down_begins_with_what_no_key_leads_to_since_it_may_hold_the_rest_back(world: World) -> None:
    up(world, STACK)
    world.things["second-1"] = Found(state=Box(key="inner"), ids={"id": "second-1"}, tags={"key": "inner"})
    world.log.clear()
    assert run(world, STACK).down(survey(STACK, world)).ok
    assert world.log.index("remove inner") < world.log.index("remove last")
    assert world.log.count("remove inner") == 2


def test_what_could_not_be_looked_at_is_no_stray(world: World) -> None:
    up(world, STACK)
    found = survey(STACK, world)
    blind = Survey({k: f for k, f in found.found.items() if k != "outer"}, {"outer": Failure("throttled")})
    world.log.clear()
    outcome = run(world, STACK).down(blind)
    assert outcome.ok
    assert world.log.index("remove last") < world.log.index("remove outer")


def test_ctrl_c_during_the_last_removal_is_no_proof_that_nothing_is_left(world: World) -> None:
    up(world, STACK)
    world.things["old-1"] = Found(state=Box(key="old"), ids={"id": "old-1"}, tags={"key": "old"})
    world.broken = {"old": Failure("in use")}
    stop = threading.Event()
    world.on_change = lambda key: stop.set() if key == "outer" else None
    outcome = run(world, STACK, stop=stop).down(survey(STACK, world))
    assert outcome.interrupted and not outcome.ok


def test_what_lost_its_tags_is_not_proved_to_be_gone_because_no_listing_shows_it(world: World) -> None:
    memory = Memory()
    up(world, STACK, memory=memory)
    world.strange = {"outer"}
    outcome = run(world, STACK, memory).down(survey(STACK, world))
    assert not outcome.ok and actions(outcome)["outer"] == "failed"
    assert set(world.things) == {"outer"}
    assert list(memory.values) == ["/t/e/outer"], "its record stays: it may be ours after all"


def test_a_kind_that_cannot_be_listed_holds_nothing_back_and_is_told(world: World) -> None:
    up(world, STACK)
    world.unlisted = Failure("denied")
    outcome = run(world, STACK).down(survey(STACK, world))
    assert world.things == {}
    assert not outcome.ok and [str(error) for error in outcome.unlisted] == ["denied"]


def test_down_names_what_is_left(world: World) -> None:
    up(world, STACK)
    world.broken = {"outer": Failure("in use")}
    outcome = run(world, STACK).down(survey(STACK, world))
    assert not outcome.ok and [found.id for found in outcome.left] == ["outer-cube"]
    assert "outer" in world.things and actions(outcome)["outer"] == "failed"


def test_a_circle_is_refused() -> None:
    a = Box(key="a", inside=Ref(Box(key="b")))
    with pytest.raises(Failure, match="circle"):
        Stack((a, Box(key="b", inside=Ref(a))))


def test_a_reference_out_of_the_stack_is_refused() -> None:
    with pytest.raises(Failure, match="outer"):
        Stack((inner,))


def test_only_takes_a_key_with_what_it_stands_on() -> None:
    assert set(STACK.only(["inner"]).by_key) == {"inner", "outer"}
    with pytest.raises(Failure, match="nothing"):
        STACK.only(["nothing"])


def test_only_leaves_what_a_key_stands_on_as_it_is_found_and_makes_it_where_it_is_missing(world: World) -> None:
    up(world, STACK)
    bigger = Box(key="outer", size=9, shape="ball")
    part = Stack((bigger, Box(key="inner", size=5, inside=Ref(bigger)))).only(["inner"])
    world.log.clear()
    looked = {change.key: change for change in planned(world, part).changes}
    assert (looked["outer"].action, looked["inner"].action) == ("unchanged", "update")
    assert {difference.field for difference in looked["outer"].changes} == {"size", "shape"}
    assert up(world, part, replace_allowed=True).ok
    assert world.log == ["update size of inner"]
    assert planned(world, part).empty

    world.things.clear()
    world.log.clear()
    assert up(world, part).ok and world.log == ["create outer", "create inner"]


def test_without_leaves_out_a_key_and_all_that_stands_on_it() -> None:
    assert set(STACK.without(["outer"]).by_key) == {"friend"}
    assert STACK.without(["inner"]).by_key.keys() >= {"outer"}
    part = WITHOUT_LID.without(["lid"])
    assert (set(part.by_key), part.unwanted) == ({"outer", "inner"}, ())
    with pytest.raises(Failure, match="nothing"):
        STACK.without(["nothing"])


# --- what is switched off -------------------------------------------------------------------------------------------

lid = Box(key="lid", inside=Ref(outer))
ribbon = Box(key="ribbon", inside=Ref(lid))
WITH_LID = Stack((outer, inner, lid, ribbon))
WITHOUT_LID = Stack((outer, inner), (lid, ribbon))


def test_what_is_switched_off_is_planned_as_a_deletion_and_removed_with_its_record(world: World) -> None:
    memory = Memory()
    up(world, WITH_LID, memory=memory)
    world.log.clear()
    assert [(c.key, c.action) for c in planned(world, WITHOUT_LID).changes if c.action != "unchanged"] == [
        ("ribbon", "delete"),
        ("lid", "delete"),
    ]
    outcome = up(world, WITHOUT_LID, memory=memory)
    assert outcome.ok
    assert actions(outcome) == {"outer": "unchanged", "inner": "unchanged", "ribbon": "delete", "lid": "delete"}
    assert world.log == ["remove ribbon", "remove lid"]
    assert set(Ledger(memory, "/t/e").read(WITH_LID.by_key)) == {"outer", "inner"}
    assert planned(world, WITHOUT_LID).empty


def test_what_is_switched_off_goes_only_after_all_that_is_wanted_is_there(world: World) -> None:
    up(world, WITH_LID)
    world.things.pop("inner")
    world.log.clear()
    up(world, WITHOUT_LID)
    assert world.log == ["create inner", "remove ribbon", "remove lid"]


def test_nothing_switched_off_is_touched_when_something_wanted_failed(world: World) -> None:
    up(world, WITH_LID)
    world.things.pop("inner")
    world.broken = {"inner": Failure("no")}
    outcome = up(world, WITHOUT_LID)
    assert actions(outcome) == {"outer": "unchanged", "inner": "failed", "ribbon": "blocked", "lid": "blocked"}
    assert {"lid", "ribbon"} <= world.things.keys()
    world.broken = {}
    assert up(world, WITHOUT_LID).ok and world.things.keys() == {"outer", "inner"}


def test_a_removal_that_fails_is_reported_and_keeps_what_it_stands_on(world: World) -> None:
    up(world, WITH_LID)
    world.broken = {"ribbon": Failure("in use")}
    outcome = up(world, WITHOUT_LID)
    assert not outcome.ok
    assert (actions(outcome)["ribbon"], actions(outcome)["lid"]) == ("failed", "blocked")
    assert not planned(world, WITHOUT_LID).empty


def test_a_record_of_something_switched_off_that_is_gone_is_dropped(world: World) -> None:
    memory = Memory()
    up(world, WITH_LID, memory=memory)
    world.things = {key: thing for key, thing in world.things.items() if key in ("outer", "inner")}
    assert planned(world, WITHOUT_LID).empty
    up(world, WITHOUT_LID, memory=memory)
    assert set(Ledger(memory, "/t/e").read(WITH_LID.by_key)) == {"outer", "inner"}


def test_an_interrupted_run_leaves_what_is_switched_off_for_the_next(world: World) -> None:
    up(world, WITH_LID)
    stop = threading.Event()
    world.on_change = lambda key: stop.set()
    outcome = up(world, WITHOUT_LID, stop=stop)
    assert outcome.interrupted and (actions(outcome)["ribbon"], actions(outcome)["lid"]) == ("delete", "blocked")
    world.on_change = None
    assert up(world, WITHOUT_LID).ok and "lid" not in world.things


def test_down_takes_what_is_switched_off_along(world: World) -> None:
    memory = Memory()
    up(world, WITH_LID, memory=memory)
    world.log.clear()
    outcome = run(world, WITHOUT_LID, memory).down(survey(WITHOUT_LID, world))
    assert outcome.ok and world.things == {} and memory.values == {}
    assert world.log.index("remove ribbon") < world.log.index("remove lid") < world.log.index("remove outer")


def test_what_is_switched_off_goes_before_what_it_stands_on_is_made_anew(world: World) -> None:
    up(world, WITH_LID)
    ball = Box(key="outer", shape="ball")
    lid_of_ball = Box(key="lid", inside=Ref(ball))
    stack = Stack((ball,), (lid_of_ball, Box(key="ribbon", inside=Ref(lid_of_ball))))
    world.things.pop("inner")
    world.log.clear()
    assert up(world, stack, replace_allowed=True).ok
    assert world.log == ["remove ribbon", "remove lid", "remove outer", "create outer"]


def test_only_leaves_the_rest_of_what_is_switched_off_alone(world: World) -> None:
    up(world, WITH_LID)
    assert up(world, WITHOUT_LID.only(["inner"])).ok and "lid" in world.things
    assert {resource.key for resource in WITHOUT_LID.only(["lid"]).unwanted} == {"lid", "ribbon"}
    assert up(world, WITHOUT_LID.only(["lid"])).ok and world.things.keys() == {"outer", "inner"}


def test_nothing_wanted_may_stand_on_what_is_switched_off() -> None:
    with pytest.raises(Failure, match="lid"):
        Stack((outer, ribbon), (lid,))
