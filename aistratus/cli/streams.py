"""Standard input, output and error, made usable before the first word is printed.

A shell may close them (`>&-`), for which Python leaves `None`, and a locale may lack the characters that this program
prints (`€`, `…`). Neither is a reason to fail.
"""

from __future__ import annotations

import codecs
import io
import os
import sys

PLAIN = {"€": "EUR ", "–": "-", "—": "-", "−": "-", "…": "...", "→": "->", "█": "#", "’": "'"}
"""What is printed instead where a locale has no such character."""

INSTEAD = "aistratus.instead"


def prepare() -> None:
    """Opens what is closed to nothing, and lets characters that can't be printed be spelt out."""
    codecs.register_error(INSTEAD, instead)
    # In the order of their numbers: what is opened gets the lowest that is free.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - as long as the program
            setattr(sys, name, stream)
        if mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=INSTEAD)


def instead(error: UnicodeError) -> tuple[str, int]:
    """Error handler: a like sign of ASCII for our own typography, an escape such as `\\u4f60` for anything else."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    spelt = (PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in lacking)
    return "".join(spelt), error.end
