"""Applies changes: `up` and `down`, each one walk over the graph.

`up` visits a resource as soon as the last of its inputs is done, ensures it if it has drifted, and records its ids
before it counts as done. Then it removes what the settings have switched off, dependents first, with their records: not
earlier, because until then something may still refer to it (a route to a NAT gateway), and not at all if anything
failed. `down` first removes resources of ours that the stack doesn't declare, then visits the same graph reversed, then
sweeps: it lists, kind by kind, everything that carries our tags or a name only we can have, removes that too, and lists
again. What the last listing shows is left over.

A failure blocks only what depends on it. Every resource's outcome is reported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from aistratus.core.errors import Failure, Interrupted, NeedsReplacement, Occupied
from aistratus.core.graph import Graph, Stack, Walked, reverse, walk
from aistratus.core.ledger import Ledger
from aistratus.core.lock import LOCK
from aistratus.core.plan import Action, Change, Plan, Survey, compare, deletions
from aistratus.core.resource import Found, Resource, kinds, reconciler
from aistratus.core.settle import Clock

WORKERS = 16
"""Threads: enough for the widest level of the stack, few enough not to provoke throttling."""
SWEEP_ROUNDS = 3
"""Rounds of the sweep: what couldn't be removed because something depended on it is removed in the next one."""


@dataclass(frozen=True)
class Progress:
    """An event for the progress display."""

    key: str
    kind: str
    action: Action
    phase: Literal["started", "ended", "failed"]
    seconds: float = 0.0


Observer = Callable[[Progress], None]


@dataclass(frozen=True)
class Outcome:
    """The result of a run: one line for each resource, and for `down` what is left."""

    changes: tuple[Change, ...]
    left: tuple[Found, ...] = ()
    unlisted: tuple[Exception, ...] = ()
    """Why some kinds couldn't be listed at the end of `down`, so that leftovers of them can't be excluded."""
    interrupted: bool = False

    @property
    def failures(self) -> list[Change]:
        return [change for change in self.changes if change.action == "failed"]

    @property
    def ok(self) -> bool:
        unproved = self.left or self.unlisted
        return not (self.failures or unproved or self.interrupted or any(c.action == "blocked" for c in self.changes))


