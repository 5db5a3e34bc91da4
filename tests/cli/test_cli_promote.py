"""`aistratus env promote`: shown first, asked at a terminal, written in one step, told in a sentence when it can't be.

It needs no cloud.
"""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import fastjsonschema
import pexpect
import pytest
from cli_parts import Person, ended, program
from documents import ERROR, PROMOTE

BEFORE = """\
# The team's file.
region = "eu-west-1"  # Dublin

[envs.dev]  # where we try things
profile = "dev-account"
node.cpu_type = "t3.medium"  # was too small
node.volume_gib = 20

[envs.qa.api]
log_days = 90  # auditors
"""

AFTER = BEFORE + '\n[envs.qa.node]\ncpu_type = "t3.medium"\n'


@pytest.fixture
def team(person: Person) -> Person:
    (person.home / "aistratus.toml").write_text(BEFORE)
    return person


def text(person: Person) -> str:
    assert [path.name for path in person.home.glob("*aistratus.toml*")] == ["aistratus.toml"]
    return (person.home / "aistratus.toml").read_text()


def test_the_difference_is_shown_and_written_and_the_rest_stays(team: Person) -> None:
    (team.home / "aistratus.toml").chmod(0o640)
    said = team.run("env", "promote", "dev", "qa")
    assert said.code == 0
    assert "~ node.cpu_type: t3.small → t3.medium\n" in said.out
    assert "volume_gib" not in said.out, "both have 20, one by default"
    assert "profile names something of dev's own and stays there" in said.out
    assert text(team) == AFTER
    assert stat.S_IMODE((team.home / "aistratus.toml").stat().st_mode) == 0o640
    again = team.run("env", "promote", "dev", "qa", "-o", "json")
    fastjsonschema.validate(PROMOTE, again.document)
    assert (again.document["changes"], again.document["ids"]) == ([], ["profile"])
    assert "nothing to do" in again.err
    assert text(team) == AFTER


def test_programs_get_the_difference_and_one_setting_can_be_chosen(team: Person) -> None:
    wanted = ["--only", "node.cpu_type", "-o", "json"]
    said = team.run("env", "promote", "dev", "new", *wanted)
    fastjsonschema.validate(PROMOTE, said.document)
    assert said.document["changes"] == [{"setting": "node.cpu_type", "old": "t3.small", "new": "t3.medium"}]
    assert tomllib.loads(text(team))["envs"]["new"] == {"node": {"cpu_type": "t3.medium"}}


@pytest.mark.parametrize(("answer", "code", "after"), [("y", 0, AFTER), ("n", 130, BEFORE), ("", 130, BEFORE)])
def test_at_a_terminal_it_asks(team: Person, answer: str, code: int, after: str) -> None:
    child: Any = pexpect.spawn(
        program(), ["env", "promote", "dev", "qa"], env=team.environment, cwd=str(team.home), timeout=60,
        encoding="utf-8",
    )  # fmt: skip
    child.expect("t3.small → t3.medium")
    child.expect(r"Write 1 settings to \[envs.qa\]\? \[y/N\]")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, text(team)) == (code, after)


@pytest.mark.parametrize(("answer", "code", "after"), [("y", 0, AFTER), ("n", 130, BEFORE)])
def test_a_terminal_is_asked_too_when_the_result_is_json_and_goes_elsewhere(
    team: Person, answer: str, code: int, after: str
) -> None:
    keyboard, terminal = os.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    said = ended(team.start("env", "promote", "dev", "qa", "-o", "json", stdin=terminal))
    os.close(terminal)
    os.close(keyboard)
    assert "Write 1 settings to [envs.qa]? [y/N]" in said.err
    assert (said.code, text(team)) == (code, after)
    assert said.document["schema"] == 1


def test_with_yes_it_does_not_ask(team: Person) -> None:
    child: Any = pexpect.spawn(
        program(), ["env", "promote", "dev", "qa", "--yes"], env=team.environment, cwd=str(team.home), timeout=60
    )
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, text(team)) == (0, AFTER)


@pytest.mark.parametrize(
    ("content", "arguments", "told"),
    [
        (None, ("dev", "qa"), "there is no aistratus.toml here or in a folder above; `aistratus init` writes one"),
        (None, ("dev", "qa", "--config", "x.toml"), "the settings file x.toml doesn't exist"),
        (BEFORE, ("nope", "qa"), "has no table [envs.nope]; it has tables for dev, qa"),
        ("[node]\n", ("dev", "qa"), "has no table [envs.dev]; it has tables for no env"),
        (BEFORE, ("dev", "dev"), "dev can't be promoted to itself"),
        (BEFORE, ("dev", "Not_A_Name"), "an env's name has 1 to 16"),
        (BEFORE, ("dev", "qa", "--only", "node.type"), "[envs.dev] has no node.type; it has profile, node.cpu_type"),
        (BEFORE, ("dev", "qa", "--only", "profile"), "profile names something of dev's own and can't be promoted"),
        ("[envs.dev]\nx = \n", ("dev", "qa"), "isn't valid TOML"),
        ('[envs.dev.model]\nurl = "https://a"\nsha256 = "' + "0" * 64 + '"\n',
         ("dev", "qa", "--only", "model.url"), "nothing was changed: wrong setting model"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_one_sentence(
    person: Person, content: str | None, arguments: tuple[str, ...], told: str
) -> None:
    file: Path = person.home / "aistratus.toml"
    if content is not None:
        file.write_text(content)
    said = person.run("env", "promote", *arguments, "-o", "json")
    fastjsonschema.validate(ERROR, said.document)
    assert (said.code, said.document["error"]["kind"]) == (2, "usage")
    assert told in said.err
    assert said.err.startswith("aistratus: ") or told.startswith("nothing was changed")
    assert [path.name for path in person.home.glob("*aistratus.toml*")] == ([file.name] if content else [])
    assert content is None or file.read_text() == content
