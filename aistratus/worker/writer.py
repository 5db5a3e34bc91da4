"""Writes a growing reply into its job item.

It runs in a thread of its own, so that no network call slows the generation down: the first text is written at once,
then the text so far, a few times a second. Each write carries the whole text, so a failed one is made good by the next.
This thread is also the first to learn that the job is no longer ours.
"""

from __future__ import annotations

import threading
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from aistratus.worker.clients import error_code, pause_after
from aistratus.worker.jobs import Claim, JobLost, Jobs, Lost
from aistratus.worker.log import Log

SHOW_EVERY_S: Final = 0.2
"""Between two writes of a growing text: smooth to read, five writes a second at most."""

ASK_EVERY_S: Final = 1.0
"""Without new text, the item is checked this often for a cancelled or lost job."""


class TextWriter:
    """Writes a growing text into the job item from a thread of its own."""

    def __init__(self, jobs: Jobs, claim: Claim, log: Log) -> None:
        self._jobs = jobs
        self._claim = claim
        self._log = log
        self._parts: list[str] = []
        self._news = threading.Event()
        self._closed = threading.Event()
        self._shown = 0
        self.lost: Lost | None = None
        self._thread = threading.Thread(target=self._run, name="text-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, text: str) -> None:
        """Appends text, which is written soon."""
        self._parts.append(text)
        self._news.set()

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def close(self) -> None:
        """Ends the thread and waits for a write in progress, so that none follows the job's last write."""
        self._closed.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        failures = 0
        while True:
            self._news.wait(ASK_EVERY_S)
            if self._closed.is_set() or self.lost:
                return
            self._news.clear()
            asked = len(self._parts) == self._shown
            failures = 0 if self._show() else failures + 1
            if asked and not failures:
                continue  # the first text must not wait after a mere check
            if self.lost or self._closed.wait(pause_after(failures) if failures else SHOW_EVERY_S):
                return

    def _show(self) -> bool:
        """Writes once; returns false when that failed (the next write includes this text)."""
        count = len(self._parts)
        try:
            self._jobs.write(self._claim, "".join(self._parts[:count]) if count > self._shown else None)
        except JobLost as lost:
            self.lost = lost.why
        except (BotoCoreError, ClientError) as error:
            self._log.event("aws_failed", call="show", code=error_code(error), attempt=self._claim.attempt)
            return False
        self._shown = count
        return True
