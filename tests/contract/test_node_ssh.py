"""SSH to a node: a real OpenSSH server on the loopback, run by whoever runs the tests."""

from __future__ import annotations

import getpass
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from aistratus.core.errors import Failure, Interrupted
from aistratus.core.settle import RealClock
from aistratus.local.sshd import Sshd, program
from aistratus.node.host_keys import HostKeyChanged, HostKeys
from aistratus.node.keys import key_path, public_key
from aistratus.node.ssh import SshTransport, Way, direct
from aistratus.node.transport import TookTooLong, Unreachable

SSHD = program()
pytestmark = pytest.mark.skipif(SSHD is None, reason="OpenSSH's server isn't installed")

ENV, NODE = "t", "i-0123456789abcdef0"


class Movable(RealClock):
    """The machine's clock, which a test may set forward."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@dataclass(frozen=True)
class Place:
    """A server, a folder for the operator's keys, and what a connection needs."""

    server: Sshd
    folder: Path
    root: Path
    key: Path
    host_key: str
    clock: RealClock

    @property
    def way(self) -> Way:
        return direct(*self.server.listen, closed="open it")

    def transport(self, way: Way | None = None) -> SshTransport:
        return SshTransport(
            way or self.way, instance_id=NODE, user=getpass.getuser(), key=self.key,
            host_key=(self.host_key, self.folder / "pins"), clock=self.clock, root="",
        )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Path]]:
    folder = tmp_path_factory.mktemp("ssh") / 'in a "folder" 100%d'
    (folder / "root").mkdir(parents=True)
    assert SSHD is not None
    made = Sshd(
        sshd=SSHD, listen=("127.0.0.1", 0), folder=folder / "sshd", host_key=folder / "host_key",
        authorized=public_key(ENV, folder), root=folder / "root",
        environment={"PATH": os.environ["PATH"], "SAID": "it's", "HOME": str(folder)},
    )  # fmt: skip
    yield made, folder
    made.close()


@pytest.fixture
def place(server: tuple[Sshd, Path]) -> Place:
    made, folder = server
    kind, key, *_ = (folder / "host_key.pub").read_text().split()
    return Place(made, folder, folder / "root", key_path(ENV, folder), f"{kind} {key}", RealClock())


@pytest.fixture
def ssh(place: Place) -> Iterator[SshTransport]:
    connection = place.transport()
    yield connection
    connection.close()


def test_a_script_tells_both_streams_and_its_status(ssh: SshTransport, place: Place) -> None:
    done = ssh.run('echo "$SAID"; echo umlaut ä >&2; pwd; exit 7')
    assert (done.code, done.out, done.err) == (7, f"it's\n{place.root}\n", "umlaut ä\n")
    with pytest.raises(Failure, match="the test failed on the node with status 7: umlaut ä"):
        done.check("the test")
    assert len(ssh.run("head -c 300000 /dev/zero | tr '\\0' x").out) == 300_000


def test_a_script_is_heard_as_it_goes(ssh: SshTransport) -> None:
    heard: list[str] = []
    go_on = "mkfifo f; echo one; read -r _ <f; echo two >&2; rm f"

    def hear(piece: str) -> None:
        heard.append(piece)
        if "one" in piece:
            ssh.run("echo >f")

    assert ssh.run(go_on, heard=hear).out == "one\ntwo\n"
    assert "".join(heard) == "one\ntwo\n"


def test_a_file_arrives_whole_with_its_mode(ssh: SshTransport, place: Place) -> None:
    content = os.urandom(200_000)
    ssh.put(content, f"{place.root}/a b/c", mode=0o640)
    made = place.root / "a b/c"
    assert made.read_bytes() == content and stat.S_IMODE(made.stat().st_mode) == 0o640
    assert [file.name for file in made.parent.iterdir()] == ["c"]
    with pytest.raises(Failure, match="putting /dev/null/x failed"):
        ssh.put(b"x", "/dev/null/x")


def test_a_file_that_grows_is_followed(ssh: SshTransport, place: Place) -> None:
    log = place.root / "log"
    log.write_text("1\n2\n3\n")
    assert "".join(ssh.tail(str(log), lines=2)) == "2\n3\n"
    pieces = ssh.tail(str(log), lines=1, follow=True)
    seen = ""
    for piece in pieces:
        seen += piece
        if seen == "3\n":
            with log.open("a") as file:
                file.write("4\n")
        if seen == "3\n4\n":
            break


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("how", ["time", "ctrl-c", "connection"])
def test_what_is_ended_here_is_ended_there_with_all_that_it_started(place: Place, how: str) -> None:
    clock = Movable()
    ssh, pids = replace(place, clock=clock).transport(), []

    def hear(piece: str) -> None:
        pids.append(int(piece))
        if how == "time":
            clock.ahead = 3600
        if how == "ctrl-c":
            clock.stop.set()
        if how == "connection":
            ssh._connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    error = {"time": TookTooLong, "ctrl-c": Interrupted, "connection": Unreachable}[how]
    with pytest.raises(error):
        ssh.run("sleep 600 & echo $!; wait", within=600, heard=hear)
    assert gone(pids[0])
    ssh.close()


def test_a_host_key_that_is_not_the_pinned_one_is_refused_and_nothing_is_sent(place: Place, tmp_path: Path) -> None:
    keys = HostKeys(ENV, tmp_path)
    other = public_key("somebody-else", tmp_path)
    keys.pin(NODE, [" ".join(other.split()[:2])])
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    pinned = keys.pinned(NODE)
    assert pinned is not None
    with pytest.raises(HostKeyChanged) as refusal:
        replace(place, host_key=pinned).transport().run("touch never")
    assert "shows another SSH host key (SHA256:" in refusal.value.what
    assert not (place.root / "never").exists()
    with pytest.raises(HostKeyChanged, match="no SSH host key of the pinned kind"):
        replace(place, host_key="ssh-rsa AAAA").transport().run("touch never")


def silent() -> tuple[socket.socket, tuple[str, int]]:
    """Somebody who takes a connection and says nothing that SSH knows."""
    server = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        accepted, _ = server.accept()
        accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        accepted.close()

    threading.Thread(target=hang_up, daemon=True).start()
    return server, server.getsockname()


def unanswered(within: float) -> socket.socket:
    raise TimeoutError("timed out")


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda place: place.transport(direct("127.0.0.1", 1, closed="")), "127.0.0.1:1 refuses the connection"),
        (
            lambda place: place.transport(Way(connect=unanswered, place="192.0.2.1:22", closed="set node.ssh_cidr")),
            "192.0.2.1:22 hasn't answered within 10 s: .*; set node.ssh_cidr",
        ),
        (
            lambda place: replace(place, key=_other_key(place.folder)).transport(),
            "doesn't take this machine's key",
        ),
        (lambda place: place.transport(direct(*silent()[1], closed="")), "broke off"),
    ],
    ids=["refused", "timed-out", "wrong-key", "no-sshd"],
)
def test_what_keeps_us_out_is_one_sentence(
    place: Place, break_it: Callable[[Place], SshTransport], sentence: str
) -> None:
    with pytest.raises(Unreachable, match=sentence) as refusal:
        break_it(place).run("true")
    assert "\n" not in str(refusal.value)
    assert logging.getLogger("paramiko").handlers, "without one its thread prints a traceback beside the sentence"


def _other_key(folder: Path) -> Path:
    public_key("another", folder)
    return key_path("another", folder)
