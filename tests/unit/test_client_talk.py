"""A conversation that goes on: what is sent along, and what is written down whatever happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from chat_door import Door

from aistratus.client.api import Api
from aistratus.client.conversation import Conversation, Window
from aistratus.client.conversations import Archive
from aistratus.client.errors import ApiError
from aistratus.client.events import Done, Piece, Stage
from aistratus.client.talk import GONE, LeftOut, Talk


class AtOnce:
    """A clock whose waits take no time."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        return


@pytest.fixture
def door() -> Door:
    return Door(piece=4)


@pytest.fixture
def api(door: Door) -> Iterator[Api]:
    with Api("http://door", lambda: door.token, clock=AtOnce(), http=door.without_network()) as made:
        yield made


def states(talk: Talk) -> list[tuple[str, str, str]]:
    return [(turn.prompt, turn.reply, turn.state) for turn in talk.archive.turns(talk.conversation.id)]


def test_a_question_its_reply_and_its_figures_are_written_down(door: Door, api: Api) -> None:
    talk = Talk(Archive(None), choices={"system": "brief"})
    asked = talk.ask("eight chars")
    assert states(talk) == [("eight chars", "", "asked")], "before it is sent"
    pieces = [event.text for event in talk.follow(api, asked) if isinstance(event, Piece)]
    assert "".join(pieces) == "eight chars"
    [turn] = talk.archive.turns(talk.conversation.id)
    assert (turn.state, turn.request_id, turn.model, turn.usage["completion_tokens"]) == (
        "answered",
        "request-1",
        "fake",
        5,
    )
    assert turn.job_id in door.jobs, "the id of the record is the job's"
    assert talk.conversation.exchanges == (("eight chars", "eight chars"),)
    again = Talk.of(talk.archive, talk.conversation.id, {}, Window())
    assert (again.conversation, again.choices) == (talk.conversation, {"system": "brief"})


def test_a_reply_that_is_stopped_stays_as_far_as_it_came(api: Api) -> None:
    talk = Talk(Archive(None))
    asked = talk.ask("endless words")
    follower = talk.follow(api, asked)
    for event in follower:
        if isinstance(event, Piece):
            break
    talk.stop(asked)
    talk.stop(asked)
    assert states(talk) == [("endless words", "endl", "stopped")]
    assert talk.conversation.exchanges == (("endless words", "endl"),)


def test_an_open_question_is_followed_by_whoever_comes_next(door: Door, api: Api) -> None:
    archive = Archive(None)
    first = Talk(archive)
    asked = first.ask("left alone")
    next(iter(first.follow(api, asked)))
    second = Talk.of(archive, first.conversation.id, {}, Window())
    reopened = second.reopen()
    assert reopened is not None
    assert isinstance(list(second.follow(api, reopened))[-1], Done)
    assert states(second) == [("left alone", "left alone", "answered")]
    assert (second.reopen(), len(door.jobs)) == (None, 1)


def test_a_question_whose_job_is_gone_says_so(api: Api) -> None:
    talk = Talk(Archive(None))
    talk.ask("never sent")
    reopened = talk.reopen()
    assert reopened is not None
    with pytest.raises(ApiError):
        list(talk.follow(api, reopened))
    [turn] = talk.archive.turns(talk.conversation.id)
    assert (turn.state, turn.reason) == ("failed", GONE)


def test_what_the_api_refuses_is_a_failed_turn_and_what_it_would_is_none(api: Api) -> None:
    talk = Talk(Archive(None))
    with pytest.raises(ValidationError):
        talk.ask("x" * 8_001)
    assert states(talk) == []
    with pytest.raises(ApiError, match="budget"):
        list(talk.follow(api, talk.ask("budget")))
    [turn] = talk.archive.turns(talk.conversation.id)
    assert (turn.state, "budget" in turn.reason) == ("failed", True)
    assert talk.undo() == turn
    assert states(talk) == []


def test_the_oldest_exchanges_go_when_the_window_is_full_and_that_is_told_once(door: Door, api: Api) -> None:
    talk = Talk(Archive(None), choices={"max_tokens": 10}, window=Window(tokens=100, chars_per_token=4))
    told = []
    for number in range(8):
        question = f"question {number} " + "x" * 50
        told += [event for event in talk.follow(api, talk.ask(question)) if isinstance(event, LeftOut)]
    assert told == [LeftOut(2, 100)] or told == [LeftOut(1, 100)]
    history = door.bodies[-1]["history"]
    assert history[-1]["content"].startswith("question 6"), "the latest stay"
    assert sum(len(turn["content"]) for turn in history) + len(question) <= 90 * 4
    assert len(talk.archive.turns(talk.conversation.id)) == 8, "nothing is lost here"


def test_how_many_characters_a_token_has_is_learned() -> None:
    assert Window().learned(chars=1_000, tokens=500).chars_per_token == 2
    assert Window().learned(chars=10, tokens=5) == Window(), "a short one says little"
    roomy, narrow = Window(tokens=1_000, chars_per_token=4), Window(tokens=1_000, chars_per_token=2)
    assert roomy.history_chars("q" * 100, None, 256) == 744 * 4 - 100
    assert narrow.history_chars("q" * 100, "s" * 100, 900) == 500 * 2 - 200
    assert narrow.history_chars("q" * 8_000, None, 256) == 0


def test_a_conversation_keeps_no_more_in_memory_than_could_be_sent() -> None:
    conversation = Conversation()
    for number in range(500):
        conversation = conversation.with_exchange(f"q{number}", "a")
    assert len(conversation.exchanges) == 64
    assert conversation.exchanges[-1] == ("q499", "a")


def test_a_stage_carries_when_the_node_is_expected(api: Api) -> None:
    talk = Talk(Archive(None))
    stages = [event for event in talk.follow(api, talk.ask("asleep")) if isinstance(event, Stage)]
    assert (stages[0].name, stages[0].eta_s) == ("node starting", 42.0)
