"""A conversation: its id, what was said, and how much of that fits into the next request.

The API keeps no memory of a conversation: the client sends it along. The oldest exchanges go first when the limits
of the wire are reached, in number, in characters, or in bytes, or when the model's window is full. The window is in
tokens, which only the model can count: how many characters make one is learned from its replies, and the worker has
the last word.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aistratus import wire
from aistratus.client.request import InferRequest, Turn

HISTORY_BYTES: Final = 65_536
"""Of history in a body; leaves the rest of `wire.BODY_BYTES` to the prompt and the system text, and keeps a message
of other scripts below what the queue takes, where a character can need six bytes."""

CHARS_PER_TOKEN: Final = 4.0
"""Until a reply has told better: English in most vocabularies has about as many."""

LARGEST_WINDOW: Final = 2048
"""Tokens, where the settings leave the window to the model's file: the worker uses no more."""


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Window:
    """How much text the model can look at.

    Args:
        tokens: of prompt and reply together.
        chars_per_token: as the replies so far have shown.
    """

    tokens: int = LARGEST_WINDOW
    chars_per_token: float = CHARS_PER_TOKEN

    def history_chars(self, prompt: str, system: str | None, max_tokens: int) -> int:
        """Characters that are left to history beside the question and its reply.

        The worker does the same with real tokens: at most half the window is kept free for the reply.
        """
        question = len(prompt) + len(system or "")
        return max(0, int((self.tokens - min(max_tokens, self.tokens // 2)) * self.chars_per_token) - question)

    def learned(self, chars: int, tokens: int) -> Window:
        """After a reply to `chars` characters whose prompt had so many tokens; short ones say little."""
        if tokens < 64 or chars < tokens:
            return self
        return replace(self, chars_per_token=chars / tokens)


@dataclass(frozen=True)
class Conversation:
    """What was said so far, in pairs of prompt and reply."""

    id: str = field(default_factory=_new_id)
    exchanges: tuple[tuple[str, str], ...] = ()

    def with_exchange(self, prompt: str, reply: str) -> Conversation:
        """The conversation one exchange later; those that no request could carry any more aren't kept here."""
        return Conversation(self.id, (*self.exchanges, (prompt, reply))[-wire.HISTORY_TURNS :])

    def without_last(self) -> Conversation:
        """The conversation one exchange earlier."""
        return Conversation(self.id, self.exchanges[:-1])

    def history(self, most_chars: int = wire.HISTORY_CHARS) -> tuple[Turn, ...]:
        """The latest exchanges that fit into a request, oldest first; one without a reply is left out."""
        turns: list[Turn] = []
        chars = size = 0
        for prompt, reply in reversed(self._said()):
            chars += len(prompt) + len(reply)
            size += len(json.dumps([prompt, reply]))
            if (
                len(turns) + 2 > wire.HISTORY_TURNS
                or chars > min(most_chars, wire.HISTORY_CHARS)
                or size > HISTORY_BYTES
            ):
                break
            turns[:0] = (Turn(role="user", content=prompt), Turn(role="assistant", content=reply))
        return tuple(turns)

    def left_out(self, history: tuple[Turn, ...]) -> int:
        """How many exchanges are in the conversation but not in what goes along."""
        return len(self._said()) - len(history) // 2

    def ask(self, prompt: str, *, window: Window | None = None, **options: Any) -> InferRequest:
        """The next request.

        Args:
            window: the model's; without it only the wire's limits count.
            options: further fields of `InferRequest`.

        Raises:
            pydantic.ValidationError: a field is wrong.
        """
        history = self.history()
        if window is not None:
            reserve = int(options.get("max_tokens") or InferRequest.model_fields["max_tokens"].default)
            history = self.history(window.history_chars(prompt, options.get("system"), reserve))
        return InferRequest(prompt=prompt, conversation=self.id, history=history, **options)

    def _said(self) -> list[tuple[str, str]]:
        pairs = [(_sendable(asked), _sendable(told)) for asked, told in self.exchanges]
        return [(asked, told) for asked, told in pairs if asked and told]


def chars_in(request: InferRequest) -> int:
    """Of everything that the model reads for it."""
    return _total([request.prompt, request.system or "", *(turn.content for turn in request.history)])


def _total(texts: Iterable[str]) -> int:
    return sum(map(len, texts))


def _sendable(text: str) -> str:
    """Without what a request refuses: NUL, and half a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
