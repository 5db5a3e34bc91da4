"""The worker's log: one JSON object a line on stderr.

It names jobs, attempts, reasons and times. It never holds a prompt, a reply or a receipt handle, and a log that
can't be written (a full disk behind stderr) never stops the work.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TextIO


class Log:
    """Writes events. Safe to share between threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def event(self, event: str, **fields: str | int | float | bool | None) -> None:
        """One line: when, what, and the fields that are not None."""
        known = {name: value for name, value in fields.items() if value is not None}
        line = json.dumps({"at": round(time.time(), 3), "event": event, **known})
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return  # nowhere to complain to; ValueError means that the stream was closed at exit
