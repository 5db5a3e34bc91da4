"""Talking to the model: one question, a pipe, a conversation at a terminal, many at once, and a sleeping node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastjsonschema
import pexpect
import pytest
from cli_parts import WITHIN_S, Person, client, ended, eventually, program
from conftest import SLOW, Asleep, Built
from documents import CONVERSATION, CONVERSATIONS, DELETED, FOUND

pytestmark = pytest.mark.xdist_group("cli")

LONG = "a question of many words that takes its time " * 8
"""Fifteen seconds when it is repeated slowly: long enough to be stopped."""


def test_the_reply_is_alone_on_standard_output(built: Built) -> None:
    said = built.person.run("chat", "How do I stop the GPU?")
    assert said.code == 0
    assert "aistratus node stop" in said.out
    assert said.out.endswith("\n")
    assert "demo" not in said.out
    assert "a demo model" in said.err, "its replies are labelled"


def test_a_question_may_come_through_a_pipe(built: Built) -> None:
    said = built.person.run("chat", typed="What is a dead-letter queue?\n")
    assert (said.code, bool(said.out.strip())) == (0, True)


def test_a_conversation_goes_on_with_c(built: Built) -> None:
    first = built.person.run("chat", "-o", "json", "What is SQS?").document
    second = built.person.run("chat", "-o", "json", "-c", "What is SQS?").document
    assert second["conversation"] == first["conversation"]
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"], "what was said is sent along"
    assert built.person.run("chat", "-o", "json", "What is SQS?").document["conversation"] != first["conversation"]


def test_a_pipe_is_added_to_the_question(built: Built) -> None:
    said = built.person.run("chat", "--no-stream", "--raw", "What is SQS?", typed="a note: ünï 🙂\n")
    assert (said.code, said.out.count("\n")) == (0, 1), said.words
    asked = built.person.run("chat", "show", "-o", "json").document["conversation"]["exchanges"][0]["prompt"]
    assert asked == "What is SQS?\n\na note: ünï 🙂"
    narrow = built.person.with_variables(PYTHONIOENCODING="ascii")  # as a pipe on Windows, which knows 256 characters
    assert "> a note: ünï 🙂" in narrow.run("chat", "show").out


def test_what_was_said_is_listed_shown_found_exported_and_deleted(built: Built) -> None:
    person = built.person
    job = person.run("chat", "-o", "json", "--system", "Be brief.", "What is a zeppelin?").document
    for command, schema in (("list", CONVERSATIONS), ("show", CONVERSATION)):
        fastjsonschema.validate(schema, person.run("chat", command, "-o", "json").document)
    kept = person.run("chat", "export", "json", job["conversation"][:8]).document["conversation"]
    [turn] = kept["exchanges"]
    assert (turn["job_id"], turn["request_id"], turn["reply"]) == (job["job_id"], job["request_id"], job["text"])
    assert kept["system"] == "Be brief."
    assert f"> What is a zeppelin?\n\n{job['text'].strip()}\n" in person.run("chat", "export", "md").out
    found = person.run("chat", "search", "ZEPPELIN", "-o", "json").document
    fastjsonschema.validate(FOUND, found)
    assert [one["conversation"] for one in found["found"]] == [job["conversation"]]
    assert job["conversation"][:8] in person.run("chat", "search", "zeppelin").out
    deleted = person.run("chat", "delete", job["conversation"][:8], "-o", "json").document
    fastjsonschema.validate(DELETED, deleted)
    assert deleted["deleted"] == [job["conversation"]]
    assert person.run("chat", "show", job["conversation"]).code == 6


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("list",), 0, "no conversation is kept here"),
        (("show",), 6, "no conversation is kept here"),
        (("search", "x"), 0, "nothing was found"),
        (("delete",), 2, "name conversations to delete"),
        (("export", "pdf"), 2, "pdf"),
        (("--", "list"), 6, "isn't up"),
        (("list my buckets",), 6, "isn't up"),
        (("two", "words"), 2, "put it into quotes: aistratus chat 'two words'"),
        (("--conversation", "abc", "hello"), 6, "isn't up"),
    ],
)
def test_a_word_is_a_command_or_a_question(person: Person, arguments: tuple[str, ...], code: int, told: str) -> None:
    said = person.run("chat", *arguments)
    assert (said.code, told in said.words) == (code, True), said.words


@pytest.mark.parametrize(
    ("question", "told"), [("", "empty"), (" \n", "empty"), ("x" * 8001, "8000"), ("a\udcff", "UTF-8")]
)
def test_what_can_not_be_asked_is_told_before_anything_happens(person: Person, question: str, told: str) -> None:
    said = person.run("chat", question)
    assert said.code == 2
    assert told in said.err
    assert said.err.count("\n") == 1
    assert not (person.home / ".local/state").exists()


def test_bytes_that_are_no_text_are_refused(person: Person) -> None:
    with subprocess.Popen(["head", "-c", "40", "/dev/urandom"], stdout=subprocess.PIPE) as noise:
        said = ended(person.start("chat", stdin=noise.stdout))
    assert said.code == 2
    assert said.err.startswith("aistratus: ")


@contextmanager
def terminal(person: Person, *arguments: str) -> Iterator[Any]:
    """A chat in a real terminal."""
    child = pexpect.spawn(
        program(),
        ["chat", *arguments],
        env=person.environment,
        cwd=str(person.home),
        encoding="utf-8",
        timeout=WITHIN_S,
        dimensions=(40, 200),
    )
    try:
        yield child
    finally:
        child.close(force=True)


def test_a_conversation_at_a_terminal(built: Built) -> None:
    with terminal(built.person) as child:
        child.expect("Ctrl-C stops a reply, Ctrl-D leaves")
        child.expect("> ")
        child.sendline("How do I stop the GPU?")
        child.expect("aistratus node stop")
        child.expect("a demo model")
        child.expect("> ")
        child.sendline("")  # nothing is asked
        child.expect("> ")
        child.sendline("And what does that cost?")
        child.expect(r"\r\n[^\r]*\w[^\r]*\r\n")
        child.expect("a demo model")
        child.expect("> ")
        child.sendintr()  # Ctrl-C at the prompt stays; a line after it, as readline may notice it only then
        child.sendline("")
        child.expect("> ")
        child.sendeof()
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0


def test_ctrl_c_stops_a_reply_and_keeps_the_conversation(asleep: Asleep) -> None:
    with terminal(asleep.person) as child:
        child.expect("> ")
        child.sendline("first words")
        child.expect(r"first words\r\n[^\0]*first words")  # the terminal's echo, then the model's
        child.expect("> ")
        child.sendline(LONG)
        child.expect("tokens|a question of many.*\r\n[^\0]*a question")
        child.sendintr()
        child.expect(r"\(stopped\)")
        child.expect("> ")
        child.sendline("last words")
        child.expect(r"last words\r\n[^\0]*last words")
        child.expect("> ")
        child.sendeof()
        child.expect(pexpect.EOF)
    kept = asleep.person.run("chat", "show", "-o", "json").document["conversation"]
    assert [one["prompt"] for one in kept["exchanges"]] == ["first words", LONG, "last words"]
    assert [one["state"] for one in kept["exchanges"]] == ["answered", "stopped", "answered"]
    assert LONG.startswith(kept["exchanges"][1]["reply"])


def statuses(endpoint: str) -> dict[str, int]:
    """How many jobs of the slow env have which status."""
    pages = client(endpoint, "dynamodb").get_paginator("scan").paginate(TableName=f"tinyllama-{SLOW}-jobs")
    found = [item["status"]["S"] for page in pages for item in page["Items"] if "job_id" in item]
    return {status: found.count(status) for status in set(found)}


def test_ctrl_c_cancels_the_job(asleep: Asleep) -> None:
    before = statuses(asleep.endpoint).get("cancelled", 0)
    chat = asleep.person.start("chat", LONG)
    assert chat.stdout is not None
    shown = chat.stdout.read(5)
    chat.send_signal(signal.SIGINT)
    said = ended(chat)
    assert said.code == 130
    assert shown == LONG[:5]
    assert said.err.rstrip().endswith("aistratus: stopped")
    after = eventually(lambda: statuses(asleep.endpoint), lambda found: found.get("cancelled", 0) == before + 1)
    assert after["cancelled"] == before + 1
    assert "running" not in after


def test_a_sleeping_node_is_woken_and_answers(asleep: Asleep) -> None:
    assert asleep.status.document["node"]["state"] == "stopped"
    assert (asleep.woken.code, asleep.woken.out) == (0, "awake?\n"), asleep.woken.words
    metrics = [line for line in asleep.person.run("logs", "router").out.splitlines() if "EC2Starts" in line]
    assert len(metrics) == 1
    line = json.loads(metrics[0].split(" ", 1)[1])
    assert (line["EC2Starts"], line["Reason"]) == (1, "ColdBoot")
    assert line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"] == "EC2Starts"


MANY = """
import os, sys
import aistratus.cli.operator, aistratus.cli.session, boto3, httpx, pydantic  # once, before there are many of us
from aistratus.cli.app import main
children = []
for number in range(int(sys.argv[2])):
    child = os.fork()
    if not child:
        file = os.open(f"{sys.argv[1]}/{number}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, 1)
        sys.argv = ["aistratus", "chat", "-o", "json", f"What is SQS, asked for the {number}. time?"]
        main()
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks to be cheap")
def test_twenty_at_once_are_each_answered_once(built: Built, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path), "20"],
        env=built.person.environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    replies = [json.loads(file.read_text()) for file in tmp_path.iterdir()]
    assert len({reply["job_id"] for reply in replies}) == 20
    assert all(reply["text"].strip() for reply in replies)
    queue = built.person.run("status", "-o", "json").document["queue"]
    assert queue == {"depth": 0, "in_flight": 0, "dead": 0}
    endings = [line for line in built.person.run("logs", "worker").out.splitlines() if '"job_done"' in line]
    mine = [line for line in endings if any(reply["job_id"] in line for reply in replies)]
    assert len(mine) == 20
