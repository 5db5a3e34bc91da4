"""Drift: the difference between desired and actual state, computed in one place, field by field.

A desired `None` means that the field isn't managed. Plain values compare by equality, IAM policies by meaning: order,
one-element lists, the spelling of an account's root and statement ids don't matter to IAM, so they don't matter here.
An `unordered` field compares as a set. A `one_of` field accepts any of its values, the first of which is used for a new
resource; an `at_least` field accepts any larger value. Of tags only ours are compared: others' tags are left alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aistratus.core.resource import UNKNOWN, Found, Resource

TAGS = "tags"


@dataclass(frozen=True)
class FieldChange:
    """One field's drift. For mappings `old` and `new` hold only the entries that differ."""

    field: str
    old: Any
    new: Any


def diff(want: Resource, have: Found, tags: Mapping[str, str], *, anew: bool = False) -> tuple[FieldChange, ...]:
    """The changes that turn `have` into `want`.

    Args:
        want: the resource with its `Ref`s resolved.
        have: what was found.
        tags: the tags it must carry; not compared for kinds that carry none.
        anew: of a field `one_of` only the first value will do.
    """
    changes = []
    for entry in dataclasses.fields(want):
        wanted, found = getattr(want, entry.name), getattr(have.state, entry.name)
        if entry.name == "key" or wanted is None or entry.metadata.get("compare") == "at-create":
            continue
        if entry.metadata.get("compare") == "one-of":
            if found is None or found[0] not in wanted[: 1 if anew else None]:
                changes.append(FieldChange(entry.name, found, wanted[:1]))
        elif not _same(wanted, found, entry.metadata.get("compare")):
            changes.append(FieldChange(entry.name, *_narrow(wanted, found)))
    if have.tags is not None:
        wrong = {name: value for name, value in tags.items() if have.tags.get(name) != value}
        if wrong:
            changes.append(FieldChange(TAGS, {name: have.tags.get(name) for name in wrong}, wrong))
    return tuple(changes)


def _same(wanted: Any, found: Any, how: str | None) -> bool:
    if wanted is UNKNOWN:
        return False
    if how == "policy":
        return found is not None and bool(_policies(wanted) == _policies(found))
    if how == "set":
        return found is not None and frozenset(wanted) == frozenset(found)
    if how == "at-least":
        return found is not None and bool(wanted <= found)
    return bool(wanted == found)


def _narrow(wanted: Any, found: Any) -> tuple[Any, Any]:
    """Old and new value; of two mappings only the entries that differ."""
    if not (isinstance(wanted, Mapping) and isinstance(found, Mapping)):
        return found, wanted
    names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    return {name: found.get(name) for name in names}, {name: wanted.get(name) for name in names}


# --- IAM policies by meaning ------------------------------------------------------------------------


def _policies(value: Any) -> Any:
    """A policy, or a mapping of names to policies, in a canonical form: equal meaning compares equal."""
    if isinstance(value, Mapping) and "Statement" not in value:
        return {name: canonical_policy(document) for name, document in value.items()}
    return canonical_policy(value)


def canonical_policy(document: Any) -> Any:
    """An IAM policy document (mapping or JSON text) in canonical form, without what IAM ignores.

    Source: the IAM user guide's policy grammar: statements are a set; `Action`, `Resource` and condition values are
    sets that may be written as a single string; actions don't distinguish case; `Sid` and `Id` are labels.
    """
    if isinstance(document, str):
        document = json.loads(document)
    if not isinstance(document, Mapping):
        return document
    statements = document.get("Statement", [])
    statements = [statements] if isinstance(statements, Mapping) else statements
    return {
        "Version": document.get("Version", "2008-10-17"),
        "Statement": sorted((_statement(entry) for entry in statements), key=repr),
    }


def _statement(statement: Mapping[str, Any]) -> dict[str, Any]:
    canonical: dict[str, Any] = {}
    for name, value in sorted(statement.items()):
        if name == "Sid":
            continue
        if name in ("Action", "NotAction"):
            canonical[name] = sorted({str(entry).lower() for entry in _many(value)})
        elif name in ("Resource", "NotResource"):
            canonical[name] = sorted({str(entry) for entry in _many(value)})
        elif name in ("Principal", "NotPrincipal"):
            canonical[name] = _principal(value)
        elif name == "Condition":
            canonical[name] = {
                operator: {
                    key.lower(): sorted(_text(entry) for entry in _many(entries)) for key, entries in tests.items()
                }
                for operator, tests in sorted(value.items())
            }
        else:
            canonical[name] = value
    return canonical


def _principal(value: Any) -> Any:
    if value == "*":
        return {"AWS": ["*"]}
    return {kind: sorted({_root(str(entry)) for entry in _many(entries)}) for kind, entries in sorted(value.items())}


def _root(principal: str) -> str:
    """An account id as IAM returns it: the ARN of that account's root."""
    return f"arn:aws:iam::{principal}:root" if principal.isdigit() and len(principal) == 12 else principal


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
