"""An engine without a model: it replies with the words of the question.

For tests that need ten thousand quick jobs or a reply that takes a known time; only `WORKER_ENGINE=echo` selects it.
A token is one byte, so that the code in front of it (template, limits, UTF-8, stop strings) works as with a model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from aistratus.worker.engine import ModelSpec, Sampling

BOS: Final = 256
EOS: Final = 257
CONTEXT_TOKENS: Final = 131_072


class EchoEngine:
    """Repeats the last question, byte by byte, `echo_delay_ms` after each other."""

    def __init__(self, spec: ModelSpec) -> None:
        self._context_tokens = spec.context_tokens or CONTEXT_TOKENS
        self._delay_s = spec.echo_delay_ms / 1000

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def bos(self) -> int | None:
        return BOS

    @property
    def eos(self) -> int:
        return EOS

    @property
    def description(self) -> dict[str, str | int]:
        return {"library": "none", "threads": 1, "vocabulary": EOS + 1}

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[bytes | None]:
        yield None
        for byte in self._question(prompt):
            if self._delay_s:
                time.sleep(self._delay_s)  # the pace that was asked for stands for a slow model, it waits for nothing
            yield bytes((byte,))

    def _question(self, prompt: Sequence[int]) -> bytes:
        """The text of the last user turn: between its header's line break and its end token."""
        end = len(prompt) - 1 - list(reversed(prompt)).index(EOS)
        turn = bytes(token for token in prompt[:end] if token < BOS)
        return turn.rpartition(b"<|user|>\n")[2]
