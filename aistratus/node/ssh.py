"""The SSH transport: streams output, and needs network access to the node and this machine's key.

The connection is paramiko's. The host key is compared with the pinned one before anything is sent, and no key is
accepted on first use (`host_keys.py`). A script runs under a small wrapper on the node that ends everything the script
has started when the channel closes, be it by Ctrl-C, a time-out or a broken connection; sshd alone would let it run on.
"""

from __future__ import annotations

import codecs
import hashlib
import logging
import shlex
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aistratus.core.errors import Failure, Interrupted
from aistratus.core.settle import Clock
from aistratus.node.host_keys import changed
from aistratus.node.transport import RUN_WITHIN_S, Done, Heard, TookTooLong, Unreachable, on_node, put_script

if TYPE_CHECKING:
    import paramiko

CONNECT_S: Final = 10.0
"""A machine that runs answers within a fraction of it; a firewall doesn't answer at all."""
HANDSHAKE_S: Final = 30.0
"""Banner, key exchange and sign-in each: a small machine under load takes seconds."""
KEEPALIVE_S: Final = 15
"""Firewalls and NAT forget a silent connection, some after a minute; without an answer for long it has broken off."""
LOOK_EVERY_S: Final = 0.02
READ: Final = 32_768

ROOT: Final = "sudo -n "
"""How the image's user becomes root without being asked. Source: Amazon Linux user guide, "ec2-user" may use sudo."""

LEASH: Final = """exec 3<&0
setsid bash -c "$1" </dev/null 3<&- & child=$!
{ read -r -u 3 _; kill -TERM -- "-$child"; sleep 2; kill -KILL -- "-$child"; } >/dev/null 2>&1 & watch=$!
exec 3<&-
wait "$child"; code=$?
kill "$watch" 2>/dev/null
exit "$code"
"""
"""`$1` in a session of its own, ended when stdin closes."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a connection to sshd comes about.

    connect: gives a connected socket, within the seconds that it is told.
    place: where that leads, for people.
    closed: what to do about it if nobody answers there.
    """

    connect: Callable[[float], socket.socket]
    place: str
    closed: str


def direct(host: str, port: int, *, closed: str) -> Way:
    """Straight to an address."""
    return Way(
        connect=lambda within: socket.create_connection((host, port), within), place=f"{host}:{port}", closed=closed
    )


