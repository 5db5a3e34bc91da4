"""Ids as variables: whatever a value holds, bash, python-dotenv and GitHub read back the same."""

from __future__ import annotations

import io
import subprocess

import pytest
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st

from aistratus.cli.env import dotenv, github

VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20)
QUOTES = ["it's", 'say "x"', "'\\'", "a\\b", "a\nb", "two words"]
HARD = [*QUOTES, "", "plain", "$HOME `id` $(id)", "#no", "!x", "a=b", "é — 😀"]


def by_bash(lines: str, names: list[str]) -> list[str]:
    script = f"set -a\n{lines}\nprintf '%s\\0' " + " ".join(f'"${name}"' for name in names)
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


@settings(max_examples=20, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30))
def test_bash_reads_back_every_value(values: list[str]) -> None:
    names = [f"V{number}" for number in range(len(values))]
    assert by_bash("\n".join(map(dotenv, names, values)), names) == values


@pytest.mark.parametrize("value", HARD)
def test_python_dotenv_and_bash_agree(value: str) -> None:
    line = dotenv("V", value)
    assert by_bash(line, ["V"]) == [value]
    assert dotenv_values(stream=io.StringIO(line + "\n"), interpolate=False) == {"V": value}


@given(VALUES.filter(lambda value: "\x85" not in value), VALUES)
def test_github_can_not_be_given_a_second_variable(value: str, end: str) -> None:
    lines = github("V", f"{value}\n{end}\nAISTRATUS_END\nEVIL=1").split("\n")
    name, _, delimiter = lines[0].partition("<<")
    assert (name, lines[-1]) == ("V", delimiter)
    assert delimiter not in "\n".join(lines[1:-1])
    assert github("V", "plain") == "V=plain"
