"""The interface of an inference engine.

An engine turns text into tokens and tokens into more tokens, nothing else: the chat template, the limits of the
context, stop strings and UTF-8 belong to the code in front of it and are the same for every engine. ctransformers is
the default engine; another one needs a class with these few methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

CTRANSFORMERS: Final = "ctransformers"
ECHO: Final = "echo"
ENGINES: Final = (CTRANSFORMERS, ECHO)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen.

    `temperature` 0 takes the likeliest token. `seed` makes the choice repeatable: the same prompt, sampling and
    model give the same tokens.
    """

    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which model to load, and how.

    `sha256` empty means unchecked; `context_tokens` 0 means the file's own, capped; `threads` 0 means chosen for
    this machine; `checked` says that this very file has passed the pre-flight already, so that a restart is quick;
    `memory` is what weights and context may have in bytes, 0 means as much as the machine has free.
    """

    engine: str
    path: str
    sha256: str = ""
    context_tokens: int = 0
    threads: int = 0
    gpu_layers: int = 0
    echo_delay_ms: int = 0
    checked: bool = False
    memory: int = 0


class EngineError(RuntimeError):
    """The engine refused or failed; the message is one sentence without any text of the prompt."""


class Engine(Protocol):
    """One loaded model. Calls come from one thread at a time."""

    @property
    def context_tokens(self) -> int:
        """Prompt and reply together, in tokens; never exceeded by the caller."""

    @property
    def bos(self) -> int | None:
        """Token that begins every prompt, if the model has one."""

    @property
    def eos(self) -> int:
        """Token that ends a turn."""

    @property
    def description(self) -> dict[str, str | int]:
        """For the log: library, threads and the like; `gpu`, if it is so, for the heartbeat too."""

    def tokenize(self, text: str) -> list[int]:
        """The tokens of any text, never a control token, whatever the text spells."""

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[bytes | None]:
        """The bytes of one token after the other until the model ends its turn; None while the prompt is read.

        A prefix shared with the call before need not be read again.
        """
