"""Either a job is worked on, or the model is changed: whose turn it is.

A long poll goes on while the model changes. The message that it may bring is held, and its job waits here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aistratus.worker.clients import GaveUp

LOOK_EVERY_S: Final = 0.1
"""Between two looks whether the worker stops."""


class Turn:
    """Whose turn it is; `stopping` ends all waiting."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._changed = threading.Condition()
        self._working = False
        self.parking = False

    def park(self, wanted: bool) -> bool:
        """Lets no job begin while it is wanted; true once none is worked on."""
        with self._changed:
            self.parking = wanted
            self._changed.notify_all()
            return not self._working

    @contextmanager
    def working(self) -> Iterator[None]:
        """Works on a job, as soon as that is allowed.

        Raises:
            GaveUp: the worker stops.
        """
        with self._changed:
            while self.parking and not self._stopping.is_set():
                self._changed.wait(LOOK_EVERY_S)
            if self._stopping.is_set():
                raise GaveUp("turn")
            self._working = True
        try:
            yield
        finally:
            with self._changed:
                self._working = False
