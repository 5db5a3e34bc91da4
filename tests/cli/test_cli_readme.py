"""The README can't rot: every command that it shows is run, in a home folder of its own, on an embedded cloud."""

from __future__ import annotations

import os
import re
import shlex
import socket

import pytest
from cli_parts import ROOT, Person, Said

pytestmark = pytest.mark.xdist_group("readme")

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "aistratus" / page for page in ("cli/json.md", "costs/README.md", "permissions/README.md")]
DOCS = [page.read_text(encoding="utf-8") for page in PAGES]
SCRIPTS = ["scripts/quickstart", "scripts/test"]
"""Whoever runs this test is inside the second; the first is install, `up` and `chat`."""
ENDS_WITH_TWO = "aistratus --env dev plan"
"""On an empty account: `plan` exits with 2 when there is something to do."""


def shown() -> list[str]:
    """Every command in the README's shell blocks, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)
    return [line for block in blocks for text in block.splitlines() if (line := _uncommented(text))]


def _uncommented(line: str) -> str:
    """`aistratus up   # build` as `aistratus up`, with its quotes as they are."""
    return line[: line.index("#")].rstrip() if "#" in " ".join(shlex.split(line, comments=False)) else line.rstrip()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_every_command_of_the_readme_works(tmp_path_factory: pytest.TempPathFactory) -> None:
    person = Person(tmp_path_factory.mktemp("reader"))
    commands = [command for command in shown() if command not in SCRIPTS]
    by_itself = [command for command in commands if command.startswith("aistratus local ")]
    on_aws = [command for command in commands if command.startswith("aistratus --env dev ")]
    every_day = [command for command in commands if command not in by_itself + on_aws]
    assert (every_day[0], every_day[-1]) == ("aistratus up", "aistratus down")
    start, *rest = by_itself

    said = {command: person.shell(command) for command in every_day}
    port = free_port()
    said[start] = person.shell(start.replace("--port 4599", f"--port {port}"))
    account = person.with_variables(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x"
    )
    said |= {command: account.shell(command) for command in on_aws}
    said |= {command: person.shell(command) for command in rest}

    assert {command: _ending(end) for command, end in said.items()} == {
        command: 2 if command == ENDS_WITH_TWO else 0 for command in commands
    }
    assert said[start].document["endpoint"] == f"http://127.0.0.1:{port}"
    assert "aistratus node stop" in said['aistratus chat "How do I stop the GPU?"'].out
    assert said['aistratus --env dev chat "Hello"'].out.strip()
    for last in ("aistratus down", "aistratus --env dev down"):
        assert "0 resources left, €0.00 a month" in said[last].out
    assert "stopped" in said["aistratus local stop"].out


def _ending(said: Said) -> int | str:
    return said.code if said.code in (0, 2) else said.words


def test_the_scripts_that_it_names_can_be_run() -> None:
    assert [command for command in shown() if command in SCRIPTS] == SCRIPTS
    assert all(os.access(ROOT / script, os.X_OK) for script in SCRIPTS)


def test_the_quickstart_runs_and_names_commands_that_the_readme_shows() -> None:
    script = (ROOT / "scripts/quickstart").read_text(encoding="utf-8")
    run = re.findall(r'^"\$aistratus" (\w+)', script, re.M)
    named = re.findall(r"^  aistratus (\w+)", script, re.M)
    known = {command.split()[1] for command in shown() if command.startswith("aistratus ")}
    assert run == ["up", "chat"]
    assert named and set(named) <= known


def test_every_file_that_a_page_links_to_exists() -> None:
    pages = [ROOT / "README.md", *PAGES]
    linked = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))]
    assert linked
    assert [link for page, link in linked if not (page.parent / link).exists()] == []


def test_every_option_that_it_names_exists(person: Person) -> None:
    groups = [[], ["up"], ["plan"], ["down"], ["status"], ["chat"], ["logs"], ["env", "export"], ["local", "start"],
              ["queue", "redrive"], ["iam", "policy"], ["cost"], ["cost", "prices"], ["login"], ["node", "launch"],
              ["node", "resize"]]  # fmt: skip
    known = set(re.findall(r"--[a-z][a-z-]+", " ".join(person.run(*group, "--help").out for group in groups)))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "".join([README, *DOCS]))) <= known
