"""What `aistratus env export` prints, bash, python-dotenv and a GitHub workflow read back the same."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import github_env_file
import pytest
from dotenv import dotenv_values, load_dotenv
from hypothesis import given, settings
from hypothesis import strategies as st

from aistratus.cli.env import dotenv, github

VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r") | st.sampled_from("\"'\\$`#{}() \n=<>!~*;&|"), max_size=20
)
"""No NUL, which no environment can hold, and no carriage return, which Python takes for a line's end in any file."""

HARD = [
    "", "plain", "two words", " at both ends ", "a\ttab", "a\nb", "\n", "a\n\nb\n", "#no comment", "a #b", "a=b", "=",
    "it's", 'say "x"', "'\\'", "a\\b", "a\\", "\\\\n", "\\n", "\\$HOME", "$", "$HOME", "${HOME}", "${HOME:-x}", "$$",
    "`id`", "$(id)", "`it's`", "it's $HOME and `id`", "'${HOME}'", '"$HOME"', "!x", "it's!", "~", "*", "a;b", "a&b",
    "<<EOF", "a<<b", "AISTRATUS_END", "AISTRATUS_END\nEVIL=1", "é — 😀", "'", '"', "`", "\\`", "'`$`'",
]  # fmt: skip


def by_bash(lines: str, names: list[str], **variables: str) -> list[str]:
    """What a shell that sources a file of these lines exports."""
    script = 'set -eu; set -a; . /dev/stdin; set +a; for name in "$@"; do printenv -0 "$name"; done'
    environment = {"PATH": os.environ["PATH"], "HOME": "/home/somebody", **variables}
    done = subprocess.run(
        ["bash", "-c", script, "bash", *names], input=lines.encode(), capture_output=True, env=environment, check=True
    )
    return done.stdout.decode().split("\0")[:-1]


def exported(values: list[str]) -> tuple[list[str], str]:
    """Names, and the export of variables with these values."""
    names = [f"TINYLLAMA_V{number}_ID" for number in range(len(values))]
    return names, "".join(f"{line}\n" for line in map(dotenv, names, values))


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30))
def test_bash_and_python_dotenv_read_back_every_value(values: list[str]) -> None:
    names, text = exported(values)
    assert by_bash(text, names) == values
    assert dotenv_values(stream=io.StringIO(text)) == dict(zip(names, values, strict=True))


def test_they_read_back_the_hard_ones_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, text = exported(HARD)
    wanted = dict(zip(names, HARD, strict=True))
    file = tmp_path / "ids"
    file.write_text(text, encoding="utf-8")
    assert by_bash(f". {file}\n", names) == HARD
    assert dotenv_values(file) == wanted
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load_dotenv(file)
    assert {name: os.environ[name] for name in names} == wanted
    for name in names:
        monkeypatch.delenv(name)


def test_old_values_in_the_environment_do_not_get_into_new_ones() -> None:
    names, text = exported(["`it's`", "${HOME}"])
    assert by_bash(text, names, **dict.fromkeys(names, "old")) == ["`it's`", "${HOME}"]


@pytest.mark.parametrize("value", [value for value in HARD if "${" not in value and not {"'", "\\"} & set(value)])
def test_a_reader_that_expands_nothing_gets_it_too(value: str) -> None:
    assert dotenv_values(stream=io.StringIO(dotenv("V", value) + "\n"), interpolate=False) == {"V": value}


def by_github(variables: Mapping[str, str]) -> dict[str, str]:
    return github_env_file.read("".join(f"{github(name, value)}\n" for name, value in variables.items()))


@given(st.lists(VALUES | st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=20))
def test_a_workflow_reads_back_every_value_and_no_other_variable(values: list[str]) -> None:
    variables = {f"TINYLLAMA_V{number}_ID": value for number, value in enumerate(values)}
    assert by_github(variables) == variables


@given(st.lists(st.sampled_from([*HARD, "AISTRATUS_END_", "EVIL=1", "EVIL<<X", "X"]), max_size=8))
def test_a_workflow_can_not_be_given_a_second_variable(lines: list[str]) -> None:
    assert by_github({"V": "\n".join(lines), "W": "w"}) == {"V": "\n".join(lines), "W": "w"}


def test_the_reader_of_workflow_files_knows_the_documented_forms() -> None:
    documented = "action_state=yellow\n\nJSON_RESPONSE<<EOF\nline 1\n\nEOF=\n EOF\nEOF\nA=b=c<<d\nEMPTY<<E\nE\n"
    assert github_env_file.read(documented) == {
        "action_state": "yellow",
        "JSON_RESPONSE": "line 1\n\nEOF=\n EOF",
        "A": "b=c<<d",
        "EMPTY": "",
    }
    for wrong in ("neither", "=x", "<<E\nE", "A<<", "A<<E\nx"):
        with pytest.raises(github_env_file.Malformed):
            github_env_file.read(wrong)
