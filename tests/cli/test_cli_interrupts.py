"""Ctrl-C in the middle of `up`, and a cloud that dies: nothing is done twice, and a person is told how things stand."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from cli_parts import Person, Said, ended, eventually

pytestmark = pytest.mark.xdist_group("interrupts")

GONE = "the embedded cloud is not running; its state is gone; `aistratus up` builds it again"


@dataclass(frozen=True)
class Story:
    """An `up` that was interrupted, the next one, one more, and what they asked of AWS."""

    person: Person
    interrupted: Said
    continued: Said
    again: Said
    created: Counter[str]


def interrupted_up(person: Person, trace: Path) -> Said:
    """Ctrl-C as soon as the first resource is there."""
    up = person.start("up", "--trace", str(trace))
    assert up.stdout is not None
    seen = ""
    while not seen.endswith(" s\n"):
        line = up.stdout.readline()
        assert line, "it ended before anything was made"
        seen += line
    up.send_signal(signal.SIGINT)
    said = ended(up)
    return Said(said.code, seen + said.out, said.err)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    person = Person(tmp_path_factory.mktemp("hasty"))
    trace = person.home / "trace"
    assert person.run("local", "start").code == 0
    interrupted = interrupted_up(person, trace)
    continued = person.run("up", "-o", "json", "--trace", str(trace))
    again = person.run("up", "-o", "json")
    calls = [json.loads(line) for line in trace.read_text().splitlines()]
    created = Counter(
        f"{call['operation']} {json.dumps(call['resources'], sort_keys=True)}"
        for call in calls
        if call["operation"].startswith(("Create", "Run")) and call["error"] is None
    )
    yield Story(person, interrupted, continued, again, created)
    assert person.run("down").code == 0


def test_ctrl_c_ends_up_and_says_what_is_done_and_what_is_not(story: Story) -> None:
    assert story.interrupted.code == 130
    assert "letting calls in flight end" in story.interrupted.err
    last = story.interrupted.err.splitlines()[-1]
    assert last.startswith("aistratus: interrupted: ")
    assert last.endswith("); `aistratus up` continues where this ended")
    undone = {entry["key"] for entry in story.continued.document["resources"] if entry["action"] == "create"}
    assert undone, "it was stopped in the middle"
    assert set(last.partition("(")[2].partition(")")[0].split(", ")) == undone


def test_the_next_up_continues(story: Story) -> None:
    assert story.continued.code == 0
    actions = Counter(entry["action"] for entry in story.continued.document["resources"])
    assert set(actions) == {"create", "unchanged"}, "what was done is kept, the rest is made"
    assert {entry["action"] for entry in story.again.document["resources"]} == {"unchanged"}
    assert story.again.document["calls"]["write"] == 0


def test_nothing_is_made_twice(story: Story) -> None:
    single = {call: number for call, number in story.created.items() if "Vpc" in call or "Subnet" in call}
    actions = [entry for entry in story.continued.document["resources"] if entry["kind"] in ("Vpc", "Subnet")]
    made = sum(number for call, number in single.items() if call.startswith(("CreateVpc ", "CreateSubnet ")))
    assert made == len(actions) == 4
    assert story.created["RunInstances {}"] <= 1


def test_a_cloud_that_died_is_told_once_and_built_again(story: Story) -> None:
    person = story.person
    cloud = psutil.Process(person.run("local", "start", "-o", "json").document["pid"])
    cloud.kill()
    assert eventually(lambda: not cloud.is_running() or cloud.status() == psutil.STATUS_ZOMBIE)
    told = person.run("status")
    assert (told.code, told.err.strip()) == (6, GONE)
    assert "local is absent" in told.out
    chat = person.run("chat", "hello")
    assert (chat.code, chat.err) == (6, "aistratus: env 'local' isn't up; `aistratus up` builds it\n")


def test_up_says_when_it_begins_anew_after_a_crash(story: Story) -> None:
    person = story.person
    for command, code in (("chat", 6), ("up", 0)):
        cloud = psutil.Process(person.run("local", "start", "-o", "json").document["pid"])
        cloud.kill()
        assert eventually(lambda cloud=cloud: not cloud.is_running() or cloud.status() == psutil.STATUS_ZOMBIE)
        said = person.run(command, *(["hello"] if command == "chat" else ["--only", "vpc"]))
        assert said.code == code
        assert "its state is gone" in said.err
