"""Mutual exclusion between working on a job and changing the model.

A long poll continues while the model changes. A message that it brings is held, and its job waits here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aistratus.worker.clients import GaveUp

LOOK_EVERY_S: Final = 0.1
"""Interval of checking whether the worker stops."""


class Turn:
    """The lock; `stopping` ends all waiting."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._changed = threading.Condition()
        self._working = False
        self.parking = False

    def park(self, wanted: bool) -> bool:
        """While `wanted`, lets no job start; returns whether none is running."""
        with self._changed:
            self.parking = wanted
            self._changed.notify_all()
            return not self._working

    @contextmanager
    def working(self) -> Iterator[None]:
        """Waits until a job may run, and marks it as running within the `with` block.

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
