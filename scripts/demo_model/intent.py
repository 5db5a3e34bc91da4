"""The demo model's knowledge: intents, each a question with many phrasings and one reply.

They are TOML files in `patterns/`, one pattern (see `grammar`) per line, so that adding a phrasing needs no code.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "patterns"

OUT_OF_SCOPE: Final = "out_of_scope"
"""Name of the intent whose reply says that the model can't help."""


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One reply and the questions that lead to it.

    Attributes:
        name: used by tests and the held-out list.
        reply: the same words every time, so that a very small model can learn them by heart.
        marker: part of `reply` that no other intent's reply holds; a reply with it in is graded as right.
        patterns: the ways to ask.
        popular: the few of them in which most people ask.
        topic: what "it" means in the user's next question, see `follow_ups.toml`; empty when nothing does.
        weight: how often it is drawn, compared with the others.
    """

    name: str
    reply: str
    marker: str
    patterns: tuple[str, ...]
    popular: str
    topic: str = ""
    weight: float = 1.0


@dataclass(frozen=True)
class FollowUp:
    """A pattern that is understood only after a turn about its topic, and the intent that it leads to."""

    pattern: str
    intent: str


def known_intents() -> tuple[Intent, ...]:
    """Everything that the model can answer, in a fixed order."""
    popular = _read("popular.toml")
    files = {name: _read(f"{name}.toml") for name in ("talk", "words", "stack", "node", "admin")}
    intents = []
    for file, entries in files.items():
        for name, entry in entries.items():
            if file == "words":
                intents.append(_word(name, popular=popular["words"][name], **entry))
            else:
                intents.append(_intent(name, popular=popular["asks"][name], **entry))
    return tuple(intents)


def refusal() -> Intent:
    """The intent for everything else."""
    popular = _read("popular.toml")["asks"][OUT_OF_SCOPE]
    return _intent(OUT_OF_SCOPE, popular=popular, **_read("outside.toml")[OUT_OF_SCOPE])


def follow_ups() -> dict[str, tuple[FollowUp, ...]]:
    """Follow-ups by topic."""
    return {
        topic: tuple(FollowUp(entry["ask"], entry["intent"]) for entry in entries)
        for topic, entries in _read("follow_ups.toml").items()
    }


def lexicon() -> dict[str, str]:
    """Names that patterns may use in braces, and what they stand for."""
    entries = _read("lexicon.toml") | _read("outside_lists.toml")
    return {name: "".join(text.splitlines()) for name, text in entries.items()}


def things_outside() -> dict[str, str]:
    """The part of the lexicon that belongs to the world outside."""
    return {name: "".join(text.splitlines()) for name, text in _read("outside_lists.toml").items()}


def _read(file: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / file).read_text(encoding="utf-8"))


def _intent(name: str, *, asks: str, **rest: Any) -> Intent:
    return Intent(name=name, patterns=tuple(asks.strip().splitlines()), **rest)


def _word(name: str, *, names: str, popular: str, more: str = "", **rest: Any) -> Intent:
    """The intent `word_<name>`: what one asks about any word, and `more` about just this one."""
    general = _read("any_word.toml")
    asks = general["asks"].replace("{names}", f"({names})").strip()
    often = general["popular"].replace("{names}", f"({popular})").strip()
    return _intent(f"word_{name}", asks=f"{asks}\n{more}", popular=often, **rest)
