"""Replaces control characters in a model's text before it reaches the terminal."""

from __future__ import annotations

import re
from typing import Final

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters except line breaks and tabs, and the marks that change the direction of text."""


def clean(text: str) -> str:
    """The text without control characters, by which a reply could write to the clipboard or move the cursor."""
    return _CONTROL.sub(lambda found: _shown(found[0]), text)


def _shown(character: str) -> str:
    if character == "\r":
        return ""
    return chr(0x2400 + ord(character)) if character < " " else "\N{REPLACEMENT CHARACTER}"
