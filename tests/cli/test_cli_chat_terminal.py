"""The conversation at a real terminal, with an API that answers as each test needs it."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from chat_door import Door, serving
from chat_typist import ALT_ENTER, CTRL_C, CTRL_D, CTRL_R, ENTER, UP, Typist, kept, typist
from cli_parts import eventually

pytestmark = pytest.mark.xdist_group("terminal")

KNOWN = {
    "node": {"state": "ready", "type": "g4dn.xlarge", "stops_in_s": 430},
    "cost": {"today_eur": 0.12, "month_eur": 3.4, "eur_per_hour": 0.6, "limit_eur": 20},
}


@dataclass(frozen=True)
class Here:
    """A person, and what is behind the door that they talk to."""

    home: Path
    door: Door
    address: str
    chat: Typist

    @property
    def prompts(self) -> list[str]:
        """What has arrived behind the door."""
        return [body["prompt"] for body in self.door.bodies]

    def asks(self, question: str) -> None:
        """A question, and its whole reply."""
        self.chat.ask(question)
        answered(self.home, question)


def answered(home: Path, question: str) -> None:
    """Waits until the reply to the last question is written down."""
    asked = question.strip("\r")
    turn = eventually(lambda: kept(home)[-1:], lambda last: [(one[0], one[2]) for one in last] == [(asked, "answered")])
    assert [(one[0], one[2]) for one in turn] == [(asked, "answered")]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """One conversation that all tests go on with which don't need one of their own."""
    home, door = tmp_path_factory.mktemp("typist"), Door(piece=9, health=dict(KNOWN))
    with serving(door) as address, typist(home, address) as chat:
        chat.sees(" local")
        yield Here(home, door, address, chat)


@dataclass(frozen=True)
class Own:
    """A place for conversations of a test's own."""

    home: Path
    door: Door
    address: str


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    door = Door()
    with serving(door) as address:
        yield Own(tmp_path, door, address)


# --- asking -------------------------------------------------------------------------------------------------------


def test_a_reply_comes_as_markdown_while_it_is_written(here: Here) -> None:
    here.chat.ask("endless list", sees=" 3 three\n\n a  b\n")
    assert "\nTitle\n\n 1 one\n 2 two\n 3 three\n" in here.chat.after("> endless list")
    here.chat.type(CTRL_C)
    here.chat.sees("(stopped)")


def test_code_is_printed_without_frame_or_padding(here: Here) -> None:
    here.asks("code please")
    here.chat.sees("\nLook:\n\ndef f():\n    return 1\n\nDone now.\n")
    assert "return 1 " not in here.chat.written.replace("\x1b[0m", "")


def test_several_lines_are_one_question(here: Here) -> None:
    here.chat.ask(f"first{ALT_ENTER}second", sees="> first\n  second\n")
    answered(here.home, "first\nsecond")
    assert here.prompts[-1] == "first\nsecond"


def test_two_hundred_pasted_lines_are_one_question(here: Here) -> None:
    here.door.piece, lines = 100_000, [f"pasted {n}" for n in range(200)]
    here.chat.type("\x1b[200~", "\r".join(lines), "\x1b[201~", ENTER)
    answered(here.home, "\n".join(lines))
    assert here.prompts[-1] == "\n".join(lines)
    here.chat.sees("> pasted 0\n  pasted 1\n")
    here.door.piece = 9


def test_every_script_and_emoji_goes_both_ways(here: Here) -> None:
    said = "ünï 語言 🙂 👩‍👩‍👧 عربى"
    here.asks(said)
    here.chat.sees("> ünï 語言 🙂")
    here.chat.sees("\nünï 語言 🙂")
    assert kept(here.home)[-1] == (said, said, "answered")


def test_a_reply_can_not_steer_the_terminal(here: Here) -> None:
    here.chat.ask("escape", sees="before ␛]52;c;eA==␇ ␛[2Jafter")


