"""The worker's folder: a lock, a note of the message it holds, and the times that `power.py` counts from.

The note is for the next worker in the same folder: when this one is killed, the next one releases the message at once
instead of waiting for its visibility timeout. The receipt handle in it allows deleting the message, hence the file mode
0600. A note that can't be written (a full disk) costs only that delay.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from aistratus.worker.log import Log

NOTE: Final = "held.json"
POWER: Final = "power.json"
LOCK: Final = "worker.lock"


class StateError(RuntimeError):
    """The folder can't be used; the message is one sentence for the operator."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A message that a worker held: its queue and receipt."""

    queue_url: str
    receipt: str


class StateFolder:
    """One worker's folder; the lock is held until the process ends, however it ends."""

    def __init__(self, folder: Path, log: Log) -> None:
        self._folder = folder
        self._log = log
        self._lock: TextIO | None = None

    def open(self) -> None:
        """Creates the folder (0700) if need be and locks it.

        Raises:
            StateError: it can't be written, or another worker uses it.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._folder / LOCK).open("a", encoding="ascii")
        except OSError as error:
            raise StateError(f"WORKER_STATE_DIR {self._folder} can't be used: {error.strerror}") from error
        if not _lock(self._lock):
            raise StateError(f"another worker is running with WORKER_STATE_DIR {self._folder}")

    def hold(self, held: Held) -> None:
        """Writes the note atomically: a reader finds the whole note or the previous one."""
        text = json.dumps({"queue_url": held.queue_url, "receipt": held.receipt})
        fresh = self._folder / (NOTE + ".new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
            fresh.replace(self._folder / NOTE)
        except OSError as error:
            self._log.event("note_failed", reason=error.strerror)

    def release(self) -> None:
        """Deletes the note: no message is held any more."""
        try:
            (self._folder / NOTE).unlink(missing_ok=True)
        except OSError as error:
            self._log.event("note_failed", reason=error.strerror)

    def note_power(self, boot: str, began: float, active: float) -> None:
        """Writes since when the machine runs and when it last worked, in seconds of its monotonic clock."""
        fresh = self._folder / (POWER + ".new")
        try:
            fresh.write_text(json.dumps({"boot": boot, "began": began, "active": active}), encoding="ascii")
            fresh.replace(self._folder / POWER)
        except OSError as error:
            self._log.event("note_failed", reason=error.strerror)

    def power(self, boot: str) -> tuple[float, float] | None:
        """What an earlier worker wrote in this boot; None in a new boot, or where boots have no id."""
        try:
            data = json.loads((self._folder / POWER).read_text(encoding="ascii"))
            return (float(data["began"]), float(data["active"])) if boot and data["boot"] == boot else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def held(self) -> Held | None:
        """The message that the previous worker held when it ended, or None."""
        try:
            data = json.loads((self._folder / NOTE).read_text(encoding="ascii"))
            return Held(queue_url=str(data["queue_url"]), receipt=str(data["receipt"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._log.event("note_unreadable", reason=type(error).__name__)
            return None


@dataclass(frozen=True)
class PowerNotes:
    """`StateFolder.power` and `note_power` for one boot of the machine."""

    folder: StateFolder
    boot: str

    def recall(self) -> tuple[float, float] | None:
        return self.folder.power(self.boot)

    def note(self, began: float, active: float) -> None:
        self.folder.note_power(self.boot, began, active)


def _lock(file: TextIO) -> bool:
    """Takes the lock, which ends with the process. Windows has no such lock: a second worker isn't detected there."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
