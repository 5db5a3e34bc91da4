"""The pre-flight check: whether a file is a model that the engine can load.

The engine crashes on many damaged files, so each file is checked first: its SHA-256, its structure (read by the gguf
package, which refused every truncated or damaged file that it was tried with), and whether tensors, vocabulary, context
and memory suit the engine. A refusal has a reason of one sentence.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CONTEXT_CAP: Final = 2_048
"""Tokens; the default context of a file that allows more. A larger one costs memory and must be asked for."""

READABLE: Final = frozenset(
    {"F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"}
)
"""Tensor types that ctransformers 0.2.27 reads; others (BF16, IQ*) crash or hang it."""

WORKING_BYTES: Final = 96 * 1024 * 1024
"""Memory besides weights and context: scratch buffers and the process itself."""

CONTROL_TYPES: Final = frozenset({2, 3})
"""gguf's token types `unknown` and `control`: never part of what a user typed."""


class ModelRefused(ValueError):
    """The file can't be used; the message is one sentence that says why."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the engine's wrapper needs to know about a file that passed.

    `control` maps each control token to its spelling; `vocabulary` is the number of tokens; `needed` is the memory that
    it takes with its context, in bytes.
    """

    size: int
    needed: int
    context_tokens: int
    bos: int | None
    eos: int
    control: dict[int, str]
    vocabulary: int


def check_model(
    path: Path, *, sha256: str, context_tokens: int, checked: bool = False, memory: int | None = None
) -> ModelFacts:
    """Checks a GGUF file.

    Args:
        path: the file.
        sha256: 64 hex digits that its bytes must have, or empty for any.
        context_tokens: wanted context, or 0 for the file's own, capped at `CONTEXT_CAP`.
        checked: the SHA-256 of this file was verified before, so that it isn't read again.
        memory: bytes that the model may use; `None` for what this machine has free.

    Raises:
        ModelRefused: with the reason.
    """
    size = _size(path)
    if sha256 and not checked:
        _check_digest(path, sha256)
    reader = _read(path)
    _check_tensors(reader)
    trained = int(_value(reader, f"{_architecture(reader)}.context_length", 0))
    wanted = context_tokens or min(trained or CONTEXT_CAP, CONTEXT_CAP)
    if trained and wanted > trained:
        raise ModelRefused(f"a context of {wanted} tokens was asked for, but the model was made for {trained}")
    needed = size + _context_bytes(reader, wanted) + WORKING_BYTES
    _check_memory(needed, available_memory() if memory is None else memory)
    return _facts(reader, size, wanted, needed)


def _size(path: Path) -> int:
    try:
        if not path.is_file():
            raise ModelRefused(f"the model file {path.name} doesn't exist")
        return path.stat().st_size
    except OSError as error:
        raise ModelRefused(f"the model file {path.name} can't be read: {error.strerror}") from error


def _check_digest(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelRefused(f"the model file {path.name} can't be read: {error.strerror}") from error
    if found != expected.lower():
        raise ModelRefused(
            f"the model file {path.name} is damaged or another one: its SHA-256 begins with {found[:12]}, "
            f"not with {expected[:12].lower()}"
        )


def _read(path: Path) -> Any:
    head = _head(path)
    if head[:4] != b"GGUF":
        raise ModelRefused(f"the model file {path.name} is not a GGUF file")
    version = int.from_bytes(head[4:8], "little")
    if version not in (2, 3):
        raise ModelRefused(f"the model file {path.name} has GGUF version {version}, but the engine reads 2 and 3")
    from gguf import GGUFReader  # numpy comes with it: 0.1 s that the supervisor never pays

    try:
        return GGUFReader(path)
    except Exception as error:  # the parser raises all kinds of errors, and each means a damaged file
        raise ModelRefused(f"the model file {path.name} is damaged or truncated") from error


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise ModelRefused(f"the model file {path.name} can't be read: {error.strerror}") from error


def _value(reader: Any, name: str, default: Any) -> Any:
    field = reader.fields.get(name)
    try:
        return default if field is None else field.contents()
    except (ValueError, IndexError) as error:
        raise ModelRefused(f"the model file's field {name} is damaged") from error


def _architecture(reader: Any) -> str:
    name = _value(reader, "general.architecture", None)
    if not isinstance(name, str):
        raise ModelRefused("the model file doesn't name its architecture")
    return name


def _check_tensors(reader: Any) -> None:
    unreadable = sorted({tensor.tensor_type.name for tensor in reader.tensors} - READABLE)
    if unreadable:
        raise ModelRefused(f"the engine can't read tensors of type {', '.join(unreadable)}")
    names = {tensor.name for tensor in reader.tensors}
    for needed in ("token_embd.weight", "output.weight") if _architecture(reader) == "llama" else ():
        if needed not in names:
            raise ModelRefused(f"the model file has no tensor {needed}, which the engine needs")


def _context_bytes(reader: Any, tokens: int) -> int:
    """Keys and values of the whole context: two vectors of 16-bit numbers a layer and token."""
    family = _architecture(reader)
    heads = int(_value(reader, f"{family}.attention.head_count", 1)) or 1
    shared = int(_value(reader, f"{family}.attention.head_count_kv", heads)) or heads
    width = int(_value(reader, f"{family}.embedding_length", 0)) * shared // heads
    return 2 * 2 * int(_value(reader, f"{family}.block_count", 0)) * width * tokens


def _check_memory(needed: int, available: int | None) -> None:
    if available is not None and needed > available:
        raise ModelRefused(
            f"the model needs about {needed >> 20} MiB of memory, but {available >> 20} MiB are available"
        )


def capped(memory: int | None, cap: int) -> int | None:
    """What a model may have of this memory where no more than `cap` bytes are allowed; 0 allows all of it."""
    return memory if not cap else cap if memory is None else min(memory, cap)


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> int | None:
    """Bytes that a new process can have: what the kernel calls available, within the control group's limit."""
    bounds = []
    with suppress(OSError, ValueError, IndexError):  # not Linux: nothing is known, nothing is refused
        lines = meminfo.read_text(encoding="ascii").splitlines()
        bounds += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # no control group, or its limit is the word `max`
        bounds.append(int(limit.read_text(encoding="ascii")))
    return min(bounds, default=None)


def _facts(reader: Any, size: int, context_tokens: int, needed: int) -> ModelFacts:
    spellings = _value(reader, "tokenizer.ggml.tokens", None)
    kinds = _value(reader, "tokenizer.ggml.token_type", None)
    scores = _value(reader, "tokenizer.ggml.scores", None)
    if not spellings or not kinds or not scores or not len(spellings) == len(kinds) == len(scores):
        raise ModelRefused("the model file's vocabulary is incomplete: it needs tokens, scores and types of one length")
    eos = int(_value(reader, "tokenizer.ggml.eos_token_id", 2))
    bos = int(_value(reader, "tokenizer.ggml.bos_token_id", 1))
    if not (0 <= eos < len(spellings) and 0 <= bos < len(spellings)):
        raise ModelRefused("the model file's begin or end token is not in its vocabulary")
    control = {number: spellings[number] for number, kind in enumerate(kinds) if kind in CONTROL_TYPES}
    control |= {bos: spellings[bos], eos: spellings[eos]}
    return ModelFacts(
        size=size,
        needed=needed,
        context_tokens=context_tokens,
        bos=bos,
        eos=eos,
        control=control,
        vocabulary=len(spellings),
    )
