"""Bytes to text, stop strings, and prompts that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistratus.wire import Turn
from aistratus.worker.ctransformers_engine import token_seed
from aistratus.worker.echo_engine import EOS, EchoEngine
from aistratus.worker.engine import ModelSpec, Sampling
from aistratus.worker.template import PromptTooLong, build_prompt
from aistratus.worker.text import ReplyText, clean


def echo(context: int = 0) -> EchoEngine:
    return EchoEngine(ModelSpec(engine="echo", path="", context_tokens=context))


def pieces(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        yield data[start:end]


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_text_cut_anywhere_comes_out_whole(text: str, cuts: list[int]) -> None:
    reply = ReplyText(())
    shown = "".join(reply.feed(piece) for piece in pieces(text.encode(), cuts))
    assert shown + reply.finish() == text


@given(st.text(alphabet="ab<"), st.lists(st.text(alphabet="ab<", max_size=4), max_size=4), st.lists(st.integers(0, 99)))
def test_a_stop_string_ends_the_text_wherever_tokens_split_it(text: str, stop: list[str], cuts: list[int]) -> None:
    reply = ReplyText(stop)
    shown = ""
    for piece in pieces(text.encode(), cuts):
        shown += reply.feed(piece)
        if reply.stopped:
            break
    shown += reply.finish()
    found = [text.index(entry) for entry in stop if entry and entry in text]
    if not found:
        assert shown == text and not reply.stopped
    else:
        assert reply.stopped and text.startswith(shown)
        assert not any(entry in shown for entry in stop if entry)
        assert any(text.startswith(entry, len(shown)) for entry in stop if entry)


def test_a_possible_beginning_of_a_stop_string_is_held_back_until_it_is_clear() -> None:
    reply = ReplyText(("</end>",))
    assert reply.feed(b"one </e") == "one "
    assert reply.feed(b"els") == "</eels"
    assert reply.feed(b"</end") == ""
    assert reply.finish() == "</end"


def test_broken_bytes_become_replacement_characters() -> None:
    reply = ReplyText(())
    assert reply.feed(b"a\xff") + reply.feed(b"\xf0\x9f") + reply.finish() == "a\ufffd\ufffd"


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_cleaned_text_can_always_be_encoded_and_holds_no_nul(text: str) -> None:
    assert "\0" not in clean(text)
    clean(text).encode("utf-8")


def test_a_surrogate_pair_becomes_its_character() -> None:
    assert clean("\ud83d\ude00 \ud83d!") == "😀 \ufffd!"


def test_a_prompt_reads_like_a_tinyllama_conversation() -> None:
    history = (Turn("user", "hi"), Turn("assistant", "hello"))
    prompt = build_prompt(echo(), system="be kind", history=history, prompt="bye", max_tokens=9)
    text = "".join("</s>" if token == EOS else chr(token) for token in prompt.tokens[1:])
    assert text == (
        "<|system|>\nbe kind</s>\n<|user|>\nhi</s>\n<|assistant|>\nhello</s>\n<|user|>\nbye</s>\n<|assistant|>\n"
    )
    assert (prompt.max_tokens, prompt.dropped_turns) == (9, 0)


@given(st.lists(st.integers(1, 60), max_size=12), st.integers(1, 200), st.integers(64, 400))
def test_prompt_and_reply_never_exceed_the_context(lengths: list[int], max_tokens: int, context: int) -> None:
    history = [Turn("user" if n % 2 == 0 else "assistant", "x" * length) for n, length in enumerate(lengths)]
    prompt = build_prompt(echo(context), system=None, history=history, prompt="q", max_tokens=max_tokens)
    assert len(prompt.tokens) + prompt.max_tokens <= context
    assert 1 <= prompt.max_tokens <= max_tokens
    kept = bytes(token for token in prompt.tokens if token < 256).decode()
    assert kept.endswith("<|user|>\nq\n<|assistant|>\n")
    kept_turns = history[prompt.dropped_turns :]
    assert kept.count("x") == sum(len(turn.content) for turn in kept_turns)
    assert not prompt.dropped_turns or not kept_turns or kept_turns[0].role == "user"


def test_a_question_that_fills_the_context_is_refused_with_the_numbers() -> None:
    with pytest.raises(PromptTooLong, match=r"has \d+ tokens, but the model's context holds 100 "):
        build_prompt(echo(100), system=None, history=(), prompt="x" * 100, max_tokens=50)


def test_the_echo_engine_repeats_the_question() -> None:
    engine = echo()
    prompt = build_prompt(engine, system="s", history=(Turn("user", "a"),), prompt="two words", max_tokens=50)
    sampling = Sampling(temperature=0, top_p=1, seed=0)
    assert b"".join(piece or b"" for piece in engine.generate(prompt.tokens, sampling)) == b"two words"


@given(st.integers(-(2**63), 2**63), st.integers(0, 100_000))
def test_token_seeds_fit_the_library_and_never_mean_the_clock(seed: int, position: int) -> None:
    assert 0 <= token_seed(seed, position) < 2**31


def test_token_seeds_differ_from_token_to_token_and_from_seed_to_seed() -> None:
    assert len({token_seed(seed, position) for seed in range(30) for position in range(300)}) > 8_990
