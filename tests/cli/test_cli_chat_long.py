"""Eight hours of conversation in some seconds: no turn is lost, and memory doesn't grow with what was said."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import psutil
from chat_door import Door
from cli_parts import WITHIN_S
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from aistratus.cli.chat_line import Line
from aistratus.cli.chat_terminal.program import Program, Wanted
from aistratus.cli.chat_terminal.screen import TerminalScreen
from aistratus.client.conversations import ANSWERED, Archive
from aistratus.settings import ModelSettings, Settings

TURNS = 2_000
WARM = 400
REPLY = "word " * 400
"""Two thousand characters."""
GROWTH_MIB = 8


def test_two_thousand_turns_lose_nothing_and_keep_nothing_in_memory(tmp_path: Path) -> None:
    door = Door(text=REPLY)
    file = tmp_path / "long.sqlite3"
    wanted = Wanted(
        env="local",
        settings=lambda: Settings(model=ModelSettings(name="fake", context_tokens=2048)),
        archive=lambda: (Archive(file), ""),
        connect=lambda: Line("http://door", lambda: "token", door.without_network()),
        command=lambda arguments: (0, ""),
    )
    program, memory, done = Program(wanted), [], threading.Event()
    with create_pipe_input() as typed:
        screen = TerminalScreen(program, terminal_input=typed, terminal_output=DummyOutput())
        program.screen = screen

        def type_all() -> None:
            for turn in range(TURNS):
                typed.send_text(f"question {turn}\r")
                if not _answered(door):
                    break
                if turn in (WARM, TURNS - 1):
                    gc.collect()
                    memory.append(psutil.Process().memory_info().rss / 2**20)
            done.set()
            screen.leave()

        threading.Thread(target=type_all, daemon=True).start()
        screen.run()
        program.close()
    assert done.is_set()
    turns = Archive(file).turns(program.talk.conversation.id)
    assert [turn.prompt.split()[1] for turn in turns] == [str(turn) for turn in range(TURNS)]
    assert {turn.state for turn in turns} == {ANSWERED}
    assert len(program.talk.conversation.exchanges) <= 64
    assert memory[-1] - memory[0] < GROWTH_MIB, memory


def _answered(door: Door) -> bool:
    """Waits until the one question behind the door is answered; the door forgets it, so as not to grow itself."""
    ends = time.monotonic() + WITHIN_S
    while time.monotonic() < ends:
        with door.lock:
            if [job["status"] for job in door.jobs.values()] == ["done"]:
                door.jobs.clear()
                door.bodies.clear()
                return True
        time.sleep(0.002)
    return False
