"""What the screen waits for: a stage of the reply, or the user's yes or no."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from aistratus.cli.chat_terminal.bottom_line import span

FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAME_S: Final = 0.1


@dataclass
class Stage:
    """What is waited for, since when, and until when; times are those of a clock that only grows."""

    text: str = ""
    since: float = 0.0
    until: float | None = None

    def set(self, text: str, left_s: float | None = None) -> None:
        """The next stage. All stages of one reply are counted from its first."""
        now = time.monotonic()
        if not text or not self.text:
            self.since = now
        self.text, self.until = text, None if left_s is None else now + left_s

    def line(self, waiting: int) -> str:
        """The stage with a turning sign, the time that is left and that has passed; empty if nothing is waited for.

        Args:
            waiting: how many typed lines come after it.
        """
        later = f"{waiting} more to be asked after this" if waiting else ""
        if not self.text:
            return later
        now = time.monotonic()
        passed = now - self.since
        frame = FRAMES[int(passed / FRAME_S) % len(FRAMES)]
        return " · ".join(part for part in (f"{frame} {self.text}", self._left(now), f"{passed:.0f} s", later) if part)

    def _left(self, now: float) -> str:
        if self.until is None:
            return ""
        return f"about {span(self.until - now)} left" if self.until > now else "longer than expected"


@dataclass
class Question:
    """Something that a person has to decide before the program goes on.

    Attributes:
        typed: what stood in the input line before.
    """

    text: str
    typed: str
    yes: bool = False
    answered: threading.Event = field(default_factory=threading.Event)

    def answer(self, yes: bool) -> None:
        """The person has decided."""
        self.yes = yes
        self.answered.set()
