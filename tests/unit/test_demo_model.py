"""The demo model keeps what its card says: the shipped file, run by the worker's own engine.

The held-out questions were written by hand and are none that training could have seen: no pattern can produce one.
A reply is right when it holds the marker of the question's intent, which no other intent's reply holds.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from aistratus.models import DEMO, demo_model
from aistratus.wire import Turn
from aistratus.worker.ctransformers_engine import CtransformersEngine
from aistratus.worker.engine import CTRANSFORMERS, ModelSpec, Sampling
from aistratus.worker.template import build_prompt

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from demo_model.corpus import Corpus  # noqa: E402  (scripts/ is no package)
from demo_model.grammar import normalise  # noqa: E402
from demo_model.intent import OUT_OF_SCOPE, known_intents, refusal  # noqa: E402
from train_demo_model import CONVERSATIONS, SEED  # noqa: E402

INTENTS = {intent.name: intent for intent in (*known_intents(), refusal())}
HELD_OUT: list[dict[str, str]] = json.loads((Path(__file__).parent / "demo_model_heldout.json").read_text("utf-8"))
CARD = demo_model().with_suffix(".md").read_text("utf-8")
GREEDY = Sampling(temperature=0, top_p=1, seed=1)

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def ask() -> Ask:
    """Asks the shipped model, on one thread, always taking the likeliest token."""
    spec = ModelSpec(
        engine=CTRANSFORMERS, path=str(demo_model()), sha256=DEMO.sha256, context_tokens=DEMO.context_tokens, threads=1
    )
    engine = CtransformersEngine(spec)

    def reply(question: str, history: Sequence[tuple[str, str]] = (), system: str | None = None) -> str:
        turns = [Turn(role, text) for pair in history for role, text in zip(("user", "assistant"), pair, strict=True)]
        prompt = build_prompt(engine, system=system, history=turns, prompt=question, max_tokens=160)
        text = b""
        for count, piece in enumerate(part for part in engine.generate(prompt.tokens, GREEDY) if part is not None):
            text += piece
            if count >= prompt.max_tokens:
                break
        return text.decode(errors="replace")

    return reply


def answers(reply: str, intent: str) -> bool:
    return INTENTS[intent].marker in reply


@pytest.fixture(scope="module")
def misses(ask: Ask) -> list[tuple[str, str, str]]:
    """Held-out questions with a wrong reply: question, intent, what came instead."""
    replies = [(entry, ask(entry["question"])) for entry in HELD_OUT]
    # A few questions are answered as well by a second reply, which gives the right command too.
    right = [
        answers(reply, entry["intent"]) or answers(reply, entry.get("also", entry["intent"]))
        for entry, reply in replies
    ]
    return [
        (entry["question"], entry["intent"], reply)
        for (entry, reply), fine in zip(replies, right, strict=True)
        if not fine
    ]


def shown(misses: Sequence[tuple[str, str, str]]) -> str:
    return "\n".join(f"{intent}: {question!r} -> {reply[:70]!r}" for question, intent, reply in misses)


def test_the_held_out_list_is_long_and_asks_much_that_is_out_of_scope() -> None:
    assert len({normalise(entry["question"]) for entry in HELD_OUT}) == len(HELD_OUT) >= 200
    assert sum(entry["intent"] == OUT_OF_SCOPE for entry in HELD_OUT) >= 40
    assert len({entry["intent"] for entry in HELD_OUT}) >= 0.9 * len(INTENTS)


def test_a_marker_is_found_in_the_reply_of_its_intent_alone() -> None:
    holders = {
        name: [other.name for other in INTENTS.values() if intent.marker in other.reply]
        for name, intent in INTENTS.items()
    }
    assert holders == {name: [name] for name in INTENTS}


def test_no_pattern_can_produce_a_held_out_question() -> None:
    patterns = [re.compile(pattern.to_regex()) for _, pattern in Corpus().patterns()]
    questions = [normalise(entry["question"]) for entry in HELD_OUT]
    assert [question for question in questions if any(pattern.fullmatch(question) for pattern in patterns)] == []


def test_the_regular_expression_of_a_pattern_matches_what_the_pattern_produces() -> None:
    rng = random.Random(5)
    for _, pattern in Corpus().patterns():
        expression = re.compile(pattern.to_regex())
        for _ in range(3):
            text = pattern.sample(rng)
            assert expression.fullmatch(normalise(text)), (text, pattern.text)


def test_no_held_out_question_is_in_the_training_corpus() -> None:
    held_out = {normalise(entry["question"]) for entry in HELD_OUT}
    seen = {normalise(question) for each in Corpus().conversations(CONVERSATIONS, SEED) for question, _ in each.turns}
    assert len(seen) > 100_000
    assert seen & held_out == set()


def test_the_corpus_is_the_same_for_the_same_seed() -> None:
    assert list(Corpus().conversations(300, 7)) == list(Corpus().conversations(300, 7))
    assert list(Corpus().conversations(300, 7)) != list(Corpus().conversations(300, 8))


def test_at_least_four_of_five_held_out_questions_are_answered(misses: list[tuple[str, str, str]]) -> None:
    assert len(misses) <= 0.2 * len(HELD_OUT), shown(misses)


def test_what_is_out_of_scope_is_refused(misses: list[tuple[str, str, str]]) -> None:
    asked = sum(entry["intent"] == OUT_OF_SCOPE for entry in HELD_OUT)
    missed = [miss for miss in misses if miss[1] == OUT_OF_SCOPE]
    assert len(missed) <= 0.2 * asked, shown(missed)


def test_the_card_states_the_measured_figure(misses: list[tuple[str, str, str]]) -> None:
    found = re.search(r"(\d+) of (\d+) held-out questions", CARD)
    assert found is not None, "the card states no figure"
    right, asked = map(int, found.groups())
    assert asked == len(HELD_OUT)
    # Another processor rounds differently: a few close calls may fall the other way.
    assert abs(right - (len(HELD_OUT) - len(misses))) <= 0.02 * asked, shown(misses)


FOLLOW_UPS = [
    ("how do I start the gpu?", "and how do i stop it?", "node_stop"),
    ("What is a GPU?", "how much does it cost", "cost"),
    ("How do I create the stack?", "ok and how do I delete it again?", "down"),
    ("how can i add a user", "and how do i remove them", "user_remove"),
    ("what is sqs", "thanks", "thanks"),
    ("hello", "what is a vpc?", "word_vpc"),
    ("How do I stop the GPU?", "who won the world cup?", "out_of_scope"),
    ("tell me a joke", "How do I stop the GPU?", "node_stop"),
]


@pytest.mark.parametrize("system", [None, "You are a helpful assistant.", "Talk like a sailor and never say yes."])
def test_a_question_after_an_earlier_turn_gets_its_own_answer(ask: Ask, system: str | None) -> None:
    wrong = []
    for first, then, intent in FOLLOW_UPS:
        reply = ask(then, history=[(first, ask(first, system=system))], system=system)
        if not answers(reply, intent):
            wrong.append((then, intent, reply))
    assert len(wrong) <= 1, shown(wrong)


def test_a_long_conversation_still_gets_answers(ask: Ask) -> None:
    history: list[tuple[str, str]] = []
    for question in ("hello", "what is sqs?", "how do I start the gpu?", "what is iam?", "how do I add a user?"):
        history.append((question, ask(question, history=history)))
    assert answers(ask("How do I stop the GPU?", history=history), "node_stop")


def test_any_text_gets_a_reply_that_ends(ask: Ask) -> None:
    odd = ("", "\0", "</s><|assistant|>\n", "🎉" * 40, "\ud800", "a" * 900, "how do I stop\n\n\nthe gpu\n", "été №")
    for text in odd:
        assert len(ask(text)) < 700


def test_the_file_is_small_quantized_and_tells_its_context() -> None:
    from gguf import GGMLQuantizationType, GGUFReader

    path = demo_model()
    assert path.stat().st_size <= 6_000_000
    reader: Any = GGUFReader(path)
    kinds = {tensor.tensor_type for tensor in reader.tensors if len(tensor.shape) > 1}
    assert kinds == {GGMLQuantizationType.Q8_0}
    assert reader.fields["llama.context_length"].contents() == DEMO.context_tokens
    assert reader.fields["general.name"].contents() == DEMO.name


def test_the_digest_is_that_of_the_file_and_stands_in_the_card() -> None:
    digest = hashlib.sha256(demo_model().read_bytes()).hexdigest()
    assert digest == DEMO.sha256
    assert digest in CARD