@dataclass(frozen=True)
class Run:
    """One run of `up` or `down`."""

    stack: Stack
    aws: Any
    ledger: Ledger
    clock: Clock
    stop: threading.Event
    observe: Observer = lambda progress: None

    def up(self, planned: Plan, *, replace_allowed: bool = False) -> Outcome:
        """Applies the plan."""
        outputs = dict(planned.survey.outputs)
        removed = self._remove_replaced(planned, outputs) if replace_allowed else {}
        survey = Survey({k: v for k, v in planned.survey.found.items() if k not in removed}, planned.survey.failed)
        lines = {change.key: change for change in planned.changes}
        off = {resource.key for resource in self.stack.unwanted}

        def visit(key: str) -> Change:
            change = compare(self.stack.by_key[key], self.aws, survey, outputs, as_found=key in self.stack.as_found)
            if key in removed:
                change = replace(removed[key], found=None)
            if change.error is not None:
                raise change.error
            done = change if change.action == "unchanged" else self._ensure(change, outputs)
            assert done.found is not None
            outputs[key] = done.found.ids
            recorded = self.aws.recorded(key)
            if recorded != done.found.ids:
                self.ledger.record(key, done.found.ids, known=bool(recorded))
            return done

        def take_away(key: str) -> Change | None:
            change = lines.get(key)
            if change is not None and change.error is not None:
                raise change.error
            if change is not None and key not in removed:
                change = self._remove_all(change)
            if self.aws.recorded(key):
                self.ledger.forget([key])
            return change

        walked = walk(self.stack.graph, visit, workers=WORKERS, stop=self.stop)
        wanted = self._lines((change for change in planned.changes if change.key not in off), walked)
        unwanted = _part(reverse(self.stack.whole.graph), off)
        culprit = next(iter(walked.failed), None)
        if culprit is not None:
            ended: Walked[Any] = Walked(blocked=dict.fromkeys(off, culprit))
        else:
            ended = walk(unwanted, take_away, workers=WORKERS, stop=self.stop)
        taken = self._lines((change for change in planned.changes if change.key in off), ended)
        return Outcome((*wanted, *taken), interrupted=_interrupted(walked) or _interrupted(ended))

    def down(self, survey: Survey, *, keep_data: bool = False) -> Outcome:
        """Removes the stack, then everything else of ours, and reports what is left."""
        lines = {change.key: change for change in deletions(self.stack, survey, keep_data=keep_data)}
        # First of all: a second node, say, would hold the subnet back for as long as its removal is waited for.
        try:
            strays = [change for change in self._remove_each(self._strays(survey)) if change.action == "delete"]
        except Interrupted:
            return Outcome(self._lines([*lines.values()], Walked()), interrupted=True)

        def visit(key: str) -> Change | None:
            change = lines.get(key)
            if change is None or change.action == "retained":
                return change
            if change.error is not None:
                raise change.error
            return self._remove(change)

        walked = walk(reverse(self.stack.whole.graph), visit, workers=WORKERS, stop=self.stop)
        changes = self._lines([*lines.values()], walked)
        if _interrupted(walked):
            return Outcome(changes, interrupted=True)
        kept = {line.found.id for line in changes if line.action == "retained" and line.found}
        try:
            swept, left, unlisted = self._sweep(kept, _occupied(changes))
        except Interrupted:  # nothing is proved then
            return Outcome((*changes, *strays), interrupted=True)
        changes = self._seen_again(changes, left)
        if not left:
            still = {line.key for line in changes if line.action != "delete"}
            keep = {self.ledger.name(key) for key in still} | {self.ledger.name(LOCK)}
            self.ledger.store.delete([name for name in self.ledger.everything() if name not in keep])
        return Outcome((*changes, *strays, *swept), left=tuple(left), unlisted=tuple(unlisted))

    def _seen_again(self, changes: tuple[Change, ...], left: list[Found]) -> tuple[Change, ...]:
        """A resource whose removal failed but that is gone now counts as deleted.

        It isn't enough that the sweep no longer lists it: what has lost its tags is in no listing of ours.
        """
        there, aws = {found.id for found in left}, self.aws.fresh()

        def gone(change: Change) -> bool:
            if change.action not in ("failed", "blocked") or (change.found and change.found.id in there):
                return False
            try:
                return reconciler(change.resource).find(aws, change.resource) is None
            except Exception:  # noqa: BLE001 - what can't be looked at isn't proved to be gone; its line keeps its error
                return False

        return tuple(replace(c, action="delete", error=None) if gone(c) else c for c in changes)

    # --- one resource ---------------------------------------------------------------------------------

    def _ensure(self, change: Change, outputs: Mapping[str, Mapping[str, str]]) -> Change:
        if change.action == "replace" and change.found is not None:
            fields = ", ".join(d.field for d in change.changes if d.field in change.resource.replace_on)
            raise NeedsReplacement(
                f"{change.key}: {fields} can only change by recreating it", todo="`aistratus up --replace` does that"
            )
        names = frozenset(difference.field for difference in change.changes)
        want = change.resource.resolve(outputs)
        have = change.found
        found, seconds = self._timed(
            change, lambda: reconciler(want).ensure(self.aws.fresh(), want, have, names if have else frozenset())
        )
        return replace(change, found=found, seconds=seconds)

    def _remove(self, change: Change) -> Change:
        found = change.found
        assert found is not None
        _, seconds = self._timed(change, lambda: reconciler(change.resource).remove(self.aws.fresh(), found))
        return replace(change, seconds=seconds)

    def _remove_all(self, change: Change) -> Change:
        """Removes what is switched off, and duplicates of it that a run that died may have created."""
        done = self._remove(change)
        for _ in range(SWEEP_ROUNDS):
            again = reconciler(change.resource).find(self.aws.fresh(), change.resource)
            if again is None or again.adopted:
                return done
            done = self._remove(replace(change, found=again))
        return done

    def _timed(self, change: Change, work: Callable[[], Any]) -> tuple[Any, float]:
        start = self.clock.now()
        event = Progress(change.key, change.resource.kind, change.action, "started")
        self.observe(event)
        try:
            result = work()
        except Exception:  # whatever it was, the line on the screen has to end; the error goes on as it is
            self.observe(replace(event, phase="failed", seconds=self.clock.now() - start))
            raise
        seconds = self.clock.now() - start
        self.observe(replace(event, phase="ended", seconds=seconds))
        return result, seconds

    # --- replacement ------------------------------------------------------------------------------------

    def _remove_replaced(self, planned: Plan, outputs: dict[str, Mapping[str, str]]) -> dict[str, Change]:
        """Removes everything that must be replaced, dependents first, before anything is created.

        What is switched off and stands on any of it has to go then, too.
        """
        doomed = {change.key: change for change in planned.changes if change.action == "replace"}
        for change in reversed(planned.changes):  # what is to go comes last, children first
            if change.action == "delete" and self.stack.whole.graph[change.key] & doomed.keys():
                doomed[change.key] = change
        graph = _part(reverse(self.stack.whole.graph), doomed.keys())
        walked = walk(graph, lambda key: self._remove(doomed[key]), workers=WORKERS, stop=self.stop)
        for error in walked.failed.values():
            raise error
        if walked.interrupted:
            raise Interrupted("interrupted while removing what has to be recreated", todo="`aistratus up` continues")
        for key in doomed:
            outputs.pop(key, None)
        return doomed

    # --- sweep --------------------------------------------------------------------------------------------

    def _sweep(self, kept: set[str], occupied: set[str]) -> tuple[list[Change], list[Found], list[Exception]]:
        """Removes what is ours but wasn't found by key: duplicates, leftovers of an older version of the stack.

        Args:
            kept, occupied: ids of what is to stay, and of what can't go because of other people's things in it.

        Returns:
            what was removed, what is left, and why some kinds couldn't be listed.
        """
        swept: list[Change] = []
        left: list[Found] = []
        unlisted: list[Exception] = []
        for _ in range(SWEEP_ROUNDS):
            if self.stop.is_set():
                raise Interrupted("interrupted while sweeping")
            listed, unlisted = inventory(self.aws.fresh())
            left = [found for found in listed if found.id not in kept]
            if not left:
                break
            doomed = [found for found in left if found.id not in occupied]
            if not doomed:
                break
            removed = self._remove_each(doomed)
            swept += removed
            occupied = occupied | _occupied(removed)
        else:
            listed, unlisted = inventory(self.aws.fresh())
            left = [found for found in listed if found.id not in kept]
        there = {found.id for found in left}
        told = [c for c in swept if c.action == "delete" or (c.found and c.found.id in there)]
        return told, left, unlisted

    def _strays(self, survey: Survey) -> list[Found]:
        """What is ours but wasn't found by key: duplicates, leftovers of an older version of the stack."""
        known = {found.id for found in survey.found.values()}
        listed, _ = inventory(self.aws.fresh())  # what can't be listed now is asked for again at the end
        return [found for found in listed if found.id not in known and found.state.key not in survey.failed]

    def _remove_each(self, doomed: list[Found]) -> list[Change]:
        """Removes them one after the other, in the order of teardown; each line says whether that worked."""
        lines = []
        for kind in self._kinds_last_first(doomed):
            for found in (entry for entry in doomed if type(entry.state) is kind):
                change = Change(found.state, "delete", found=found)
                try:
                    lines.append(self._remove(change))
                except Interrupted:
                    raise
                except Exception as error:  # noqa: BLE001 - told in its line; the next round tries again
                    lines.append(replace(change, action="failed", error=error))
        return lines

    def _kinds_last_first(self, found: Iterable[Found]) -> list[type[Resource]]:
        """Kinds in the order of teardown; kinds that this stack doesn't declare first."""
        whole = self.stack.whole
        order = [type(whole.by_key[key]) for key in reversed(whole.order)]
        present = {type(entry.state) for entry in found}
        return sorted(present, key=lambda kind: max((i for i, k in enumerate(order) if k is kind), default=-1))

    def _lines(self, planned: Iterable[Change], walked: Walked[Any]) -> tuple[Change, ...]:
        """The run's report: every planned change with its outcome."""
        lines = []
        for change in planned:
            if change.key in walked.done:
                lines.append(walked.done[change.key] or change)
            elif error := walked.failed.get(change.key):
                lines.append(replace(change, action="failed", error=error))
            elif culprit := walked.blocked.get(change.key):
                why = Failure(f"{change.key} wasn't touched because {culprit} failed")
                lines.append(replace(change, action="blocked", error=why))
            else:
                why = Interrupted(f"{change.key} wasn't started")
                lines.append(replace(change, action="blocked", error=why))
        return tuple(lines)


