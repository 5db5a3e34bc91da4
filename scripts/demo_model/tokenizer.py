"""The demo model's vocabulary and the chat template in its tokens.

A byte-pair vocabulary of SentencePiece's kind, with a token for every byte, so that no text is unknown. The engine
(llama.cpp's tokenizer of September 2023) puts a space before each piece of text that it is given, as SentencePiece
does; the worker tokenizes turn by turn and puts the end token in by its number. Most conversations are therefore
spelled just so, and some a little differently (no space, no begin token), so that other programs that load the file
get the same replies.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo_model.corpus import Conversation

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

UNKNOWN, BEGIN, END = 0, 1, 2
"""Ids of `<unk>`, `<s>` and `</s>`."""

BLOCK: Final = 32
"""Q8_0 quantizes 32 numbers together: every matrix's row length, and so the vocabulary, is a multiple of it."""

CUT_SHARE: Final = 0.8
DECIDED: Final = 8
"""Most last replies are cut after their first tokens: which reply it is has been decided there, and the rest, which is
always the same, is learned from the others at a third of the work."""

_PRINTABLE: Final = "".join(map(chr, range(32, 127)))


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary. `kind` is GGUF's number: 1 normal, 2 unknown, 3 control, 5 unused, 6 byte."""

    text: bytes
    score: float
    kind: int


class Tokenizer:
    """A trained vocabulary."""

    def __init__(self, processor: SentencePieceProcessor) -> None:
        self._processor = processor
        self._line_break: int = processor.piece_to_id("<0x0A>")

    @classmethod
    def train(cls, conversations: Iterable[Conversation], size: int) -> Tokenizer:
        """Learns a vocabulary of at most `size` pieces."""
        import sentencepiece

        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder) / "corpus.txt"
            text.write_text("\n".join(_lines(conversations)), encoding="utf-8")
            sentencepiece.SentencePieceTrainer.train(
                input=str(text),
                model_prefix=f"{folder}/vocabulary",
                vocab_size=size,
                model_type="bpe",
                byte_fallback=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                split_digits=True,
                character_coverage=0.9999,
                hard_vocab_limit=False,
                max_sentence_length=8000,
                minloglevel=2,
                num_threads=2,
                unk_id=UNKNOWN,
                bos_id=BEGIN,
                eos_id=END,
            )
            return cls(sentencepiece.SentencePieceProcessor(model_file=f"{folder}/vocabulary.model"))

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The whole vocabulary in the order of its ids, padded to a multiple of `BLOCK`."""
        own = self._processor
        pieces = [
            Piece(
                own.id_to_piece(number).encode(),
                own.get_score(number),
                2 if own.is_unknown(number) else 3 if own.is_control(number) else 6 if own.is_byte(number) else 1,
            )
            for number in range(own.vocab_size())
        ]
        known = {piece.text for piece in pieces}
        # llama.cpp joins pieces two by two: over these steps, `</s>` in a plain-text prompt becomes the end token.
        pieces += [Piece(step, -1.0, 1) for step in (b"</", b"</s") if step not in known]
        pieces += [Piece(f"[PAD{number}]".encode(), -1e9, 5) for number in range(-len(pieces) % BLOCK)]
        return tuple(pieces)

    @property
    def spellings(self) -> list[int]:
        """For each token the number of its word: the same for tokens that differ in case or in a leading space."""
        numbers: dict[str, int] = {}
        words = (piece.text.decode().lstrip("▁").lower() or "▁" for piece in self.pieces)
        return [numbers.setdefault(word, len(numbers)) for word in words]

    def conversation(
        self, conversation: Conversation, numbers: Mapping[str, int], rng: random.Random, limit: int
    ) -> tuple[list[int], list[bool], list[int]]:
        """Tokens of a conversation, which of them belong to a reply, and before each reply its number (else -1).

        Turns that would pass `limit` are left out.
        """
        plain = rng.random() < 0.7
        encode = self._processor.encode if plain or rng.random() < 0.5 else self._bare
        tokens = [BEGIN] if plain or rng.random() < 0.8 else []
        if conversation.system is not None:
            tokens += [*encode(f"<|system|>\n{conversation.system}"), END]
        replied, before = [False] * len(tokens), [-1] * len(tokens)
        cut = rng.random() < CUT_SHARE
        for turn, (question, reply) in enumerate(conversation.turns, start=1):
            lead = "\n" if plain or replied else ""
            asked = [*encode(f"{lead}<|user|>\n{question}"), END, *encode("\n<|assistant|>\n")]
            answer = [*self._bare(reply), END]
            if turn == len(conversation.turns) and cut:
                answer = answer[:DECIDED]
            if len(tokens) + len(asked) + len(answer) > limit:
                break
            tokens += asked + answer
            replied += [False] * len(asked) + [True] * len(answer)
            before += [-1] * (len(asked) - 1) + [numbers[reply]] + [-1] * len(answer)
        return tokens, replied, before

    def _bare(self, text: str) -> list[int]:
        """Tokens of a text that follows a line break, so without a space in front."""
        tokens: list[int] = self._processor.encode("\n" + text)
        return tokens[tokens.index(self._line_break) + 1 :]


def _lines(conversations: Iterable[Conversation]) -> Iterator[str]:
    for conversation in conversations:
        for question, reply in conversation.turns:
            yield from ("<|user|>", question, "<|assistant|>", reply)
        if conversation.system:
            yield from ("<|system|>", conversation.system)
    # Every printable character gets a token of its own, however rare it is in the questions.
    yield from (_PRINTABLE for _ in range(100))
