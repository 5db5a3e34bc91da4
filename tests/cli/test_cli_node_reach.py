"""`aistratus node launch|ssh|logs`: the bootstrap script really runs on the embedded node, both ways."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import fastjsonschema
import pexpect
import pytest
from cli_parts import WITHIN_S, Person, Said, ended, program, session_plugin
from conftest import Built
from documents import ERROR, LAUNCH, NODE_COMMAND

from aistratus.cli.node_reach import ended as launch_ended
from aistratus.cli.node_shell import require_terminal
from aistratus.core.errors import UsageError
from aistratus.local import sshd
from aistratus.node.keys import public_key
from aistratus.node.launch import Step

pytestmark = pytest.mark.xdist_group("cli")

with_sshd = pytest.mark.skipif(sshd.program() is None, reason="OpenSSH's server isn't installed")


def keys(person: Person) -> Path:
    return person.home / ".local/share/aistratus/keys"


def machine(person: Person, instance: str) -> Path:
    """The folder that is the machine here; its files lie in `root`."""
    return person.home / ".local/state/aistratus/local/nodes" / instance


def launched(said: Said) -> dict[str, Any]:
    assert said.code == 0, said.words
    fastjsonschema.validate(LAUNCH, said.document)
    document: dict[str, Any] = said.document
    assert document["worker"]["model"] == document["answer"]["model"] == "aistratus-demo"
    assert document["worker"]["tokens_per_second"] > 0 and document["answer"]["text"]
    assert [step["name"] for step in document["steps"]] == ["system", "worker", "model", "service", "log"]
    return document


@with_sshd
def test_a_launch_ends_with_a_worker_that_answers_and_the_next_one_changes_nothing(built: Built) -> None:
    person = built.person
    first = launched(person.run("node", "launch", "--transport", "ssm", "-o", "json"))
    assert (first["transport"], first["changed"]) == ("ssm", True)
    pid = machine(person, first["instance"]) / "worker.pid"
    before = pid.read_text()

    said = person.run("node", "launch", "--transport", "ssh", "-o", "json")
    again = launched(said)
    assert (again["transport"], again["changed"]) == ("ssh", False)
    assert not [step for step in again["steps"] if step["changed"]]
    assert pid.read_text() == before  # nothing was restarted
    assert "the node was launched already: nothing was changed; its worker answers with aistratus-demo" in said.err

    # What somebody has taken away comes back by SSH alone, and the worker runs from it.
    person.run("node", "ssh", 'rm -rf "$NODE_ROOT/opt/aistratus/running" && systemctl stop aistratus-worker')
    by_ssh = launched(person.run("node", "launch", "--transport", "ssh", "-o", "json"))
    assert [step["name"] for step in by_ssh["steps"] if step["changed"]] == ["service"]


def test_a_launch_that_starts_the_machine_does_not_say_that_nothing_was_changed() -> None:
    kept, changed = Step("model", changed=False, seconds=1), Step("model", changed=True, seconds=1)
    assert launch_ended([kept], woken=False).endswith("nothing was changed")
    assert launch_ended([kept], woken=True).endswith("it was only started")
    assert launch_ended([kept, changed], woken=True) == launch_ended([changed], woken=False) == "the node is launched"


@pytest.mark.parametrize("way", ["ssm", pytest.param("ssh", marks=with_sshd)])
def test_a_command_on_the_node_tells_both_streams_and_its_status(built: Built, way: str) -> None:
    said = built.person.run("node", "ssh", "--transport", way, "echo out; echo err >&2; exit 4")
    assert (said.code, said.out) == (4, "out\n")
    assert said.err.splitlines()[-1] == "err"
    words = built.person.run("node", "ssh", "-o", "json", "--transport", way, "--", "printf", "%s;", "a b", "$c")
    fastjsonschema.validate(NODE_COMMAND, words.document)
    assert (words.document["stdout"], words.document["transport"]) == ("a b;$c;", way)


@with_sshd
def test_without_an_open_port_ssh_goes_through_a_session(built: Built, tmp_path: Path) -> None:
    plugin = session_plugin(tmp_path / "bin")
    path = f"{plugin}{os.pathsep}{built.person.environment['PATH']}"
    closed = built.person.with_variables(PATH=path, AISTRATUS_NODE__SSH_CIDR="none")
    assert closed.run("node", "ssh", "--transport", "ssh", "echo $NODE_ROOT").out.strip().endswith("/root")
    (plugin / "session-manager-plugin").write_text("#!/bin/sh\necho 1.2.497.0\n")
    said = closed.run("node", "ssh", "--transport", "ssh", "true")
    assert said.code == 2 and "is too old (1.2.497.0)" in said.err


@with_sshd
def test_another_host_key_is_refused_and_nothing_is_sent(built: Built, tmp_path: Path) -> None:
    assert built.person.run("node", "ssh", "--transport", "ssh", "true").code == 0
    (pins,) = keys(built.person).glob("*.hosts")
    assert pins.stat().st_mode & 0o777 == 0o600
    before = pins.read_text()
    instance, kind, _ = before.split()
    other_key = public_key("other", tmp_path).split()[1]
    pins.write_text(f"{instance} {kind} {other_key}\n")
    try:
        said = built.person.run("node", "ssh", "--transport", "ssh", "-o", "json", 'touch "$NODE_ROOT/never"')
        fastjsonschema.validate(ERROR, said.document)
        assert (said.code, said.document["error"]["kind"]) == (1, "host key")
        assert "shows another SSH host key" in said.err and str(pins) in said.document["error"]["todo"]
        assert pins.read_text().split()[2] == other_key  # never accepted by itself
    finally:
        pins.write_text(before)
    root = machine(built.person, instance) / "root"
    assert root.is_dir() and not (root / "never").exists()


@with_sshd
def test_a_shell_is_a_terminal_on_the_node(built: Built) -> None:
    person = built.person
    child: Any = pexpect.spawn(
        program(), ["node", "ssh"], env=person.environment, cwd=str(person.home), encoding="utf-8",
        timeout=WITHIN_S, dimensions=(30, 77),
    )  # fmt: skip
    child.sendline("stty size; echo in $(basename $NODE_ROOT)")
    child.expect_exact("30 77")
    child.expect_exact("in root")
    child.sendline("exit 3")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3


def test_logs_are_those_of_the_machine_and_can_be_followed(built: Built) -> None:
    two = built.person.run("node", "logs", "--lines", "2", "-o", "json")
    assert two.code == 0 and [set(json.loads(line)) for line in two.out.splitlines()] == [{"schema", "line"}] * 2
    following = built.person.start("node", "logs", "-f", "--lines", "1")
    assert following.stdout is not None
    assert following.stdout.readline()
    following.send_signal(signal.SIGINT)
    assert ended(following).code == 0


def test_what_keeps_us_out_is_one_sentence(built: Built, tmp_path: Path) -> None:
    person, saved = built.person, tmp_path / "key"
    (key,) = keys(person).glob("local.ed25519")
    shutil.move(key, saved)
    try:
        said = person.run("node", "ssh", "--transport", "ssh", "true")
    finally:
        shutil.move(saved, key)
    assert said.code == 2 and "this machine has no SSH key of env 'local'" in said.err
    nowhere = person.with_variables(AISTRATUS_NODE__SSH_PORT="1").run("node", "ssh", "--transport", "ssh", "true")
    assert nowhere.code == 1 and ":1 refuses the connection: the node i-" in nowhere.err


def test_a_shell_needs_a_terminal_and_says_so_before_it_connects(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = person.run("node", "ssh")  # nothing is up, and nothing is asked
    assert said.code == 2 and "a shell needs a terminal; name a command" in said.err
    monkeypatch.setitem(sys.modules, "termios", None)  # as on Windows
    with pytest.raises(UsageError, match="a shell needs a terminal as Unix has them"):
        require_terminal()
