"""Copies text to the clipboard: by a program of the system, else by an escape sequence of the terminal."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

WITHIN_S = 3


def put_on_clipboard(text: str) -> str:
    """Copies a text, and tells which way it went."""
    for command in _programs():
        if shutil.which(command[0]) is None:
            continue
        try:
            subprocess.run(
                command,
                input=text.encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=WITHIN_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return command[0]
    _through_terminal(text)
    return "by the terminal, if it allows that"


def _programs() -> Iterator[list[str]]:
    """Those that fit the system; over SSH they would fill the clipboard of the wrong machine."""
    if os.environ.get("SSH_CONNECTION"):
        return
    if sys.platform == "darwin":
        yield ["pbcopy"]
    if sys.platform == "win32" or "WSL_DISTRO_NAME" in os.environ:
        yield ["clip.exe"]
    if os.environ.get("WAYLAND_DISPLAY"):
        yield ["wl-copy"]
    if os.environ.get("DISPLAY"):
        yield ["xclip", "-selection", "clipboard"]
        yield ["xsel", "--clipboard", "--input"]


def _through_terminal(text: str) -> None:
    """The escape sequence OSC 52, which most terminals obey, over SSH and in tmux too. Source: xterm's ctlseqs."""
    sequence = f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"
    stream = sys.__stdout__
    if stream is not None:
        stream.write(sequence)
        stream.flush()
