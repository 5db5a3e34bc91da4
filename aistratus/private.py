"""Creates folders that only their user can read, for tokens, keys, conversations and the embedded cloud's state.

`mkdir(parents=True, mode=…)` applies the mode to the last folder only; the parents that it creates are readable by
everybody on the machine.
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
