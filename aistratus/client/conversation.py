"""A conversation: its id, what was said, and how much of that fits into the next request.

The API doesn't store conversations: the client sends the history with each request. The oldest exchanges are dropped
when the limits of the request are reached (number, characters, bytes) or the model's context window is full. The window
is measured in tokens, which only the model can count: the client estimates characters per token from the replies, and
the worker drops more turns if it must.
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
"""Most bytes of history in a body. It leaves the rest of `wire.BODY_BYTES` to the prompt and the system text, and keeps
a message of non-Latin text, where a character can take six bytes, below the queue's limit."""

CHARS_PER_TOKEN: Final = 4.0
"""Characters per token until replies give a better estimate: about right for English in most vocabularies."""

LARGEST_WINDOW: Final = 2048
"""The window (tokens) where the settings leave it to the model's file: the worker uses no more."""


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Window:
    """How much text fits the model's context window.

    Args:
        tokens: of prompt and reply together.
        chars_per_token: as the replies so far have shown.
    """

    tokens: int = LARGEST_WINDOW
    chars_per_token: float = CHARS_PER_TOKEN

    def history_chars(self, prompt: str, system: str | None, max_tokens: int) -> int:
        """Characters left for history besides the question and its reply.

        The worker does the same with real tokens: at most half the window is kept free for the reply.
        """
        question = len(prompt) + len(system or "")
        return max(0, int((self.tokens - min(max_tokens, self.tokens // 2)) * self.chars_per_token) - question)

    def learned(self, chars: int, tokens: int) -> Window:
        """The estimate after a reply whose prompt of `chars` characters had `tokens` tokens; ignores short ones."""
        if tokens < 64 or chars < tokens:
            return self
        return replace(self, chars_per_token=chars / tokens)


@dataclass(frozen=True)
class Conversation:
    """The exchanges so far, pairs of prompt and reply."""

    id: str = field(default_factory=_new_id)
    exchanges: tuple[tuple[str, str], ...] = ()

    def with_exchange(self, prompt: str, reply: str) -> Conversation:
        """The conversation with one more exchange; exchanges that no request could carry any more are dropped."""
        return Conversation(self.id, (*self.exchanges, (prompt, reply))[-wire.HISTORY_TURNS :])

    def without_last(self) -> Conversation:
        """The conversation without its last exchange."""
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
        """The number of exchanges that are in the conversation but not in the next request."""
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
    """Characters of everything that the model reads for it."""
    return _total([request.prompt, request.system or "", *(turn.content for turn in request.history)])


def _total(texts: Iterable[str]) -> int:
    return sum(map(len, texts))


def _sendable(text: str) -> str:
    """The text without the characters that a request refuses: NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
