"""Questions outside all patterns, without an answer: invented words, random keys, lists of nouns, long texts."""

from __future__ import annotations

import random
from typing import Final

from demo_model.grammar import Pattern
from demo_model.intent import things_outside

_SYLLABLES: Final = (
    "ba",
    "be",
    "bi",
    "bo",
    "bu",
    "da",
    "de",
    "di",
    "do",
    "du",
    "fa",
    "fe",
    "fi",
    "fo",
    "fu",
    "ga",
    "ge",
    "gi",
    "go",
    "ka",
    "ke",
    "ki",
    "ko",
    "la",
    "le",
    "li",
    "lo",
    "lu",
    "ma",
    "me",
    "mi",
    "mo",
    "mu",
    "na",
    "ne",
    "ni",
    "no",
    "pa",
    "pe",
    "pi",
    "po",
    "qua",
    "ra",
    "re",
    "ri",
    "ro",
    "ru",
    "sa",
    "se",
    "si",
    "so",
    "su",
    "ta",
    "te",
    "ti",
    "to",
    "tu",
    "va",
    "ve",
    "vi",
    "vo",
    "wa",
    "we",
    "xa",
    "xi",
    "ya",
    "yo",
    "za",
    "ze",
    "zo",
    "sch",
    "tra",
    "bra",
    "kro",
    "plu",
    "sny",
    "gle",
    "dro",
    "fri",
)
_KEYS: Final = "asdfghjklqwertyuiopzxcvbnm"
_FRAMES: Final = (
    "what is {}",
    "what is a {}",
    "explain {}",
    "who is {}",
    "how do i {} my {}",
    "what does {} mean",
    "{} {}",
    "tell me about {}",
    "{} {} {}",
    "where is {}",
    "can you {} the {}",
    "define {}",
    "why is {} so {}",
    "{}",
    "show me {}",
    "what about {}",
    "i want to {} a {}",
    "stop {}",
    "start the {}",
)
_HEAPS: Final = ("food", "animal", "science", "person", "city", "buy", "project", "hobby", "media")


class Nonsense:
    """Draws such questions; `sentences` are the patterns that long texts are put together from."""

    def __init__(self, sentences: tuple[Pattern, ...]) -> None:
        self._sentences = sentences
        lists = things_outside()
        self._nouns = [word for name in _HEAPS for word in lists[name].strip("()").split("|") if "{" not in word]

    def question(self, rng: random.Random) -> str:
        """Something short."""
        kind = rng.random()
        if kind < 0.45:
            frame = rng.choice(_FRAMES)
            words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))) for _ in range(frame.count("{}"))]
            return frame.format(*words)
        if kind < 0.65:
            return " ".join("".join(rng.choices(_KEYS, k=rng.randint(2, 9))) for _ in range(rng.randint(1, 4)))
        return " ".join(rng.choice(self._nouns) for _ in range(rng.randint(1, 5)))

    def page(self, rng: random.Random) -> str:
        """Several sentences, as if somebody had pasted a page."""
        return ". ".join(rng.choice(self._sentences).sample(rng) for _ in range(rng.randint(3, 9))) + "."
