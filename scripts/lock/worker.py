"""Writes the node's requirements with the hash of each file: `aistratus/node/requirements.txt`.

The names are the worker's (`aistratus/pins.py`); versions and hashes are those that `local.txt` locks for the node's
Python and platform. The file is part of the package, because an installed wheel has no lock files. Needs only
`packaging`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from aistratus.pins import WORKER  # noqa: E402  (the checkout's own)

TARGET = ROOT / "aistratus" / "node" / "requirements.txt"
NODE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.0",
    "python_version": "3.11",
    "sys_platform": "linux",
}
"""What bootstrap.sh makes: Amazon Linux 2023 with its python3.11."""


def requirements(lock: str) -> str:
    """The worker's part of a lock, without what is said of other platforms.

    Raises:
        SystemExit: the lock doesn't name each of the worker's distributions exactly once, with hashes.
    """
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", lock.replace("\\\n", " ").strip()):
        told, *hashes = re.split(r"\s+--hash=", entry.strip())
        wanted = Requirement(told)
        if wanted.name not in WORKER or (wanted.marker is not None and not wanted.marker.evaluate(NODE)):
            continue
        if wanted.name in found or not hashes:
            raise SystemExit(f"{wanted.name} is locked twice, or without a hash")
        lines = [f"{wanted.name}{wanted.specifier}", *(f"    --hash={digest}" for digest in sorted(hashes))]
        found[wanted.name] = " \\\n".join(lines) + "\n"
    if missing := WORKER.keys() - found.keys():
        raise SystemExit(f"not locked: {', '.join(sorted(missing))}")
    return "".join(found[name] for name in sorted(found))


if __name__ == "__main__":
    content = requirements((ROOT / "scripts" / "lock" / "local.txt").read_text(encoding="utf-8"))
    if "--check" not in sys.argv:
        TARGET.write_text(content, encoding="utf-8", newline="\n")
    elif content != TARGET.read_text(encoding="utf-8"):
        raise SystemExit("what the node installs isn't what is locked: run scripts/lock/worker.py")
