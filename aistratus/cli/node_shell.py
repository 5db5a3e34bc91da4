"""An interactive shell on the node, in this terminal."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final

from aistratus.core.errors import UsageError

if TYPE_CHECKING:
    import paramiko

    from aistratus.node.ssh import SshTransport


NAME_A_COMMAND: Final = "name a command: aistratus node ssh -- uptime"


def require_terminal() -> None:
    """Before anything is connected.

    Raises:
        UsageError: nobody sits in front of it, or the system (Windows) has no terminals as a shell needs them.
    """
    try:
        import termios  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise UsageError("a shell needs a terminal as Unix has them", todo=NAME_A_COMMAND) from error
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("a shell needs a terminal", todo=NAME_A_COMMAND)


def interact(ssh: SshTransport) -> int:
    """Runs a shell in the terminal that `require_terminal` has checked, and returns its exit status."""
    columns, rows = shutil.get_terminal_size()
    channel = ssh.shell(os.environ.get("TERM", "xterm"), columns, rows)
    with _raw(), _resized(channel):
        _carry(channel)
    return max(0, channel.recv_exit_status())


def _carry(channel: paramiko.Channel) -> None:
    """Bytes both ways until the shell ends; what was typed ahead stays in order."""
    here, there = sys.stdin.fileno(), sys.stdout.fileno()
    while True:
        ready, _, _ = select.select([channel, here], [], [])
        if channel in ready:
            came = channel.recv(32_768)
            if not came:
                return
            os.write(there, came)
        if here in ready:
            typed = os.read(here, 4_096)
            if not typed:
                channel.shutdown_write()
                return
            channel.sendall(typed)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Sends every key to the node, including Ctrl-C."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin, termios.TCSADRAIN)  # what was typed meanwhile isn't thrown away
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resized(channel: paramiko.Channel) -> Iterator[None]:
    """A window that changes its size says so to the other side."""

    def tell(number: int, frame: FrameType | None) -> None:
        columns, rows = shutil.get_terminal_size()
        channel.resize_pty(columns, rows)

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
