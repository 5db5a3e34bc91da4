"""A conversation: its id, what was said, and how much of that fits into the next request.

The API keeps no memory of a conversation: the client sends it along. The oldest exchanges go first when the limits
of the wire are reached, in number, in characters, or in bytes.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from aistratus import wire
from aistratus.client.request import InferRequest, Turn

HISTORY_BYTES: Final = 65_536
"""Of history in a body; leaves the rest of `wire.BODY_BYTES` to the prompt and the system text, and keeps a message
of other scripts below what the queue takes, where a character can need six bytes."""


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Conversation:
    """What was said so far, in pairs of prompt and reply."""

    id: str = field(default_factory=_new_id)
    exchanges: tuple[tuple[str, str], ...] = ()

    def with_exchange(self, prompt: str, reply: str) -> Conversation:
        """The conversation one exchange later."""
        return Conversation(self.id, (*self.exchanges, (prompt, reply)))

    def history(self) -> tuple[Turn, ...]:
        """The latest exchanges that fit into a request, oldest first; one without a reply is left out."""
        turns: list[Turn] = []
        chars = size = 0
        for prompt, reply in reversed([(_sendable(asked), _sendable(told)) for asked, told in self.exchanges]):
            if not prompt or not reply:
                continue
            chars += len(prompt) + len(reply)
            size += len(json.dumps([prompt, reply]))
            if len(turns) + 2 > wire.HISTORY_TURNS or chars > wire.HISTORY_CHARS or size > HISTORY_BYTES:
                break
            turns[:0] = (Turn(role="user", content=prompt), Turn(role="assistant", content=reply))
        return tuple(turns)

    def ask(self, prompt: str, **options: Any) -> InferRequest:
        """The next request.

        Args:
            options: further fields of `InferRequest`.

        Raises:
            pydantic.ValidationError: a field is wrong.
        """
        return InferRequest(prompt=prompt, conversation=self.id, history=self.history(), **options)


def _sendable(text: str) -> str:
    """Without what a request refuses: NUL, and half a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
