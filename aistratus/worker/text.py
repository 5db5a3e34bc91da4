"""Turns the bytes of tokens into text that may be shown.

A token can hold part of a character, and a stop string can begin in one token and end in a later one. So bytes pass an
incremental UTF-8 decoder, and a tail of the text that might still become a stop string is held back until that is
decided. Text that was released is never taken back.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


def clean(text: str) -> str:
    """Text that every tokenizer takes: without NUL, lone surrogates replaced by U+FFFD, pairs joined."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class ReplyText:
    """The text of one reply as it grows.

    Args:
        stop: strings that end the reply; they are not part of it. Empty ones are ignored.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(entry for entry in stop if entry)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def feed(self, piece: bytes) -> str:
        """What may be shown after these bytes; empty once a stop string was found."""
        return self._release(self._decoder.decode(piece))

    def finish(self) -> str:
        """What was held back and turned out to be plain text; call it once, at the end."""
        rest = self._release(self._decoder.decode(b"", final=True))
        if self.stopped:
            return rest
        rest, self._held = rest + self._held, ""
        return rest

    def _release(self, fresh: str) -> str:
        if self.stopped:
            return ""
        if not self._stop:
            return fresh
        text = self._held + fresh
        ends = [at for at in (text.find(entry) for entry in self._stop) if at >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        keep = max(_possible_start(text, entry) for entry in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _possible_start(text: str, stop: str) -> int:
    """How many characters at the end of `text` are a beginning of `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