def test_what_is_typed_ahead_is_asked_in_its_turn(here: Here) -> None:
    here.chat.ask("asleep one", sees="node starting · €0.60 an hour · about 4")
    here.chat.ask("the second", sees="1 more to be asked after this")
    here.chat.ask("the third")
    answered(here.home, "the third")
    assert here.prompts[-3:] == ["asleep one", "the second", "the third"]


def test_ctrl_c_stops_the_reply_cancels_its_job_and_keeps_the_conversation(here: Here) -> None:
    stopped = here.chat.count("(stopped)")
    here.chat.ask("endless story about code", sees="    return 1")
    here.chat.type(CTRL_C)
    here.chat.sees("(stopped)", more_than=stopped)
    job = list(here.door.jobs.values())[-1]
    assert eventually(lambda: job["status"], lambda status: status == "cancelled") == "cancelled"
    prompt, reply, state = kept(here.home)[-1]
    assert (prompt, state, reply[:5]) == ("endless story about code", "stopped", "Look:")
    here.asks("and then")
    assert [turn["content"] for turn in here.door.bodies[-1]["history"][-2:]] == [prompt, reply]


def test_the_windows_size_may_change(here: Here) -> None:
    here.chat.resize(20, 40)
    here.asks("words " * 30 + "end")
    shown = here.chat.after("> words")
    assert max(len(row) for row in shown.split("\n")) <= 40
    assert "\nwords words words words words words\nwords" in shown
    here.chat.resize(30, 100)
    here.asks("wide again")


def test_the_bottom_line_tells_node_cost_and_speed(here: Here) -> None:
    here.asks("figures")
    # Three seconds at sixty cents an hour; what has least to say goes first where there is no room.
    here.chat.sees("local · g4dn.xlarge ready · stops in 7 min · queue 0 │ €0.00050 │ today €0.12 · month €3.40")
    here.chat.resize(30, 150)
    here.chat.sees("queue 0 │ 34 tokens/s · first 0.")
    here.chat.sees("month €3.40 · limit €20.00")
    here.chat.resize(30, 100)


# --- slash commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("/stpo", "there is no /stpo; did you mean /stop?"),
        ("/zzz", "there is no /zzz; /help shows all of them"),
        ("/help", "/resize cpu|gpu|TYPE"),
        ("/cost", "ran cost"),
        ("/idle 15", "ran node idle 15"),
        ("/idle soon", "'soon' isn't a number of minutes; /idle 15"),
        ("/start", "the node starts"),
        ("/resize gpu", "the node changes to g4dn.xlarge"),
        ("/resize t3.medium", "the node changes to t3.medium"),
        ("/resize p5.48xlarge", "p5.48xlarge isn't one of the settings' types (request request-9)"),
        ("/resize", "the type is missing; /resize takes cpu, gpu"),
        ("/resize nope", "there is no type 'nope'; /resize takes cpu"),
        ("/system", "there is no system text"),
        ("/model temperature=0.5 seed=7", "temperature 0.5 · seed 7"),
        ("/model temperature=9", "this can't be asked: temperature"),
        ("/model colour=red", "'colour=red' can't be set"),
        ("/load nothing", "there is no conversation 'nothing'"),
        ("/copy nothing", "'nothing' can't be copied"),
    ],
)
def test_a_slash_command_says_what_it_did(here: Here, typed: str, told: str) -> None:
    here.chat.ask(typed, sees=told)


def test_stop_asks_first(here: Here) -> None:
    here.chat.ask("/stop", sees="Stop the node of env 'local'? [y/N]")
    here.chat.ask("n", sees="nothing was stopped")
    assert here.door.calls["POST /stop"] == 0
    here.chat.ask("/stop", sees="Stop the node of env 'local'? [y/N]")
    here.chat.ask("y", sees="the node stops")
    assert here.door.calls["POST /stop"] == 1
    here.chat.sees("t3.small stopping")


