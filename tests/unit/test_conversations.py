"""Conversations on this machine: nothing that was written down is lost, and nobody else can read it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aistratus.client.conversations import (
    ANSWERED,
    ASKED,
    STOPPED,
    Archive,
    ConversationsUnusable,
    NoConversation,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "local.sqlite3"


def said(archive: Archive, conversation: str, prompt: str, reply: str) -> int:
    turn = archive.asked(conversation, prompt, f"job-{prompt}")
    assert archive.ended(turn, ANSWERED, reply, model="m", usage={"completion_tokens": 3}, timings={"total_ms": 5})
    return turn


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_only_their_user_can_read_them(path: Path) -> None:
    said(Archive(path), "c", "question", "reply")
    assert {oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == {"0o600"}
    assert oct(path.parent.stat().st_mode & 0o777) == "0o700"


def test_a_question_is_there_before_its_reply_and_ends_once(path: Path) -> None:
    archive = Archive(path)
    turn = archive.asked("c", "What is SQS? 🙂\ud83d", "j1", system="brief")
    archive.accepted(turn, "r1")
    [seen] = Archive(path).turns("c")
    assert (seen.prompt, seen.state, seen.job_id, seen.request_id) == ("What is SQS? 🙂?", ASKED, "j1", "r1")
    assert archive.ended(turn, STOPPED, "half")
    assert not archive.ended(turn, ANSWERED, "whole"), "whoever follows a reply that was stopped comes too late"
    [seen] = archive.turns("c")
    assert (seen.state, seen.reply) == (STOPPED, "half")


WRITER = """
import sys
from pathlib import Path
from aistratus.client.conversations import ANSWERED, Archive
archive = Archive(Path(sys.argv[1]))
for n in range(int(sys.argv[3])):
    turn = archive.asked(sys.argv[2], f"question {n}", f"{sys.argv[2]}-{n}")
    print(n, flush=True)
    archive.ended(turn, ANSWERED, f"reply {n}")
"""


def test_two_programs_write_at_once_and_lose_nothing(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, "60"], stdout=subprocess.DEVNULL)
        for name in ("one", "two")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    archive = Archive(path)
    for name in ("one", "two"):
        assert [turn.prompt for turn in archive.turns(name)] == [f"question {n}" for n in range(60)]
        assert all(turn.state == ANSWERED for turn in archive.turns(name))


def test_what_was_written_before_a_kill_is_there(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "c", "100000"], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 20:
                break
        writer.kill()
    turns = Archive(path).turns("c")
    assert [turn.prompt for turn in turns[:21]] == [f"question {n}" for n in range(21)]
    assert all(turn.reply == f"reply {n}" for n, turn in enumerate(turns[:20]))


def test_threads_share_one_archive(path: Path) -> None:
    archive = Archive(path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: said(archive, f"c{n % 4}", f"q{n}", f"r{n}"), range(40)))
    assert sum(kept.turns for kept in archive.all()) == 40


@pytest.mark.parametrize("indexed", [True, False])
def test_words_are_found_with_the_index_and_without(path: Path, indexed: bool) -> None:
    archive = Archive(path, indexed=indexed)
    said(archive, "a", "How do I stop the GPU?", "Run `aistratus node stop`.")
    said(archive, "b", "語言是什麼", "100% sure 🙂 it's_fine")
    for words, where in (("gpu STOP", "a"), ("node sto", "a"), ("言", "b"), ("🙂", "b"), ("0%", "b"), ("s_f", "b")):
        assert [turn.conversation for turn in archive.search(words)] == [where], words
    for words in ("gpu 🙂", "absent", "", '"', "0_", "AND", "NEAR("):
        assert archive.search(words) == [], words


def test_the_index_survives_a_python_that_has_none(path: Path) -> None:
    said(Archive(path), "a", "first", "one")
    said(Archive(path, indexed=False), "a", "second", "two")
    archive = Archive(path)
    assert [turn.prompt for turn in archive.search("second")] == ["second"]
    archive.withdraw(archive.turns("a")[-1].id)
    assert archive.search("second") == []


def test_a_conversation_is_found_by_the_beginning_of_its_id(path: Path) -> None:
    archive = Archive(path)
    said(archive, "abc1", "first", "x")
    said(archive, "abd2", "second", "x")
    assert (archive.find("ABC"), archive.last()) == ("abc1", "abd2")
    for wrong in ("ab", "zz", "", "%"):
        with pytest.raises(NoConversation):
            archive.find(wrong)
    archive.delete("abd2")
    assert [kept.id for kept in archive.all()] == ["abc1"]
    archive.withdraw(archive.turns("abc1")[0].id)
    assert archive.all() == [], "a conversation without questions is none"


def test_the_usual_boot_is_the_median_of_the_latest(path: Path) -> None:
    archive = Archive(path)
    assert archive.usual_boot() is None
    for seconds in (900, 900, 900, *(50, 60, 70) * 3):
        archive.booted(seconds)
    assert archive.usual_boot() == 60


def test_what_a_newer_version_wrote_or_what_is_damaged_is_left_alone(path: Path) -> None:
    Archive(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ConversationsUnusable, match="newer"):
        Archive(path)
    damaged = path.with_name("damaged.sqlite3")
    damaged.write_bytes(b"no database at all" * 100)
    with pytest.raises(ConversationsUnusable, match="can't be used: file is not a database; move that file"):
        Archive(damaged)
    assert damaged.read_bytes().startswith(b"no database")
