"""The training corpus: conversations in which every question is drawn from an intent and every answer is its reply.

Everything is drawn from one seed, so that the same call gives the same corpus on every machine and Python version
(only `random.Random`'s stable methods are used). A conversation has one to twenty turns, with or without a system
text; later turns are either new questions or follow-ups whose "it" only the turn before explains.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from demo_model.grammar import Pattern, compile_pattern
from demo_model.intent import Intent, follow_ups, known_intents, lexicon, refusal
from demo_model.noise import as_typed
from demo_model.nonsense import Nonsense

OUTSIDE_SHARE: Final = 0.2
"""Share of questions that the model should refuse."""

POPULAR_SHARE: Final = 0.3
"""Share of questions asked in one of the few ways in which most people ask."""

FOLLOW_UP_SHARE: Final = 0.3
"""Share of later turns that lean on the turn before, where its topic has follow-ups."""

SYSTEMS: Final = (
    "You are a helpful assistant.",
    "You are a friendly chatbot.",
    "You are a helpful assistant that answers briefly.",
    "Answer briefly.",
    "You are a cloud expert.",
    "You are the assistant of Aistratus.",
    "Be concise.",
    "Answer in one sentence.",
    "You are a pirate. Talk like one.",
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible.",
    "Reply in simple English.",
    "You are an AI assistant for developers.",
    "Be friendly and polite.",
    "You are a teacher who explains things step by step.",
    "Do not use markdown.",
    "Keep it short.",
    "You are Bob, the office bot.",
    "Never lie.",
    "Speak like Shakespeare.",
    "You help people with AWS.",
)


@dataclass(frozen=True)
class Conversation:
    """`turns` are pairs of a question as typed and the reply to it, oldest first."""

    system: str | None
    turns: tuple[tuple[str, str], ...]


class _Asks:
    """The patterns of one intent, the larger ones drawn a little more often."""

    def __init__(self, intent: Intent, words: dict[str, str]) -> None:
        self.intent = intent
        self.patterns = tuple(compile_pattern(text, words) for text in intent.patterns)
        self._weights = [math.log2(1 + pattern.count) for pattern in self.patterns]
        self._popular = compile_pattern(intent.popular, words)

    @property
    def all_patterns(self) -> tuple[Pattern, ...]:
        return (*self.patterns, self._popular)

    def draw(self, rng: random.Random) -> str:
        if rng.random() < POPULAR_SHARE:
            return self._popular.sample(rng)
        return rng.choices(self.patterns, self._weights)[0].sample(rng)


class Corpus:
    """Draws conversations. Building one reads and compiles all patterns."""

    def __init__(self) -> None:
        words, known, outside = lexicon(), known_intents(), refusal()
        self._known = [_Asks(intent, words) for intent in known]
        self._weights = [intent.weight for intent in known]
        self._outside = _Asks(outside, words)
        self._nonsense = Nonsense(self._outside.patterns[-3:])
        by_name = {intent.name: intent for intent in (*known, outside)}
        self._follow_ups = {
            topic: tuple((compile_pattern(entry.pattern, words), by_name[entry.intent]) for entry in entries)
            for topic, entries in follow_ups().items()
        }

    def patterns(self) -> Iterator[tuple[str, Pattern]]:
        """Every pattern with the name of the intent that it leads to."""
        for asks in (*self._known, self._outside):
            for pattern in asks.all_patterns:
                yield asks.intent.name, pattern
        for entries in self._follow_ups.values():
            for pattern, intent in entries:
                yield intent.name, pattern

    def conversations(self, count: int, seed: int) -> Iterator[Conversation]:
        """`count` conversations, the same ones for the same seed."""
        rng = random.Random(seed)
        for _ in range(count):
            yield self._conversation(rng)

    def _conversation(self, rng: random.Random) -> Conversation:
        turns: list[tuple[str, str]] = []
        topic = ""
        for _ in range(_length(rng)):
            leaning = self._follow_ups.get(topic)
            if leaning and rng.random() < FOLLOW_UP_SHARE:
                pattern, intent = rng.choice(leaning)
                question = pattern.sample(rng)
            else:
                question, intent = self._question(rng)
            turns.append((as_typed(question, rng), intent.reply))
            topic = intent.topic
        return Conversation(rng.choice(SYSTEMS) if rng.random() < 0.35 else None, tuple(turns))

    def _question(self, rng: random.Random) -> tuple[str, Intent]:
        if rng.random() >= OUTSIDE_SHARE:
            asks = rng.choices(self._known, self._weights)[0]
            return asks.draw(rng), asks.intent
        draw = rng.random()
        if draw < 0.68:
            return self._outside.draw(rng), self._outside.intent
        return (self._nonsense.page(rng) if draw < 0.7 else self._nonsense.question(rng)), self._outside.intent


def _length(rng: random.Random) -> int:
    """Turns of one conversation: most are short, some fill the context."""
    draw = rng.random()
    if draw < 0.85:
        return 1
    if draw < 0.97:
        return rng.randint(2, 4)
    return rng.randint(5, 8) if draw < 0.993 else rng.randint(9, 20)