def test_a_system_text_goes_along(here: Here) -> None:
    here.chat.ask("/system Be brief.", sees="system: Be brief.")
    here.asks("with system")
    assert here.door.bodies[-1]["system"] == "Be brief."
    here.chat.ask("/system off", sees="there is no system text")
    here.asks("without")
    assert "system" not in here.door.bodies[-1]


@pytest.mark.parametrize("question", ["/etc/hosts, what is it?", " /help me"])
def test_a_slash_that_is_no_command_is_a_question(here: Here, question: str) -> None:
    here.asks(question)


def test_the_last_question_can_be_undone_edited_and_retried(here: Here) -> None:
    here.chat.ask("/new", sees="a new conversation")
    here.chat.ask("/undo", sees="nothing was asked yet")
    here.asks("one")
    here.asks("two")
    here.chat.ask("/undo", sees="taken back: two")
    here.chat.ask("/edit", sees="in place of the last question")
    here.chat.ask(" more")
    answered(here.home, "one more")
    asked = len(here.door.bodies)
    here.chat.ask("/retry")
    assert eventually(lambda: len(here.door.bodies), lambda many: many > asked) == asked + 1
    answered(here.home, "one more")
    assert not here.door.bodies[-1].get("history")
    assert [turn[0] for turn in kept(here.home) if turn[0] in ("one", "two")] == []


def test_a_conversation_can_be_saved_and_loaded(here: Here) -> None:
    here.chat.ask("/new", sees="a new conversation")
    here.asks("worth keeping")
    here.chat.ask("/save talk.md", sees="saved as talk.md")
    here.chat.ask("/save talk.json", sees="saved as talk.json")
    here.chat.ask("/save talk.json", sees="Replace talk.json? [y/N]")
    here.chat.ask("n", sees="nothing was written")
    assert "> worth keeping\n\nworth keeping\n" in (here.home / "talk.md").read_text()
    identity = json.loads((here.home / "talk.json").read_text())["conversation"]["id"]
    here.chat.ask("/new", sees=f"/load {identity[:8]} goes back")
    here.chat.ask("/load", sees=f"{identity[:8]}  20")
    here.chat.ask("/load talk.json", sees="> worth keeping")
    here.asks("go on")
    assert here.door.bodies[-1]["conversation"] == identity
    assert here.door.bodies[-1]["history"][0]["content"] == "worth keeping"
    here.chat.ask("/load talk.md", sees="isn't a conversation in JSON")


def test_the_last_code_goes_to_the_clipboard(here: Here) -> None:
    here.asks("code again")
    here.chat.ask("/copy code", sees="22 characters copied")
    assert "\x1b]52;c;ZGVmIGYoKToKICAgIHJldHVybiAxCg==\x07" in here.chat.written


def test_a_slash_command_is_completed(here: Here) -> None:
    here.chat.type("/und")
    here.chat.sees("takes the last question and its reply back")

    def completed() -> int:
        here.chat.type("\t")  # prompt_toolkit drops one that comes while it still looks for completions
        return here.chat.count("> /undo")

    assert eventually(completed)
    here.chat.type(CTRL_C)


# --- leaving and coming back --------------------------------------------------------------------------------------


def test_ctrl_d_leaves_and_c_goes_on(own: Own) -> None:
    with typist(own.home, own.address) as chat:
        chat.sees(" local")
        chat.type("forgotten", CTRL_C, "remember the blue one", ENTER)
        chat.sees("\nremember the blue one")
        answered(own.home, "remember the blue one")
        chat.type(CTRL_D)
        assert chat.ended() == 0
        assert "`aistratus chat -c` goes on" in chat.screen.text
    assert (own.home / "data/aistratus/history/local").stat().st_mode & 0o077 == 0
    with typist(own.home, own.address, "-c") as chat:
        chat.sees("> remember the blue one\n\nremember the blue one\n")
        chat.type(CTRL_R, "blue")
        chat.sees("I-search backward: blue")
        chat.type(ENTER, ENTER)
        assert eventually(lambda: len(own.door.bodies), lambda many: many == 2) == 2
        answered(own.home, "remember the blue one")
        chat.type(UP)
        chat.sees("> remember the blue one", more_than=2)
        chat.type(" too", ENTER)
        answered(own.home, "remember the blue one too")
        chat.type(CTRL_D)
        assert chat.ended() == 0
    assert len({body["conversation"] for body in own.door.bodies}) == 1


