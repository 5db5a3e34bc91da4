"""What of a conversation goes into the next request."""

from __future__ import annotations

import json

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aistratus import wire
from aistratus.client.conversation import Conversation
from aistratus.router import body, jobs

texts = st.builds(lambda n, c: c * n, st.integers(1, 20_000), st.sampled_from("xé語🙂\x01\\"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(texts, texts), max_size=40), st.sampled_from("xé語🙂"))
@example([("🙂" * 8_000, "🙂" * 8_000)] * 4, "🙂")
@example([("x" * 8_000, "語" * 16_000)] * 4, "é")
@example([("x", "y")] * 100, "x")
def test_any_conversation_fits_into_a_request_and_onto_the_queue(pairs: list[tuple[str, str]], char: str) -> None:
    conversation = Conversation()
    for prompt, reply in pairs:
        conversation = conversation.with_exchange(prompt, reply)
    request = conversation.ask(char * wire.PROMPT_CHARS, system=char * wire.PROMPT_CHARS)
    text = json.dumps(request.body(), ensure_ascii=False, separators=(",", ":"))
    taken = body.request_of({"body": text})
    assert len(jobs.job_of(taken, "owner", "id", 0).to_message()) <= jobs.MESSAGE_BYTES


def test_the_latest_exchanges_are_kept_in_order_and_whole() -> None:
    conversation = Conversation()
    for n in range(50):
        conversation = conversation.with_exchange(f"question {n}", f"answer {n}")
    turns = conversation.history()
    assert len(turns) == wire.HISTORY_TURNS
    assert [turn.role for turn in turns[:2]] == ["user", "assistant"]
    assert (turns[-2].content, turns[-1].content) == ("question 49", "answer 49")


def test_an_empty_reply_is_left_out_and_the_rest_is_made_sendable() -> None:
    conversation = Conversation().with_exchange("lost", "").with_exchange("a\0b", "half \ud800")
    assert [turn.content for turn in conversation.history()] == ["ab", "half ?"]


def test_a_conversation_keeps_its_id() -> None:
    conversation = Conversation()
    assert conversation.with_exchange("a", "b").ask("c").conversation == conversation.id
