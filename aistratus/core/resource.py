"""A resource kind: a frozen dataclass that declares the desired state, and the four functions of its reconciler.

    find(aws, want)                  -> Found | None    the actual state, as the same dataclass plus ids
    ensure(aws, want, have, changes) -> Found           create it, or repair just the fields named in `changes`
    remove(aws, have)                                   remove it; already gone is fine
    owned(aws)                       -> [Found]         everything of this kind that is ours, whatever its key

They are the only code that makes provisioning calls for that kind. Everything else (order, drift, plan, parallel walk,
teardown, sweep) is generic and reads nothing but the dataclass.

`None` in a field means "not managed". A field that holds a `Ref` stands for another resource's output and is the only
way to declare a dependency: no order is kept by hand.

`find` runs for all resources at once, before anything is known of their parents, so its `want` still holds `Ref`s, and
it searches by name, by tags and by recorded ids. Only the service's not-found error means absent; every other error is
raised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final


class Unknown:
    """The value of a `Ref` whose resource doesn't exist yet."""

    def __repr__(self) -> str:
        return "(known after up)"


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Ref:
    """Another resource's output: `Ref(queue, "arn")`. Written in a field, it is also an edge of the graph."""

    to: Resource
    attr: str = "id"

    def __repr__(self) -> str:
        return f"{self.to.key}.{self.attr}"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Base of all kinds. `key` is the name in the ledger and in the tag `aistratus:key`, unique within a stack."""

    key: str
    after: tuple[Ref, ...] = field(default=(), metadata={"compare": "at-create"})
    """Dependencies that no other field names."""

    replace_on: ClassVar[frozenset[str]] = frozenset()
    """Fields that can only change by replacing the resource (needs `--replace`)."""
    holds_data: ClassVar[bool] = False
    """Kept by `down --keep-data`."""

    @property
    def kind(self) -> str:
        """The kind's name in output: the class's name."""
        return type(self).__name__

    def wanted(self) -> Iterator[tuple[str, Any]]:
        """Name and value of every managed field, `key` left out."""
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if entry.name != "key" and value is not None:
                yield entry.name, value

    def refs(self) -> Iterator[Ref]:
        """Every `Ref` in the fields, also inside tuples and mappings."""
        for _, value in self.wanted():
            yield from _refs(value)

    def resolve(self, outputs: Mapping[str, Mapping[str, str]]) -> Any:
        """The resource with each `Ref` replaced by the id that it stands for, or by `UNKNOWN`.

        Args:
            outputs: ids by resource key.
        """
        resolved = {name: _resolve(value, outputs) for name, value in self.wanted()}
        return dataclasses.replace(self, **resolved)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The actual state of a resource.

    state: the same dataclass as was wanted, with real ids in place of `Ref`s; `None` in a field that can't be read.
    ids: what other resources and the ledger need (`id`, `arn`, `url`, `name` …).
    tags: all its tags; `None` for a kind that carries none (it belongs to its parent then).
    health: `ok`, or one word for people: `starting`, `stopped`, `failed` …
    todo: what a person has to do about it, where only a person can; a sentence without a full stop.
    adopted: somebody else's that we only use: never changed, never removed, never counted as ours.
    """

    state: Resource
    ids: Mapping[str, str]
    tags: Mapping[str, str] | None = None
    health: str = "ok"
    todo: str = ""
    adopted: bool = False

    @property
    def id(self) -> str:
        """The id that users know it by."""
        return self.ids.get("id") or next(iter(self.ids.values()), "")


Find = Callable[[Any, Any], Found | None]
Ensure = Callable[[Any, Any, Found | None, frozenset[str]], Found]
Remove = Callable[[Any, Found], None]
Owned = Callable[[Any], list[Found]]


@dataclass(frozen=True)
class Reconciler:
    """The four functions of a kind."""

    find: Find
    ensure: Ensure
    remove: Remove
    owned: Owned | None


_RECONCILERS: dict[type[Resource], Reconciler] = {}


def reconciles(
    kind: type[Resource], *, find: Find, remove: Remove, owned: Owned | None = None
) -> Callable[[Ensure], Ensure]:
    """Registers the decorated `ensure` function and its companions for `kind`.

    `owned` is left out only by kinds that live and die with their parent (a route with its API): a sweep reaches them
    through the parent.
    """

    def register(ensure: Ensure) -> Ensure:
        _RECONCILERS[kind] = Reconciler(find, ensure, remove, owned)
        return ensure

    return register


def reconciler(resource: Resource) -> Reconciler:
    """The functions of this resource's kind."""
    return _RECONCILERS[type(resource)]


def kinds() -> Mapping[type[Resource], Reconciler]:
    """Every kind that has been declared by an imported module."""
    return dict(_RECONCILERS)


def policy_document(**options: Any) -> Any:
    """A dataclass field that holds an IAM policy (or a mapping of names to policies), compared by meaning."""
    return field(metadata={"compare": "policy"}, **options)


def unordered(**options: Any) -> Any:
    """A dataclass field that holds a tuple (also of `Ref`s) whose order and repetitions mean nothing."""
    return field(metadata={"compare": "set"}, **options)


def one_of(**options: Any) -> Any:
    """A dataclass field that holds a tuple of acceptable values; a new resource is created with the first.

    What was found holds just one. It stays as it is while that is among them; `up --replace` goes back to the first.
    """
    return field(metadata={"compare": "one-of"}, **options)


def at_least(**options: Any) -> Any:
    """A dataclass field with a number that can only grow: a larger found value is accepted."""
    return field(metadata={"compare": "at-least"}, **options)


def at_create(**options: Any) -> Any:
    """A dataclass field that only matters when the resource is created; later differences aren't drift."""
    return field(metadata={"compare": "at-create"}, **options)


def _refs(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _refs(entry)
    elif isinstance(value, (tuple, list, frozenset)):
        for entry in value:
            yield from _refs(entry)


def _resolve(value: Any, outputs: Mapping[str, Mapping[str, str]]) -> Any:
    if isinstance(value, Ref):
        return outputs.get(value.to.key, {}).get(value.attr, UNKNOWN)
    if isinstance(value, Mapping):
        return {name: _resolve(entry, outputs) for name, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(_resolve(entry, outputs) for entry in value)
    if isinstance(value, (list, frozenset)):
        return type(value)(_resolve(entry, outputs) for entry in value)
    return value