def test_what_a_killed_program_asked_is_answered_by_the_next(own: Own) -> None:
    with typist(own.home, own.address) as chat:
        chat.sees(" local")
        chat.ask("asleep for long", sees="node starting")
        chat.child.kill(signal.SIGKILL)
        chat.child.wait()
    assert kept(own.home) == [("asleep for long", "", "asked")]
    with typist(own.home, own.address, "-c") as chat:
        chat.sees("the last question is still open; its reply comes now")
        answered(own.home, "asleep for long")
        chat.type(CTRL_D)
        chat.ended()
    assert kept(own.home) == [("asleep for long", "asleep for long", "answered")]
    assert len(own.door.jobs) == 1, "it isn't asked twice"


def test_leaving_in_the_middle_cancels_the_job(own: Own) -> None:
    with typist(own.home, own.address) as chat:
        chat.sees(" local")
        chat.ask("endless", sees="\nendless")
        chat.type(CTRL_D)
        assert chat.ended() == 0
    assert [job["status"] for job in own.door.jobs.values()] == ["cancelled"]
    assert kept(own.home)[0][2] == "stopped"


# --- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("budget", "stays off until 2026-12-01 (UTC) (request request-9); `aistratus cost resume` lifts it"),
        (
            "capacity",
            "AWS has no capacity for the node's instance type right now (request request-9); `aistratus node re",
        ),
        ("broken", "The model process died three times (request request-"),
    ],
)
def test_a_failure_tells_why_what_to_do_and_how_to_find_it(here: Here, question: str, told: str) -> None:
    here.chat.resize(30, 300)
    here.chat.ask(question, sees=told)
    here.chat.resize(30, 100)


def test_a_node_that_can_not_start_is_told_of_while_the_question_waits(here: Here) -> None:
    here.chat.ask("nowhere", sees="the node can't be started right now; `aistratus node resize cpu` (in a")
    answered(here.home, "nowhere")


def test_a_line_that_does_not_open_can_be_given_up(own: Own) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"  # takes calls and never answers
        with typist(own.home, address) as chat:
            chat.sees(" local")
            chat.ask("anybody there?", sees="sending")
            chat.type(CTRL_C)
            chat.sees("(stopped)")
            chat.type(CTRL_D)
            assert chat.ended() == 0
    assert kept(own.home) == [("anybody there?", "", "stopped")]


def test_too_many_questions_are_counted_down_and_answered(here: Here) -> None:
    here.chat.ask("crowd", sees="too many questions at once; trying again · about 1 s left")
    answered(here.home, "crowd")


def test_a_lost_network_comes_back_in_the_middle_of_a_reply(here: Here) -> None:
    said = "cut in the middle of quite a long reply"
    here.chat.ask(said, sees="no connection; trying again")
    answered(here.home, said)
    assert kept(here.home)[-1] == (said, said, "answered")


def test_a_token_that_expires_in_the_middle_keeps_the_question(own: Own) -> None:
    own.door.piece = 5
    with typist(own.home, own.address) as chat:
        chat.sees(" local")
        chat.ask("expire in the middle", sees="the question is kept: /retry goes on with it")
        (own.home / "token").write_text("renewed")  # somebody has signed in again
        chat.ask("/retry")
        answered(own.home, "expire in the middle")
    assert kept(own.home) == [("expire in the middle", "expire in the middle", "answered")]
    assert len(own.door.jobs) == 1, "the reply of the same job"
