"""Runs a command and ends it, with all its child processes, when the process that holds the other end of stdin ends.

Started by path with `python -I -S leash.py GRACE_S command…`, so it imports the standard library only. The embedded
cloud keeps the write end of this process's stdin and never writes: the pipe closes when the cloud ends, even when it is
killed, on every system. SIGTERM is forwarded. In both cases the command has GRACE_S seconds to end; then it and its
process group are killed.

The exit status is the command's (128 + n for signal n).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def _die_with_parent() -> None:
    """Linux: the command is killed if this process is (`prctl(PR_SET_PDEATHSIG, SIGKILL)`)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    grace, command = float(arguments[0]), arguments[1:]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )

    def kill_group() -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        timer = threading.Timer(grace, kill_group)
        timer.daemon = True
        timer.start()

    def watch() -> None:
        while os.read(0, 64):
            pass
        end()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    kill_group()  # what the command left behind
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the watching thread sits in a read
