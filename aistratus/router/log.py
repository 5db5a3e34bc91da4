"""One JSON line for each request on stdout, which Lambda puts into the function's log group.

A line holds what is needed to trace a failure, and never a prompt, a reply or a token.
"""

from __future__ import annotations

import json
import sys
import traceback
from types import TracebackType
from typing import Any


def write(**entry: Any) -> None:
    """One line; values that are None are left out. JSON's escapes keep foreign text from starting a line of its own."""
    sys.stdout.write(json.dumps({name: value for name, value in entry.items() if value is not None}) + "\n")
    sys.stdout.flush()


def where(trace: TracebackType | None) -> list[str]:
    """The innermost frames of an exception, without its message, which might quote what a caller sent."""
    frames = traceback.extract_tb(trace)[-6:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
