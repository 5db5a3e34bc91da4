"""ctransformers 0.2.27 behind the Engine interface.

The library is fast and has sharp edges, and only its low-level calls avoid them: its own `tokenize` overflows the
heap on text with many bytes a character, its own loop applies one seed to every token, nothing in it stops at the
context's end, and an out-of-range token ends the process. So this class keeps the context's tokens itself, hands
the tokenizer a buffer that is surely large enough, and mixes the seed with the position, so that a second attempt
writes the same text again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ctypes import c_int
from pathlib import Path
from typing import Any, Final

from aistratus.worker.engine import EngineError, ModelSpec, Sampling
from aistratus.worker.gpu import holds_gpu
from aistratus.worker.preflight import available_memory, capped, check_model
from aistratus.worker.processor import library, threads
from aistratus.worker.text import clean

BATCH: Final = 32
"""Prompt tokens read at a time; between two batches the caller can stop."""

TOP_K: Final = 40
"""Tokens considered at each step before `top_p`; the library's own default."""

NO_PENALTY: Final = 1.0


class CtransformersEngine:
    """One GGUF model in this process.

    Raises:
        ModelRefused: the pre-flight check refuses the file.
        EngineError: the library can't load it.
    """

    def __init__(self, spec: ModelSpec) -> None:
        facts = check_model(
            Path(spec.path),
            sha256=spec.sha256,
            context_tokens=spec.context_tokens,
            checked=spec.checked,
            memory=capped(available_memory(), spec.memory),
        )
        self._facts = facts
        self._threads = spec.threads or threads(facts.size)
        self._library = library(spec.gpu_layers)
        self._llm = _load(spec, facts.context_tokens, self._threads, self._library)
        self._gpu = spec.gpu_layers > 0 and holds_gpu()
        self._detokenize = self._llm.ctransformers_llm_detokenize
        self._context: list[int] = []
        self._spelled = {number: self._spell(text) for number, text in facts.control.items()}

    @property
    def context_tokens(self) -> int:
        return self._facts.context_tokens

    @property
    def bos(self) -> int | None:
        return self._facts.bos

    @property
    def eos(self) -> int:
        return self._facts.eos

    @property
    def description(self) -> dict[str, str | int]:
        library, vocabulary = self._library or "auto", self._facts.vocabulary
        return {"library": library, "gpu": self._gpu, "threads": self._threads, "vocabulary": vocabulary}

    def tokenize(self, text: str) -> list[int]:
        """Tokens of any text. Where the vocabulary would make a control token of it, its letters are used instead."""
        tokens = self._tokenize(clean(text))
        if not any(token in self._spelled for token in tokens):
            return tokens
        return [part for token in tokens for part in self._spelled.get(token, (token,))]

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[bytes | None]:
        """See `Engine.generate`. Ends also when the context is full."""
        yield from self._read(prompt)
        sample, evaluate = self._sampler(sampling), self._llm.ctransformers_llm_batch_eval
        control, eos, one = self._facts.control, self._facts.eos, (c_int * 1)()
        while True:
            token = sample(len(self._context))
            if token == eos:
                return
            yield b"" if token in control else self._detokenize(token)
            past = len(self._context)
            if past >= self._facts.context_tokens:
                return
            one[0] = token
            if not evaluate(one, 1, past, 1, self._threads):
                raise EngineError("the engine failed to evaluate a token")
            self._context.append(token)

    def _read(self, prompt: Sequence[int]) -> Iterator[None]:
        """Reads the prompt in batches, from where it differs from the context. The last token is always read."""
        if not 0 < len(prompt) <= self._facts.context_tokens:
            raise EngineError("the prompt is empty or longer than the model's context")
        shared, limit = 0, min(len(prompt) - 1, len(self._context))
        while shared < limit and prompt[shared] == self._context[shared]:
            shared += 1
        del self._context[shared:]
        for start in range(shared, len(prompt), BATCH):
            batch = prompt[start : start + BATCH]
            cells = (c_int * len(batch))(*batch)
            if not self._llm.ctransformers_llm_batch_eval(cells, len(batch), start, BATCH, self._threads):
                raise EngineError("the engine failed to read the prompt")
            self._context.extend(batch)
            yield None

    def _sampler(self, sampling: Sampling) -> Any:
        """A function from a position to the token sampled there."""
        greedy = sampling.temperature <= 0
        top_k = 1 if greedy else TOP_K
        temperature = 0.0 if greedy else sampling.temperature
        native, nothing, top_p, seed = self._llm.ctransformers_llm_sample, (c_int * 1)(), sampling.top_p, sampling.seed

        def sample(position: int) -> int:
            mixed = token_seed(seed, position)
            return int(native(nothing, 0, top_k, top_p, temperature, NO_PENALTY, mixed))

        return sample

    def _tokenize(self, text: str) -> list[int]:
        data = text.encode()
        cells = (c_int * (len(data) + 16))()
        count = self._llm.ctransformers_llm_tokenize(data, False, cells)
        if not 0 <= count <= len(cells):
            raise EngineError("the tokenizer failed")
        return cells[:count]

    def _spell(self, text: str) -> tuple[int, ...]:
        """A control token's spelling as ordinary tokens, one a character, found behind a line break."""
        letters = (self._tokenize("\n" + letter)[-1] for letter in text)
        return tuple(token for token in letters if token not in self._facts.control)


def token_seed(seed: int, position: int) -> int:
    """A seed for the token at `position`, 0..2**31-1: neighbours differ in all bits (splitmix64's finalizer)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) & 0x7FFFFFFF


def _load(spec: ModelSpec, context_tokens: int, thread_count: int, lib: str | None) -> Any:
    from ctransformers.llm import LLM, Config  # imports the hub client: half a second that only this process pays

    config = Config(context_length=context_tokens, gpu_layers=spec.gpu_layers, threads=thread_count)
    try:
        return LLM(spec.path, config=config, lib=lib)
    except (RuntimeError, ValueError, OSError) as error:
        name = Path(spec.path).name
        raise EngineError(f"the engine can't load {name} ({type(error).__name__})") from error
