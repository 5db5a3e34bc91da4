"""One question and its reply, with an API that answers as each test needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fastjsonschema
import pytest
from chat_door import Door, serving
from chat_typist import typist
from documents import CHAT

from aistratus.cli.chat_line import Line
from aistratus.cli.chat_once import answer
from aistratus.cli.options import Options
from aistratus.client.api import Api
from aistratus.client.conversation import Conversation, Window
from aistratus.client.conversations import Archive
from aistratus.client.errors import SignInError
from aistratus.client.talk import Talk
from aistratus.core.errors import Failure, LoginExpired

LINE = "an answer of some length"


@pytest.fixture
def door() -> Door:
    return Door(piece=6)


@pytest.fixture
def address(door: Door) -> Iterator[str]:
    with serving(door) as url:
        yield url


def ask(address: str, prompt: str, talk: Talk | None = None, *, options: Options | None = None, **how: bool) -> Talk:
    talk = talk or Talk(Archive(None))
    chosen = {"catch_up": False, "stream": True, "raw": False, **how}
    answer(options or Options(), Line(address, lambda: "token"), talk, prompt, **chosen)
    return talk


@pytest.mark.parametrize("stream", [True, False])
def test_standard_output_holds_the_reply_alone(address: str, capsys: pytest.CaptureFixture[str], stream: bool) -> None:
    ask(address, LINE, stream=stream)
    said = capsys.readouterr()
    assert said.out == f"{LINE}\n"
    assert "fake, 5 tokens, 34 a second" in said.err


def test_nothing_of_the_reply_is_changed_on_its_way_into_a_pipe(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(address, "escape")
    assert capsys.readouterr().out == "before \x1b]52;c;eA==\x07 \x1b[2Jafter\n"


def test_one_object_holds_text_usage_timings_and_ids(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    talk = ask(address, LINE, options=Options(output="json"))
    document = json.loads(capsys.readouterr().out)
    fastjsonschema.validate(CHAT, document)
    [turn] = talk.archive.turns(document["conversation"])
    assert (document["text"], document["job_id"], document["request_id"]) == (LINE, turn.job_id, turn.request_id)


def test_a_lost_network_costs_time_only(door: Door, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    ask(address, "cut in the middle")
    assert capsys.readouterr().out == "cut in the middle\n"
    assert len(door.jobs) == 1


@pytest.mark.parametrize(
    ("prompt", "what", "todo"),
    [
        ("broken", "The model process died three times (request request-1)", ""),
        ("budget", "the budget's limit is reached, and it stays off until 2026-12-01 (UTC) (request", "cost resume"),
    ],
)
def test_a_failure_names_its_reason_its_request_and_what_to_do(address: str, prompt: str, what: str, todo: str) -> None:
    talk = Talk(Archive(None))
    with pytest.raises(Failure) as failed:
        ask(address, prompt, talk)
    assert what in failed.value.what
    assert todo in failed.value.todo
    assert [turn.state for turn in talk.archive.turns(talk.conversation.id)] == ["failed"]


def test_too_much_at_once_is_told_and_waited_for(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    ask(address, "crowd")
    assert capsys.readouterr().out == "crowd\n"


def test_who_is_signed_out_is_told_what_to_type(address: str, door: Door) -> None:
    def token() -> str:
        raise SignInError("You are not signed in to local; type `aistratus login -e local`.")

    with pytest.raises(LoginExpired, match="aistratus login"):
        answer(Options(), Line(address, token), Talk(Archive(None)), "hi", catch_up=False, stream=True, raw=False)
    assert not door.jobs


def test_what_a_killed_call_has_asked_is_finished_first(
    door: Door, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Archive(None)
    first = Talk(archive, Conversation())
    killed = first.follow(Api(address, lambda: "token"), first.ask("left open"))
    next(iter(killed))
    second = Talk.of(archive, first.conversation.id, {}, Window())
    ask(address, "the next", second, catch_up=True)
    said = capsys.readouterr()
    assert said.out == "the next\n"
    assert "the last question is still open" in said.err
    assert [turn.reply for turn in archive.turns(first.conversation.id)] == ["left open", "the next"]
    assert door.bodies[-1]["history"][0]["content"] == "left open"


def test_at_a_terminal_the_reply_is_rendered_unless_it_shall_be_raw(door: Door, address: str, tmp_path: Path) -> None:
    with typist(tmp_path, address, "code please") as chat:
        chat.sees("\nDone now.\n")
        assert chat.ended() == 0
        assert "Look:\n\ndef f():\n    return 1\n\nDone now.\n" in chat.screen.text
    with typist(tmp_path, address, "--raw", "code please") as chat:
        chat.sees("Done **now**.")
        assert chat.ended() == 0
        assert "```python\ndef f():\n" in chat.screen.text
