"""Global options may stand anywhere on the command line; a command line for help costs no AWS SDK."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistratus.cli.app import tell
from aistratus.cli.options import SWITCHES, WITH_VALUE, in_order
from aistratus.core.errors import Absent


@pytest.mark.parametrize(
    ("typed", "ordered"),
    [
        ("plan -o json", "--output json plan"),
        ("-o json plan", "--output json plan"),
        ("plan -ojson", "--output json plan"),
        ("plan --output=json", "--output json plan"),
        ("-e dev up --only vpc -y", "--env dev --yes up --only vpc"),
        ("status -qv", "--quiet --verbose status"),
        ("chat -c -q hello", "--quiet chat -c hello"),
        ("chat -- -o json", "chat -- -o json"),
        ("logs router -f", "logs router -f"),
        ("plan -o", "plan -o"),
        ("chat --only-this", "chat --only-this"),
    ],
)
def test_global_options_come_first(typed: str, ordered: str) -> None:
    assert in_order(typed.split()) == ordered.split()


OPTIONS = st.one_of(
    st.sampled_from(sorted(SWITCHES)).map(lambda name: [name]),
    st.tuples(st.sampled_from(sorted(WITH_VALUE)), st.sampled_from(["dev", "json", "-x"])).map(list),
)


WORDS = st.lists(st.sampled_from(["up", "hello", "--plan", "-c"]))


@given(before=st.lists(OPTIONS), after=st.lists(OPTIONS), words=WORDS)
def test_before_and_after_the_command_mean_the_same(
    before: list[list[str]], after: list[list[str]], words: list[str]
) -> None:
    first, last = [word for option in before for word in option], [word for option in after for word in option]
    assert in_order([*first, *words, *last]) == in_order([*first, *last, *words])
    assert in_order(in_order([*first, *words])) == in_order([*first, *words])


HELP = """
import contextlib, io, sys
from aistratus.cli.app import main
sys.argv = ["aistratus", *sys.argv[1:]]
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
assert "Usage" in out.getvalue()
heavy = {"boto3", "botocore", "moto", "pydantic_settings", "httpx", "paramiko", "jose"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_imports_nothing_heavy() -> None:
    groups = (["--help"], ["up", "--help"], ["chat", "-h"], ["env", "export", "--help"], ["local", "start", "--help"])
    running = [
        subprocess.Popen([sys.executable, "-c", HELP, *group], stderr=subprocess.PIPE, text=True) for group in groups
    ]
    assert {" ".join(group): one.communicate()[1] for group, one in zip(groups, running, strict=True)} == {
        " ".join(group): "" for group in groups
    }


def test_no_help_text_is_swallowed_as_markup() -> None:
    """Typer has rich read help texts, and rich takes `[default: local]` for a tag, which isn't shown."""
    import typer.main

    from aistratus.cli.app import app

    def helps(command: Any) -> Iterator[str]:
        yield from (str(text) for text in (command.help, command.epilog, command.short_help) if text)
        yield from (param.help for param in command.params if getattr(param, "help", None))
        for below in getattr(command, "commands", {}).values():
            yield from helps(below)

    assert [text for text in helps(typer.main.get_command(app)) if re.search(r"\[[a-z#/@]", text)] == []


def test_a_hint_means_the_env_that_the_call_has_named(capsys: pytest.CaptureFixture[str]) -> None:
    absent = Absent("env 'dev' isn't up", todo="`aistratus up` builds it")
    assert tell(absent, in_order(["smoke", "-edev"])) == 6
    assert capsys.readouterr().err == "aistratus: env 'dev' isn't up; `aistratus --env dev up` builds it\n"
    tell(absent, in_order(["smoke"]))
    assert capsys.readouterr().err.endswith("; `aistratus up` builds it\n")
