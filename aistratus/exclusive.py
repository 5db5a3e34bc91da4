"""A lock between processes on this machine: a locked file, which the system releases when its holder dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

POLL_S: Final = 0.02
"""How often a waiting process looks again."""


class Busy(Exception):
    """Somebody else has held the lock for too long."""


@contextmanager
def exclusive(path: Path, *, within: float, wait: Callable[[float], object] = time.sleep) -> Iterator[None]:
    """Holds the lock that `path` stands for; the file is made if need be (0600), in a folder that exists.

    Args:
        within: seconds to wait for another holder.

    Raises:
        Busy: it is still held.
        OSError: the file can't be opened.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        deadline = time.monotonic() + within
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise Busy(str(path))
            wait(POLL_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
