"""The plan: actual state, desired state and the changes between them. Every command shares this reading.

`survey` finds all resources of a stack at once (finding needs no parent, so there is no order) and `plan` compares.
Resources that the settings switch off are looked for as well: each one that exists is planned as `delete`. Nothing here
writes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from aistratus.core.diff import FieldChange, diff
from aistratus.core.errors import Interrupted
from aistratus.core.graph import Stack, walk
from aistratus.core.resource import Found, Resource, reconciler

Action = Literal["create", "update", "replace", "delete", "unchanged", "failed", "blocked", "retained"]

FIND_WORKERS = 48
"""Threads for finding, which mostly waits for answers: enough that no request waits for another."""


class Aws(Protocol):
    """What the core needs of a cloud: the tags that mark a resource as ours, recorded ids, and fresh reads."""

    def tags(self, key: str) -> Mapping[str, str]:
        """The tags that the resource with this key carries."""

    def recorded(self, key: str) -> Mapping[str, str]:
        """The ids that the ledger holds for this key."""

    def fresh(self) -> Any:
        """The same cloud with an empty cache."""


@dataclass(frozen=True)
class Change:
    """One line of a plan or of a run's report.

    changes: how what is there differs; of something `unchanged`, because it is to be left as it is found.
    """

    resource: Resource
    action: Action
    changes: tuple[FieldChange, ...] = ()
    found: Found | None = None
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def key(self) -> str:
        return self.resource.key


@dataclass(frozen=True)
class Survey:
    """What was found, by key. A key in neither mapping is absent."""

    found: Mapping[str, Found]
    failed: Mapping[str, Exception]

    @property
    def outputs(self) -> dict[str, Mapping[str, str]]:
        """Ids by key."""
        return {key: found.ids for key, found in self.found.items()}


def survey(stack: Stack, aws: Aws, *, stop: threading.Event | None = None) -> Survey:
    """Finds every resource of the stack, wanted or not, all at once.

    Raises:
        Interrupted: `stop` was set meanwhile.
    """
    declared = stack.whole.by_key
    walked = walk(
        {key: frozenset() for key in declared},
        lambda key: reconciler(declared[key]).find(aws, declared[key]),
        workers=FIND_WORKERS,
        stop=stop,
    )
    if walked.interrupted:
        raise Interrupted("interrupted before anything was changed")
    return Survey({key: found for key, found in walked.done.items() if found is not None}, walked.failed)


@dataclass(frozen=True)
class Plan:
    """The drift of a whole stack, in the order of its graph; removals come last, dependents first."""

    changes: tuple[Change, ...]
    survey: Survey

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do, and everything could be read."""
        return all(change.action == "unchanged" for change in self.changes)


def plan(stack: Stack, aws: Aws, found: Survey, *, anew: bool = False) -> Plan:
    """Compares the found state with the desired state.

    A replacement spreads: what is tied for good to a resource that will be made anew (it names it in a field that can't
    change) must be made anew too.

    Args:
        anew: also recreate what is acceptable where it is but would be made elsewhere today (a field `one_of`).
    """
    outputs = found.outputs
    changes = []
    for key in stack.order:
        change = compare(stack.by_key[key], aws, found, outputs, anew=anew, as_found=key in stack.as_found)
        if change.action in ("create", "replace"):
            outputs[key] = {}
        changes.append(change)
    return Plan((*changes, *removals(stack, found)), found)


def compare(
    resource: Resource,
    aws: Aws,
    found: Survey,
    outputs: Mapping[str, Mapping[str, str]],
    *,
    anew: bool = False,
    as_found: bool = False,
) -> Change:
    """The change of one resource, given the ids that its references may use.

    Args:
        as_found: leave what is there as it is, however it differs, and only tell its differences.
    """
    if error := found.failed.get(resource.key):
        return Change(resource, "failed", error=error)
    have, want = found.found.get(resource.key), resource.resolve(outputs)
    if have is None:
        return Change(resource, "create")
    differences = diff(want, have, aws.tags(resource.key), anew=anew)
    if not differences:
        return Change(resource, "unchanged", found=have)
    if as_found:
        return Change(resource, "unchanged", differences, found=have)
    fixed = {difference.field for difference in differences} & resource.replace_on
    return Change(resource, "replace" if fixed else "update", differences, found=have)


def removals(stack: Stack, found: Survey) -> list[Change]:
    """What `up` removes, in order: existing resources that the settings have switched off."""
    off = {resource.key for resource in stack.unwanted}
    return [change for change in deletions(stack, found, keep_data=False) if change.key in off]


def deletions(stack: Stack, found: Survey, *, keep_data: bool) -> list[Change]:
    """What `down` would remove, in order; absent and merely adopted resources are left out."""
    lines = []
    for key in reversed(stack.whole.order):
        resource, have = stack.whole.by_key[key], found.found.get(key)
        if error := found.failed.get(key):
            lines.append(Change(resource, "failed", error=error))
        elif have is not None and not have.adopted:
            keep = keep_data and resource.holds_data
            lines.append(Change(resource, "retained" if keep else "delete", found=have))
    return lines
