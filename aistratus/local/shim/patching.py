"""The two ways in which moto is changed: a method is wrapped, or one that it lacks is added.

Both look first: wrapping what isn't there, or adding what is, means that moto has changed beneath the shim, and
the start fails with the name instead of a patch that silently does nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

Method = Callable[..., Any]


class MotoChanged(RuntimeError):
    """moto doesn't look as the shim expects; its version is pinned in pyproject.toml for this reason."""


def wrap(owner: Any, name: str) -> Callable[[Method], Method]:
    """Decorator: `owner.name(...)` becomes `function(original, ...)`."""
    original = getattr(owner, name, None)
    if original is None:
        raise MotoChanged(f"{owner!r} has no {name} to patch")

    def install(function: Method) -> Method:
        @functools.wraps(original)
        def patched(*args: Any, **kwargs: Any) -> Any:
            return function(original, *args, **kwargs)

        setattr(owner, name, patched)
        return function

    return install


def add(owner: Any, name: str | None = None) -> Callable[[Method], Method]:
    """Decorator: gives `owner` a method that it lacks, under the function's name unless told otherwise."""

    def install(function: Method) -> Method:
        wanted = name or function.__name__
        if hasattr(owner, wanted):
            raise MotoChanged(f"{owner!r} has {wanted} by now")
        setattr(owner, wanted, function)
        return function

    return install


def add_path(paths: dict[str, Any], path: str, handler: Any) -> None:
    """Adds a URL to a service's `url_paths`, in moto's own notation; first ones win, so it must be new."""
    if path in paths:
        raise MotoChanged(f"moto serves {path} by now")
    paths[path] = handler
