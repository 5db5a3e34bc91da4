"""A conversation as the tokens of a prompt that fits the model's context.

The template is TinyLlama-Chat's, which the demo model was trained on too: every turn is `<|role|>`, a line break, its
text and the end token. The end token is put in by its number and never by its spelling, so that a user who types
`</s>` ends nothing. The space that a llama vocabulary puts before each separately tokenized piece is left in place:
the tokenizer these models were trained with puts it there too.

What doesn't fit loses its oldest turns first. The system text and the last question always stay; when those alone
leave no room for a reply, the job fails with a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aistratus.wire import Turn
from aistratus.worker.engine import Engine
from aistratus.worker.text import clean

REPLY_ROOM: Final = 16
"""Tokens. A prompt that leaves less room than this (or than `max_tokens`) for its reply is refused."""


class PromptTooLong(ValueError):
    """The system text and the question alone fill the model's context."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Tokens to read, how many may be generated after them, and how many old turns were left out."""

    tokens: tuple[int, ...]
    max_tokens: int
    dropped_turns: int


def build_prompt(
    engine: Engine, *, system: str | None, history: Sequence[Turn], prompt: str, max_tokens: int
) -> Prompt:
    """The prompt for one reply.

    At most half the context is kept free for the reply at the cost of old turns; a shorter reply is allowed before
    the question itself is refused.

    Raises:
        PromptTooLong: what must stay doesn't fit.
    """
    head = _segment(engine, "system", system, first=True) if system else []
    turns = [_segment(engine, turn.role, turn.content) for turn in history]
    question = _segment(engine, "user", prompt) + engine.tokenize("\n<|assistant|>\n")
    begin = [] if engine.bos is None else [engine.bos]

    room = engine.context_tokens - len(begin) - len(head) - len(question)
    if room < min(max_tokens, REPLY_ROOM):
        raise PromptTooLong(
            f"the prompt has {len(begin) + len(head) + len(question)} tokens, "
            f"but the model's context holds {engine.context_tokens} for prompt and reply together"
        )
    reserved = min(max_tokens, room, engine.context_tokens // 2)
    first = _first_turn_that_fits(history, [len(turn) for turn in turns], room - reserved)
    kept = [token for turn in turns[first:] for token in turn]
    tokens = (*begin, *head, *kept, *question)
    return Prompt(tokens=tokens, max_tokens=min(max_tokens, engine.context_tokens - len(tokens)), dropped_turns=first)


def _segment(engine: Engine, role: str, content: str, *, first: bool = False) -> list[int]:
    lead = "" if first else "\n"
    return [*engine.tokenize(f"{lead}<|{role}|>\n{clean(content)}"), engine.eos]


def _first_turn_that_fits(history: Sequence[Turn], lengths: Sequence[int], room: int) -> int:
    """Index of the oldest turn to keep; a conversation never begins with the assistant's half of an exchange."""
    first, used = len(lengths), 0
    while first > 0 and used + lengths[first - 1] <= room:
        first -= 1
        used += lengths[first]
    while 0 < first < len(lengths) and history[first].role == "assistant":
        first += 1
    return first
