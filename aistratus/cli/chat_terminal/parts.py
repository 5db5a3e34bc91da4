"""The interfaces between the parts of the conversation at a terminal."""

from __future__ import annotations

from typing import Protocol


class Reply(Protocol):
    """One reply on the screen, as it grows."""

    def write(self, piece: str) -> None:
        """The next piece."""

    def again(self) -> None:
        """What was written so far doesn't count."""

    def end(self) -> None:
        """Nothing more comes."""


class Screen(Protocol):
    """Where a conversation is shown, and where a person answers. Its methods may be called from any thread."""

    def say(self, text: str, style: str = "dim") -> None:
        """Something about the conversation; `style` is one of rich's."""

    def asked(self, prompt: str) -> None:
        """A question, where it now stands in the conversation."""

    def reply(self) -> Reply:
        """Begins a reply."""

    def stage(self, text: str, left_s: float | None = None) -> None:
        """What is being waited for, and how long still, if that is known; an empty text for nothing."""

    def draw(self) -> None:
        """What the bottom line tells has changed."""

    def confirm(self, question: str) -> bool:
        """Waits for a yes or no."""
        ...

    def fill(self, text: str) -> None:
        """Puts a text where the person types, to be changed."""

    def leave(self, error: Exception | None = None) -> None:
        """Ends the program, with this error if there is one."""
