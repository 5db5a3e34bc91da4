"""A small language for writing many questions at once.

`(how do i|how to) {stop} (the|my|) gpu` stands for every choice of its alternatives; `{stop}` is a name of the
lexicon, whose entry is such a pattern again. A pattern can be drawn from (`sample`) and can be turned into a
regular expression over normalised questions (`to_regex`), which says whether it could ever produce one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_PIECE = re.compile(r"[(|)]|\{[a-z_]+\}|[^(|){}]+")
_NOT_WORD = re.compile(r"[^\w\s]+")


class PatternError(ValueError):
    """A pattern with unbalanced parentheses or an unknown name."""


@dataclass(frozen=True)
class _Choice:
    """One of several sequences; a sequence mixes literal text with further choices."""

    options: tuple[tuple[str | _Choice, ...], ...]

    @cached_property
    def count(self) -> int:
        """How many different texts it stands for (repeats counted)."""
        total = 0
        for option in self.options:
            product = 1
            for part in option:
                product *= 1 if isinstance(part, str) else part.count
            total += product
        return total

    def draw(self, rng: random.Random) -> str:
        return "".join(part if isinstance(part, str) else part.draw(rng) for part in rng.choice(self.options))

    def regex(self) -> str:
        return "(?:" + "|".join("".join(map(_part_regex, option)) for option in self.options) + ")"


def _part_regex(part: str | _Choice) -> str:
    if isinstance(part, _Choice):
        return part.regex()
    # Spaces become optional runs: an empty alternative leaves two of them beside each other.
    pieces = re.split(r"\s+", _NOT_WORD.sub("", part))
    return r"\s*".join(re.escape(piece) for piece in pieces)


@dataclass(frozen=True)
class Pattern:
    """A compiled pattern; `text` is how it was written."""

    text: str
    root: _Choice

    @property
    def count(self) -> int:
        return self.root.count

    def sample(self, rng: random.Random) -> str:
        """One of its texts, single-spaced."""
        return " ".join(self.root.draw(rng).split())

    def to_regex(self) -> str:
        """Matches, after `normalise` and with all spaces optional, every text that `sample` can give."""
        return self.root.regex()


def compile_pattern(text: str, lexicon: Mapping[str, str]) -> Pattern:
    """Reads a pattern.

    Raises:
        PatternError: parentheses don't balance, or a name is not in the lexicon.
    """
    pieces = _PIECE.findall(text)
    if "".join(pieces) != text:
        raise PatternError(f"stray brace in {text!r}")
    choice, rest = _read(pieces, 0, text, lexicon)
    if rest != len(pieces):
        raise PatternError(f"unbalanced parenthesis in {text!r}")
    return Pattern(text, choice)


def _read(pieces: list[str], at: int, text: str, lexicon: Mapping[str, str]) -> tuple[_Choice, int]:
    """Reads alternatives up to the closing parenthesis or the end; says where it stopped."""
    options: list[tuple[str | _Choice, ...]] = []
    parts: list[str | _Choice] = []
    while at < len(pieces) and pieces[at] != ")":
        piece = pieces[at]
        if piece == "(":
            inner, at = _read(pieces, at + 1, text, lexicon)
            if at >= len(pieces):
                raise PatternError(f"unbalanced parenthesis in {text!r}")
            parts.append(inner)
        elif piece == "|":
            options.append(tuple(parts))
            parts = []
        elif piece.startswith("{"):
            name = piece[1:-1]
            if name not in lexicon:
                raise PatternError(f"unknown name {piece} in {text!r}")
            parts.append(compile_pattern(lexicon[name], lexicon).root)
        else:
            parts.append(piece)
        at += 1
    options.append(tuple(parts))
    return _Choice(tuple(options)), at


def normalise(question: str) -> str:
    """Lower case, no punctuation, single spaces: two questions equal in this form are the same question."""
    return " ".join(_NOT_WORD.sub("", question.lower()).split())
