"""The ledger: the ids of each resource, by key. It is a cache of the actual state, never the state itself.

Each resource's ids are kept in one parameter, `/tinyllama/<env>/<key>`, as a JSON object, written right after the
resource was ensured. Other programs (the router, CI, a second laptop) read ids there without asking every service. A
lost or wrong ledger costs time and never causes a duplicate: everything is found again by name or tags, and the ledger
is rewritten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Parameter:
    """A stored value; each write increments `version`."""

    value: str
    version: int


class Store(Protocol):
    """The ledger's parameter store. Names are absolute paths."""

    def get(self, names: Iterable[str]) -> Mapping[str, Parameter]:
        """The parameters that exist among `names`, secrets decrypted."""

    def create(self, name: str, value: str, *, key: str, secret: bool = False) -> bool:
        """Creates a parameter tagged as ours with `key`; False if the name exists already."""

    def overwrite(self, name: str, value: str) -> int:
        """Replaces an existing parameter's value and returns the new version."""

    def delete(self, names: Iterable[str]) -> None:
        """Deletes the parameters that exist among `names`."""

    def below(self, prefix: str) -> list[str]:
        """All names under `prefix`."""


class Ledger:
    """Ids by resource key, kept in a `Store` under `prefix`."""

    def __init__(self, store: Store, prefix: str) -> None:
        self.store = store
        self.prefix = prefix

    def name(self, key: str) -> str:
        """The parameter's name."""
        return f"{self.prefix}/{key}"

    def read(self, keys: Iterable[str]) -> dict[str, dict[str, str]]:
        """Recorded ids by key; keys without a (readable) record are left out."""
        names = {self.name(key): key for key in keys}
        found = self.store.get(names)
        records = {names[name]: _ids(parameter.value) for name, parameter in found.items()}
        return {key: ids for key, ids in records.items() if ids is not None}

    def record(self, key: str, ids: Mapping[str, str], *, known: bool) -> None:
        """Writes the ids of one resource. `known`: whether it probably has a record already, which saves a call."""
        value = json.dumps(dict(ids), sort_keys=True)
        if known or not self.store.create(self.name(key), value, key=key):
            self.store.overwrite(self.name(key), value)

    def forget(self, keys: Iterable[str]) -> None:
        """Removes records."""
        self.store.delete([self.name(key) for key in keys])

    def secret(self, key: str, make: Callable[[], str]) -> str:
        """A secret value of this env, generated and stored encrypted if it doesn't exist yet."""
        name = self.name(key)
        if name not in (found := self.store.get([name])):
            self.store.create(name, make(), key=key, secret=True)
            found = self.store.get([name])
        return found[name].value

    def everything(self) -> list[str]:
        """The names of all parameters of this env."""
        return self.store.below(self.prefix)


def _ids(value: str) -> dict[str, str] | None:
    """The ids in a record; `None` for any other content."""
    try:
        ids = json.loads(value)
    except ValueError:
        return None
    return {str(name): str(entry) for name, entry in ids.items()} if isinstance(ids, dict) else None
