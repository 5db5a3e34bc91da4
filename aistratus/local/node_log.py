"""The worker's output: into a file on the node, and into a log group as the CloudWatch agent does it.

Lines are sent in batches from a thread of their own, so that a slow or missing log group never holds the worker
back; the file has every line whatever happens to the group.
"""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path
from typing import IO, Any, Final

BATCH_LINES: Final = 500
BATCH_EVERY_S: Final = 0.25
"""How long a first line waits for company. CloudWatch takes five batches a second for a stream."""
LINE_BYTES: Final = 250_000
"""CloudWatch refuses an event of more than 256 KB (with 26 bytes of its own)."""
FILE_BYTES: Final = 20 * 1024 * 1024
"""The file is moved to `.1` when it has grown to this size."""


class NodeLog:
    """One node's log; `group` may be None, then there is the file only."""

    def __init__(self, *, file: Path, logs: Any, group: str | None, stream: str) -> None:
        self._file, self._logs, self._group, self._stream = file, logs, group, stream
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send, daemon=True, name=f"log-{stream}")
        if group:
            self._sender.start()

    def line(self, text: str) -> None:
        """Adds one line of the node itself or of its worker."""
        self._rotate()
        with self._file.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        if self._group and text:
            message = text.encode()[:LINE_BYTES].decode(errors="ignore")
            self._lines.put({"timestamp": int(time.time() * 1000), "message": message})

    def follow(self, output: IO[bytes]) -> None:
        """Reads a process's output to its end."""
        for raw in output:
            self.line(raw.decode(errors="replace").rstrip("\r\n"))

    def close(self) -> None:
        """Sends what is left."""
        if self._group:
            self._lines.put(None)
            self._sender.join(2.0)

    def _rotate(self) -> None:
        if self._file.exists() and self._file.stat().st_size > FILE_BYTES:
            self._file.replace(self._file.with_name(self._file.name + ".1"))

    def _send(self) -> None:
        ready = False
        while True:
            batch, ended = self._batch()
            if batch:
                ready = self._put(batch, ready)
            if ended:
                return

    def _batch(self) -> tuple[list[dict[str, Any]], bool]:
        first = self._lines.get()
        if first is None:
            return [], True
        batch, until = [first], time.monotonic() + BATCH_EVERY_S
        while len(batch) < BATCH_LINES and (left := until - time.monotonic()) > 0:
            try:
                entry = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if entry is None:
                return batch, True
            batch.append(entry)
        return batch, False

    def _put(self, batch: list[dict[str, Any]], ready: bool) -> bool:
        """True once the stream is there. A group that doesn't exist loses lines: they are in the file."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if not ready:
                self._make_stream()
            self._logs.put_log_events(logGroupName=self._group, logStreamName=self._stream, logEvents=batch)
        except (ClientError, BotoCoreError):
            return False
        return True

    def _make_stream(self) -> None:
        from botocore.exceptions import ClientError

        try:
            self._logs.create_log_stream(logGroupName=self._group, logStreamName=self._stream)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
                raise
