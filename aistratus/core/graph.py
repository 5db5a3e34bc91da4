"""The dependency graph, derived from the resources' fields, and the one walk over it.

`walk` visits every resource as soon as its dependencies are done, on a thread pool, without waves. A failure blocks
only what depends on it: the walk continues with the rest and returns all failures together. Ctrl-C (a set `stop`)
starts nothing new and lets running visits end.

Resources that the settings switch off are declared too, as unwanted: no wanted resource may refer to one, `up` removes
those that exist, and `whole` is the graph of all that may exist (for `down` and the ledger).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Generic, TypeVar

from aistratus.core.errors import Failure, UsageError
from aistratus.core.resource import Resource

T = TypeVar("T")
Graph = Mapping[str, frozenset[str]]
Groups = Mapping[str, tuple[Resource, ...]]
Declared = Iterable[Resource] | Mapping[str, Iterable[Resource]]


class Stack:
    """All resources of one env, in the order in which they are declared.

    Args:
        resources: what shall be there. `by_key`, `graph` and `order` are about these.
        unwanted: what the settings have switched off: it shall not be there. Its `Ref`s may lead to anything that is
            declared.
        as_found: keys of resources that are created if they are missing, and otherwise left as they are, however they
            differ.

    `resources` and `unwanted` may be given by group (`network`, `data` …). Groups are for people who read a plan or a
    picture; nothing is decided by them.

    Raises:
        Failure: two resources share a key, a `Ref` leads out of the stack, something wanted refers to something
            unwanted, or the references form a circle.
    """

    def __init__(self, resources: Declared, unwanted: Declared = (), *, as_found: frozenset[str] = frozenset()) -> None:
        self.as_found = as_found
        self.groups, self._unwanted = _by_group(resources), _by_group(unwanted)
        self.resources = tuple(resource for group in self.groups.values() for resource in group)
        self.unwanted = tuple(resource for group in self._unwanted.values() for resource in group)
        self.by_key: Mapping[str, Resource] = {resource.key: resource for resource in self.resources}
        if len(self.by_key) != len(self.resources):
            raise Failure("two resources of the stack share a key")
        self.graph: Graph = {
            resource.key: frozenset(ref.to.key for ref in resource.refs()) for resource in self.resources
        }
        for key, parents in self.graph.items():
            if missing := parents - self.by_key.keys():
                raise Failure(f"{key} refers to {', '.join(sorted(missing))}, which the stack doesn't declare")
        try:
            self.order: tuple[str, ...] = tuple(TopologicalSorter(self.graph).static_order())
        except CycleError as error:
            raise Failure(f"the stack's references form a circle: {' -> '.join(error.args[1])}") from error
        self.whole: Stack = Stack(_together(self.groups, self._unwanted)) if self.unwanted else self
        """The stack of everything declared, wanted or not."""

    @property
    def group_of(self) -> Mapping[str, str]:
        """The group that each key belongs to, in the order of the groups; empty where none was named."""
        return {resource.key: name for name, group in self.whole.groups.items() for resource in group}

    def plus(self, group: str, resources: Iterable[Resource], unwanted: Iterable[Resource]) -> Stack:
        """The stack with one more group, which may refer to all others."""
        return Stack({**self.groups, group: resources}, {**self._unwanted, group: unwanted}, as_found=self.as_found)

    def only(self, keys: Iterable[str]) -> Stack:
        """The part of the stack with these keys, and their dependencies, which are left as they are found.

        A key that is switched off brings along what is switched off and stands on it, since that has to go first, and
        goes with what is switched off and it stands on.
        """
        off = {resource.key for resource in self.unwanted}
        above = reverse(self.whole.graph)
        chosen = set(keys)
        self._must_know(chosen)
        kept: set[str] = set()
        todo = list(chosen)
        while todo:
            key = todo.pop()
            if key not in kept:
                kept.add(key)
                todo.extend(self.whole.graph[key])
                todo.extend(above[key] if key in off else ())
        return self._part(kept, as_found=frozenset(kept - chosen - off) | self.as_found & kept)

    def without(self, keys: Iterable[str]) -> Stack:
        """The stack without these keys and everything that depends on them: neither wanted nor unwanted."""
        keys = set(keys)
        self._must_know(keys)
        above = reverse(self.whole.graph)
        gone: set[str] = set()
        todo = list(keys)
        while todo:
            key = todo.pop()
            if key not in gone:
                gone.add(key)
                todo.extend(above[key])
        return self._part(self.whole.by_key.keys() - gone, as_found=self.as_found - gone)

    def _must_know(self, keys: Iterable[str]) -> None:
        for key in sorted(keys):
            if key not in self.whole.by_key:
                raise UsageError(f"there is no resource {key!r}", todo=f"the keys are {', '.join(self.whole.by_key)}")

    def _part(self, kept: Collection[str], *, as_found: frozenset[str]) -> Stack:
        wanted, unwanted = (
            {name: [resource for resource in group if resource.key in kept] for name, group in groups.items()}
            for groups in (self.groups, self._unwanted)
        )
        return Stack(wanted, unwanted, as_found=as_found)


def _by_group(declared: Declared) -> Groups:
    groups = declared if isinstance(declared, Mapping) else {"": declared}
    return {name: tuple(group) for name, group in groups.items()}


def _together(some: Groups, others: Groups) -> Groups:
    return {name: (*some.get(name, ()), *others.get(name, ())) for name in {**some, **others}}


def reverse(graph: Graph) -> Graph:
    """The graph with all edges reversed: the order of removal."""
    turned: dict[str, set[str]] = {node: set() for node in graph}
    for node, parents in graph.items():
        for parent in parents:
            turned[parent].add(node)
    return {node: frozenset(children) for node, children in turned.items()}


@dataclass
class Walked(Generic[T]):
    """The result of a walk: every node is in exactly one of the first three, or was never started."""

    done: dict[str, T] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    """By blocked node: the failed node that blocks it."""
    interrupted: bool = False


def walk(graph: Graph, visit: Callable[[str], T], *, workers: int, stop: threading.Event | None = None) -> Walked[T]:
    """Visits every node after its dependencies; see the module's text for failures and Ctrl-C."""
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    result: Walked[T] = Walked()
    running: dict[Future[T], str] = {}
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="walk") as pool:
        while sorter.is_active():
            for node in sorter.get_ready():
                if stop is not None and stop.is_set():
                    result.interrupted = True
                else:
                    running[pool.submit(visit, node)] = node
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                node = running.pop(future)
                error = future.exception()
                if error is None:
                    result.done[node] = future.result()
                    sorter.done(node)
                elif isinstance(error, Exception):
                    result.failed[node] = error
                else:
                    raise error
    _mark_blocked(graph, result)
    return result


def _mark_blocked(graph: Graph, result: Walked[T]) -> None:
    for node in TopologicalSorter(graph).static_order():
        for parent in sorted(graph[node]):
            culprit = parent if parent in result.failed else result.blocked.get(parent)
            if culprit and node not in result.done and node not in result.failed:
                result.blocked.setdefault(node, culprit)
