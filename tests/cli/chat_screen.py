"""A terminal's screen, as far as prompt_toolkit and rich write to it: what a person sees and what scrolled away."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from wcwidth import wcwidth

_TOKEN = re.compile(
    r"\x1b\[([?>]?)([0-9;]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>78c]|[\r\n\b\x07]|[^\x1b\r\n\b\x07]"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[?>]?[0-9;]*|\][^\x07]{0,200})?$")


@dataclass
class Screen:
    """Rows of cells; the last `height` of them are in sight, the ones above have scrolled away."""

    height: int
    width: int
    rows: list[list[str]] = field(default_factory=lambda: [[]])
    y: int = 0
    x: int = 0
    wraps: bool = True
    _rest: str = ""

    @property
    def text(self) -> str:
        """All of it, without what is blank at the ends of rows."""
        return "\n".join("".join(row).rstrip() for row in self.rows)

    def feed(self, written: str) -> None:
        """What the program has written."""
        written, self._rest = self._rest + written, ""
        if unfinished := _UNFINISHED.search(written):
            written, self._rest = written[: unfinished.start()], unfinished[0]
        for token in _TOKEN.finditer(written):
            if token[3]:
                self._control(token[1], token[2], token[3])
            elif token[0][0] != "\x1b":
                self._put(token[0])

    def _control(self, private: str, numbers: str, kind: str) -> None:
        count = int(numbers.split(";")[0] or 1) if numbers.replace(";", "").isdigit() or not numbers else 1
        if private == "?" and numbers == "7":
            self.wraps = kind == "h"
        elif kind in "ABCD" and not private:
            self.y += {"A": -count, "B": count}.get(kind, 0)
            self.x += {"C": count, "D": -count}.get(kind, 0)
            self.y = min(max(self.y, self._top), self._top + self.height - 1)
            self.x = min(max(self.x, 0), self.width - 1)
            self._reach()
        elif kind == "H":
            self.y, self.x = self._top, 0
        elif kind == "K":
            del self.rows[self.y][self.x :]
        elif kind == "J":
            del self.rows[self.y][self.x :]
            del self.rows[self.y + 1 :]
            if numbers == "2":
                self.rows += [[] for _ in range(self.height)]
                self.y = len(self.rows) - self.height

    @property
    def _top(self) -> int:
        return max(0, len(self.rows) - self.height)

    def _reach(self) -> None:
        while len(self.rows) <= self.y:
            self.rows.append([])

    def _put(self, character: str) -> None:
        if character == "\r":
            self.x = 0
        elif character == "\n":
            self.y += 1
            self._reach()
        elif character == "\b":
            self.x = max(0, self.x - 1)
        elif character != "\x07":
            self._write(character, wcwidth(character))

    def _write(self, character: str, cells: int) -> None:
        row = self.rows[self.y]
        if cells <= 0 and row:  # joins the character before it
            at = min(self.x, len(row)) - 1
            while at > 0 and not row[at]:
                at -= 1
            row[at] += character
            return
        if self.x + cells > self.width:
            if not self.wraps:
                self.x = self.width - cells
            else:
                self.x, self.y = 0, self.y + 1
                self._reach()
                row = self.rows[self.y]
        row += [" "] * (self.x + cells - len(row))
        row[self.x : self.x + cells] = [character, *[""] * (cells - 1)]
        self.x += cells
