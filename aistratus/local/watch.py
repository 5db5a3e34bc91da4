"""The cloud's process looks after its own record, by which alone commands find it.

A record that was lost or damaged is written again, so that nothing is lost with it. A cloud that nobody can find any
more ends: its folder was deleted, or another cloud has taken its place. It would stay for good, with hundreds of MiB.
"""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event
from typing import Final

from aistratus.exclusive import Busy, exclusive
from aistratus.local.process import LOCK, Record, read_record, write_record

LOOK_EVERY_S: Final = 2.0

log = logging.getLogger(__name__)


def wait(ending: Event, folder: Path, record: Record, *, every: float = LOOK_EVERY_S) -> None:
    """Returns when `ending` is set, or when no command can find this cloud any more."""
    place = _place(folder)
    while not ending.wait(every):
        if _place(folder) != place:
            log.warning("%s was deleted, and nobody can find this cloud any more: it ends", folder)
            return
        found = _living(folder) or written_again(folder, record)
        if found is not None and found.pid != record.pid:
            log.warning("another cloud (pid %d) has taken this one's place: it ends", found.pid)
            return


def written_again(folder: Path, record: Record) -> Record | None:
    """Whoever is recorded by now, or None; nothing is written while a command holds the lock to start another cloud."""
    try:
        with exclusive(folder / LOCK, within=0):
            if (found := _living(folder)) is None:
                write_record(folder, record)
                log.warning("the record in %s was lost or damaged, and is written again", folder)
            return found
    except (Busy, OSError):
        return None  # looked at again in a moment


def _living(folder: Path) -> Record | None:
    """The record, if it is that of a process that lives."""
    found = read_record(folder)
    return found if found is not None and found.alive() else None


def _place(folder: Path) -> tuple[int, int] | None:
    """Which folder this is: one that is made anew under the same name is another."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