def owned(aws: Any) -> list[Found]:
    """Everything in the account that belongs to this env, by tag and by name, over all kinds.

    Raises:
        the first error of any kind's listing: what can't be listed can't be proved to be gone.
    """
    found, failed = inventory(aws)
    if failed:
        raise failed[0]
    return found


def inventory(aws: Any) -> tuple[list[Found], list[Exception]]:
    """The same, as far as it can be listed, and the errors of the kinds that can't."""
    listings = [functions.owned for functions in kinds().values() if functions.owned is not None]
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        listed = [pool.submit(listing, aws) for listing in listings]
    failed = [error for one in listed if (error := one.exception()) is not None]
    for error in failed:
        if not isinstance(error, Exception) or isinstance(error, Interrupted):
            raise error
    found = [found for one in listed if one.exception() is None for found in one.result()]
    return found, [error for error in failed if isinstance(error, Exception)]


def _part(graph: Graph, keys: Collection[str]) -> Graph:
    """The part of the graph with these keys."""
    return {key: frozenset(others & set(keys)) for key, others in graph.items() if key in keys}


def _interrupted(walked: Walked[Any]) -> bool:
    return walked.interrupted or any(isinstance(error, Interrupted) for error in walked.failed.values())


def _occupied(changes: Iterable[Change]) -> set[str]:
    """The ids of what can't be deleted because of other people's things in it."""
    return {change.found.id for change in changes if change.found and isinstance(change.error, Occupied)}
