"""The return type of each group: its resources, declared from settings, names and earlier groups."""

from __future__ import annotations

from dataclasses import dataclass

from aistratus.core.resource import Resource


@dataclass(frozen=True, kw_only=True)
class Group:
    """One group of the stack. Where later groups refer to some of its resources, a subclass names these."""

    wanted: tuple[Resource, ...]
    """In reading order."""
    unwanted: tuple[Resource, ...] = ()
    """What the settings have switched off."""
