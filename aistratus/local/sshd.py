"""A real OpenSSH server for each running node, where this computer has one.

Each node has its own loopback address (on Linux all of 127.0.0.0/8 is this computer), so that all nodes can use the
same port; DescribeInstances returns the address. The server runs as the user of the embedded cloud and accepts only
that user, with the key pair that the instance was started with. Commands run in the node's folder with the node's
environment, like those of Systems Manager. Each connection has an `sshd -i` of its own.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import logging
import os
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

log = logging.getLogger(__name__)

BEGIN, END = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"
"""Between these lines cloud-init prints a machine's host keys to its console. Source: its "Keys to Console"."""
PORT: Final = 22_022
"""Ordinary users may listen there."""
KNOWN_PLACES: Final = os.pathsep.join((os.defpath, "/usr/sbin", "/usr/local/sbin", "/sbin"))

_CONFIGURATION: Final = """HostKey {host_key}
AuthorizedKeysFile {authorized}
AllowUsers {user}
ForceCommand {session}
SetEnv SHLVL=2
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding no
AllowAgentForwarding no
PrintMotd no
PrintLastLog no
PidFile none
ClientAliveInterval 15
"""
"""With SHLVL bash doesn't take itself for a remote login, which would read what the computer's user has in .bashrc."""
_SESSION: Final = """#!/bin/sh
{exports}
cd {root} || exit 1
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then exec /bin/bash -c "$SSH_ORIGINAL_COMMAND"; fi
exec /bin/bash
"""


def program() -> str | None:
    """OpenSSH's server, which is mostly in a folder that isn't on an ordinary user's PATH."""
    return shutil.which("sshd", path=os.pathsep.join((os.environ.get("PATH", ""), KNOWN_PLACES)))


def user() -> str:
    """Whoever runs this: nobody else can sign in at a server that isn't root's."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a number without a name, as in some containers
        return str(os.getuid())


def address(instance_id: str) -> str:
    """The node's own loopback address."""
    first, second, third = hashlib.sha256(instance_id.encode()).digest()[:3]
    return f"127.{64 + first % 128}.{second}.{1 + third % 254}"


def _quoted(path: Path) -> str:
    """A path as `sshd_config` takes it: on macOS the user's state folder has a space in it ("Application Support")."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Sshd:
    """Listens until it is closed.

    Args:
        folder: for its configuration; `host_key` may be there already, from an earlier life of the node.
        authorized: public keys in OpenSSH's form, a line each.
        environment, root: what commands get, and where they start.

    Raises:
        OSError: the address can't be listened at, or the files can't be made.
    """

    def __init__(
        self,
        *,
        sshd: str,
        listen: tuple[str, int],
        folder: Path,
        host_key: Path,
        authorized: str,
        environment: Mapping[str, str],
        root: Path,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_host_key(host_key)
        (folder / "authorized_keys").write_text(authorized)
        session = folder / "session"
        exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items())
        session.write_text(_SESSION.format(exports=exports, root=shlex.quote(str(root))))
        session.chmod(0o700)
        configuration = folder / "sshd_config"
        configuration.write_text(
            _CONFIGURATION.format(
                host_key=_quoted(host_key),
                authorized=_quoted(folder / "authorized_keys").replace("%", "%%"),  # or it stands for a token
                user=user(),
                session=shlex.quote(str(session)),  # the rest of the line is a command for the shell
            )
        )
        if os.geteuid() == 0:  # it insists on this folder then; packages leave its making to the service
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._command = [sshd, "-i", "-e", "-f", str(configuration)]
        self._log = folder / "log"
        self._connections: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(listen)
        self.listen: tuple[str, int] = self._listening.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True, name=f"sshd-{self.listen[0]}").start()

    def close(self) -> None:
        """Ends the connections with whatever runs in them, and listens no longer."""
        with contextlib.suppress(OSError):  # not every system knows this for a socket that listens
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            _end(connection)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return  # closed
            with accepted, self._log.open("ab") as file, self._lock:
                self._connections = [one for one in self._connections if one.poll() is None]
                try:
                    process = subprocess.Popen(
                        self._command,
                        stdin=accepted.fileno(),
                        stdout=accepted.fileno(),
                        stderr=file,
                        start_new_session=True,
                    )
                    self._connections.append(process)
                except OSError as error:
                    log.warning("sshd can't be started: %s", error)


def _make_host_key(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    path.with_name(path.name + ".pub").write_bytes(public + b" node\n")


def _end(connection: subprocess.Popen[bytes]) -> None:
    try:
        below = psutil.Process(connection.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    connection.kill()
    for process in below:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    connection.wait()
