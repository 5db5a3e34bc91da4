"""Whether the node's GPU is in use, as its worker reports in the heartbeat (`worker/gpu.py`).

The first boot of a GPU type builds NVIDIA's driver, which takes some minutes; the worker runs on the CPU meanwhile, and
is restarted when the driver works. So such a node is ready when its GPU is in use, or when its worker reports why it
won't be. An older worker, which doesn't report on the GPU, counts as ready.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final

from aistratus.core.errors import Unsettled
from aistratus.core.settle import Clock, Wait, until
from aistratus.node.states import GPU_WITHIN_S, is_gpu

IN_USE: Final = Wait(what="the node's GPU is in use", within=GPU_WITHIN_S, first=0.5)
"""The first boot on such a type builds NVIDIA's driver; what isn't built by then won't be."""

WHAT_TO_DO: Final = (
    "`aistratus node logs --source bootstrap` has what was tried, and `aistratus node resize cpu` costs less"
)

BUILDS: Final = "it answers on the processor while the GPU's driver is built"


class Gpu(StrEnum):
    """How the node's GPU stands: it has none (or its worker can't tell), or uses it, or may yet, or won't."""

    NONE = ""
    USED = "used"
    COMING = "coming"
    UNUSED = "unused"


def standing(beat: Mapping[str, Any], type_: str) -> Gpu:
    """How it stands by a fresh heartbeat of a node of this type."""
    if not is_gpu(type_) or "gpu" not in beat:
        return Gpu.NONE
    if beat["gpu"]:
        return Gpu.USED
    return Gpu.UNUSED if beat.get("gpu_trouble") else Gpu.COMING


def waits(type_: str) -> str:
    """What a person is told while it is coming."""
    return (
        f"its worker answers on the processor; waiting for the GPU's driver, which the first boot on {type_} builds: "
        f"some minutes, {GPU_WITHIN_S / 60:.0f} at most …"
    )


def remark(beat: Mapping[str, Any], type_: str) -> str:
    """What is to be said of a ready node whose GPU isn't in use; empty where that is as it should be."""
    at = standing(beat, type_)
    if at is Gpu.UNUSED:
        return f"its model runs on the processor: {beat['gpu_trouble']}"
    if at is Gpu.COMING:
        return f"its model runs on the processor: the GPU wasn't in use within {GPU_WITHIN_S / 60:.0f} minutes"
    return ""


def settled(
    beat: Mapping[str, Any], type_: str, look: Callable[[], Mapping[str, Any] | None], *,
    tell: Callable[[str], None], clock: Clock,
) -> str:  # fmt: skip
    """Waits until the GPU of a ready node is in use, or surely won't be.

    Args:
        beat: the heartbeat of its ready worker.
        look: the latest one; none while the worker is started anew.

    Returns:
        `remark`; the node is ready in any case, and answers.
    """

    def ended() -> Mapping[str, Any] | None:
        now = look()
        return None if now is None or standing(now, type_) is Gpu.COMING else now

    if standing(beat, type_) is Gpu.COMING:
        tell(waits(type_))
        with suppress(Unsettled):
            beat = until(IN_USE, ended, clock=clock)
    return remark(beat, type_)