class SshTransport:
    """One connection to the node's sshd, made when it is first needed.

    Args:
        key: this machine's private key for the env.
        host_key: the pinned key as `type base64`, and the file it is pinned in.
        root: what stands before a command so that root runs it.
    """

    name = "ssh"

    def __init__(
        self,
        way: Way,
        *,
        instance_id: str,
        user: str,
        key: Path,
        host_key: tuple[str, Path],
        clock: Clock,
        root: str = ROOT,
    ) -> None:
        self._way, self._instance, self._user, self._key = way, instance_id, user, key
        self._host_key, self._pinned_in = host_key
        self._clock, self._root = clock, root
        self._connection: paramiko.Transport | None = None

    def run(self, script: str, *, within: float = RUN_WITHIN_S, heard: Heard | None = None) -> Done:
        """See `Transport.run`."""
        out: list[str] = []
        err: list[str] = []
        if heard is None:
            return Done(self.stream(script, out.append, err.append, within=within), "".join(out), "".join(err))

        def hear(piece: str) -> None:
            out.append(piece)
            heard(piece)

        return Done(self.stream(script, hear, None, within=within), "".join(out), "")

    def stream(self, script: str, out: Heard, err: Heard | None, *, within: float = RUN_WITHIN_S) -> int:
        """As `run`, with both streams told as they come; without `err` they are one. Gives the exit status."""
        channel = self._begin(f"bash -c {shlex.quote(LEASH)} leash {shlex.quote(script)}", joined=err is None)
        return self._follow(channel, out, err or out, within)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """See `Transport.put`."""
        script = put_script(path, hashlib.sha256(content).hexdigest(), mode, "cat")
        channel = self._begin(f"bash -c {shlex.quote(script)}")
        channel.settimeout(HANDSHAKE_S)
        err: list[str] = []
        try:
            channel.sendall(content)
            channel.shutdown_write()
        except OSError:
            pass  # it ended early: its status and its words say why
        code = self._follow(channel, err.append, err.append, RUN_WITHIN_S)
        Done(code, "", "".join(err)).check(f"putting {path}")

    def tail(self, path: str, *, lines: int = 100, follow: bool = False) -> Iterator[str]:
        """See `Transport.tail`."""
        how = "--retry -F" if follow else ""
        script = f"touch -c {on_node(path)}; exec tail -n {lines} {how} {on_node(path)} 2>/dev/null"
        channel = self._begin(f"bash -c {shlex.quote(LEASH)} leash {shlex.quote(script)}")
        pieces: list[str] = []
        for _ in self._steps(channel, pieces.append, lambda piece: None, None):
            yield from pieces
            pieces.clear()
        yield from pieces

    def shell(self, terminal: str, columns: int, rows: int) -> paramiko.Channel:
        """A login shell of the image's user at a terminal of this kind and size."""
        import paramiko

        try:
            channel = self._connected().open_session(timeout=HANDSHAKE_S)
            channel.get_pty(terminal, columns, rows)
            channel.invoke_shell()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._broken(error) from error
        return channel

    def close(self) -> None:
        """Ends the connection, and with it whatever runs."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- a command --------------------------------------------------------------------------------------------

    def _begin(self, command: str, *, joined: bool = False) -> paramiko.Channel:
        import paramiko

        try:
            channel = self._connected().open_session(timeout=HANDSHAKE_S)
            channel.set_combine_stderr(joined)
            # A shell's line is what the caller gives.
            channel.exec_command(self._root + command)  # nosec B601
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._broken(error) from error
        return channel

    def _follow(self, channel: paramiko.Channel, out: Heard, err: Heard, within: float) -> int:
        """The command's exit status, after all that it wrote was told."""
        for _ in self._steps(channel, out, err, within):
            pass
        return channel.recv_exit_status()

    def _steps(self, channel: paramiko.Channel, out: Heard, err: Heard, within: float | None) -> Iterator[None]:
        """Tells what comes until the command has ended; a step after each pause."""
        readers = (
            _Reader(channel.recv_ready, channel.recv, out),
            _Reader(channel.recv_stderr_ready, channel.recv_stderr, err),
        )
        deadline = None if within is None else self._clock.now() + within
        try:
            while True:
                ended = channel.exit_status_ready() or channel.closed  # before the last look: nothing comes after that
                if sum(reader.read() for reader in readers):
                    yield
                    continue
                if ended and (channel.eof_received or channel.closed):
                    break
                if deadline is not None and self._clock.now() > deadline:
                    raise TookTooLong(f"the script on the node was ended after {within:.0f} s")
                self._clock.wait(LOOK_EVERY_S)
                yield
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted("interrupted; the script on the node was ended") from None
        finally:
            if not channel.exit_status_ready():
                channel.close()  # the leash ends the script
        if channel.exit_status < 0:  # so paramiko says that it was never told one
            raise self._broken(EOFError("it told no exit status"))

    # --- the connection ---------------------------------------------------------------------------------------

    def _connected(self) -> paramiko.Transport:
        if self._connection is None or not self._connection.is_active():
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> paramiko.Transport:
        import paramiko

        connection = self._handshake()
        try:
            connection.auth_timeout = HANDSHAKE_S
            connection.auth_publickey(self._user, paramiko.Ed25519Key.from_private_key_file(str(self._key)))
        except paramiko.AuthenticationException as error:
            connection.close()
            raise Unreachable(
                f"the node {self._instance} doesn't take this machine's key ({self._key}) for {self._user}: it was "
                "made with the key of another machine, or of another user",
                todo="bring that key here, use `--transport ssm`, or have `aistratus up --replace` recreate the node",
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            connection.close()
            raise self._broken(error) from error
        connection.set_keepalive(KEEPALIVE_S)
        return connection

    def _handshake(self) -> paramiko.Transport:
        """A connection whose other end has proved to hold the pinned host key.

        Raises:
            Unreachable: nobody answers, or no sshd does.
            HostKeyChanged: it has another key.
        """
        import paramiko

        # Its thread would print a traceback of what is told here in a sentence.
        if not (log := logging.getLogger("paramiko")).handlers:
            log.addHandler(logging.NullHandler())
        try:
            sock = self._way.connect(CONNECT_S)
        except ConnectionRefusedError as error:
            raise Unreachable(
                f"{self._way.place} refuses the connection: the node {self._instance} runs no sshd there",
                todo="a machine that has just started needs half a minute; `--transport ssm` needs no sshd",
            ) from error
        except TimeoutError as error:
            raise Unreachable(
                f"{self._way.place} hasn't answered within {CONNECT_S:.0f} s: something on the way keeps it back",
                todo=self._way.closed,
            ) from error
        except OSError as error:
            raise Unreachable(
                f"{self._way.place} can't be reached: {error.strerror or error}", todo=self._way.closed
            ) from error
        connection: paramiko.Transport | None = None
        try:
            connection = paramiko.Transport(sock)
            connection.banner_timeout = connection.handshake_timeout = HANDSHAKE_S
            # Just the kinds of signature that the pinned key makes: a server with several keys shows that one.
            options = connection.get_security_options()
            options.key_types = [kind for kind in options.key_types if kind in _signatures(self._host_key)]
            connection.start_client(timeout=HANDSHAKE_S)
            shown = connection.get_remote_server_key()
        except paramiko.SSHException as error:
            _close(connection, sock)
            if "no acceptable host key" in str(error).lower():
                raise self._another_kind() from error
            raise self._broken(error) from error
        except (OSError, EOFError) as error:
            _close(connection, sock)
            raise self._broken(error) from error
        told = f"{shown.get_name()} {shown.get_base64()}"
        if told != self._host_key:
            connection.close()
            raise changed(self._instance, self._host_key, told, self._pinned_in)
        return connection

    def _another_kind(self) -> Failure:
        from aistratus.node.host_keys import HostKeyChanged

        return HostKeyChanged(
            f"the node {self._instance} has no SSH host key of the pinned kind ({self._host_key.split()[0]}) any more: "
            "somebody may stand between you and it, so nothing was sent",
            todo=f"if you know why, take its line out of {self._pinned_in}: the next connection asks AWS for its keys",
        )

    def _broken(self, error: BaseException) -> Unreachable:
        why = str(error) or type(error).__name__
        return Unreachable(
            f"the SSH connection to {self._way.place} broke off: {why}",
            todo="run the command again; a machine that has just started may not be ready for it",
        )


class _Reader:
    """One stream of a channel, as text."""

    def __init__(self, ready: Callable[[], bool], receive: Callable[[int], bytes], hear: Heard) -> None:
        self._ready, self._receive, self._hear = ready, receive, hear
        self._text = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def read(self) -> bool:
        """Was there something?"""
        if not self._ready():
            return False
        if piece := self._text.decode(self._receive(READ)):
            self._hear(piece)
        return True


def _signatures(key: str) -> tuple[str, ...]:
    kind = key.split()[0]
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


def _close(connection: Any, sock: socket.socket) -> None:
    if connection is not None:
        connection.close()
    sock.close()
