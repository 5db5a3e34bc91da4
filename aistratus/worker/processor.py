"""Chooses the build of the engine's library, and the number of threads, for this machine's processor.

ctransformers would find the library by itself, but takes 1.2 s for that at each load; the kernel's list of flags gives
the same answer in a millisecond. More threads than free physical cores make a model slower, because the threads spin
while they wait for each other, and a tiny model is fastest on one thread.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SMALL_MODEL_BYTES: Final = 64 * 1024 * 1024
"""Below this a token takes less time than handing work to a second thread."""


def library(gpu_layers: int, cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Name of ctransformers' library for this processor; None lets ctransformers look by itself (not Linux)."""
    if gpu_layers > 0:
        return "cuda"
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    if {"avx2", "fma", "f16c"} <= flags:
        return "avx2"
    return "avx" if {"avx", "f16c"} <= flags else "basic"


def threads(model_bytes: int) -> int:
    """One for a tiny model, else the physical cores that this process may use, at least one."""
    if model_bytes < SMALL_MODEL_BYTES:
        return 1
    allowed = _allowed_cores()
    quota = _cgroup_quota(Path("/sys/fs/cgroup/cpu.max"))
    return max(1, min(allowed, int(quota)) if quota is not None else allowed)


def _allowed_cores() -> int:
    if not hasattr(os, "sched_getaffinity"):
        return max(1, (os.cpu_count() or 1) // 2)
    siblings = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    return len(siblings)


def _siblings(cpu: int) -> str:
    """The hardware threads that share this one's core, as the kernel writes them; itself where it doesn't say."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _cgroup_quota(path: Path) -> float | None:
    """CPUs that the control group allows, or None without a limit; the file holds `max 100000` or `50000 100000`."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)
