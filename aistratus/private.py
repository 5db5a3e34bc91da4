"""Folders that only their user can look into.

Tokens, keys, conversations and the embedded cloud's state lie in them. `mkdir(parents=True, mode=…)` gives the mode
to the last folder only, and whatever it makes above is open to everybody on the machine.
"""

from __future__ import annotations

from pathlib import Path


def make_private(folder: Path) -> None:
    """Makes a folder, and what is missing above it, with mode 0700; one that exists is closed to others.

    Raises:
        OSError: it can't be made, or belongs to somebody else.
    """
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
