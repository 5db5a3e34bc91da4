"""Is there room on the node's volume for a model? Asked before anything is fetched or uploaded.

The volume (`node.volume_gib`) holds the system and, at most, three models: the env's own, the one in use, and the next
while it is fetched. The worker and the first boot look once more, at what is really free on the machine
(`worker/models.py`, `bootstrap.sh`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure
from aistratus.core.resource import Found
from aistratus.resources.compute import Instance
from aistratus.resources.instance_listing import INSTANCES, root_volume
from aistratus.settings import TINYLLAMA_BYTES, TINYLLAMA_URL, ModelSettings, Settings

SYSTEM_GIB: Final = 7
"""What isn't a model, rounded up: 4 for Amazon Linux 2023 with NVIDIA's driver, the compiler and the kernel's headers
that it is built with; 1.5 for CUDA's libraries (0.9, and 0.6 of packages while they are unpacked); 1 for two releases
of the worker (0.2 each), the log agent and logs.

Source: amazonlinux/amazon-linux-2023, issue 1054: that driver and what builds it on volumes of 4 GB; libcublas 12.9 is
0.6 GB as a package.
"""
GIB: Final = 1 << 30


def require_volume(name: str, size: int, volume_gib: int, *, beside: int = 0) -> None:
    """Refuses a model for which the node's volume has no room.

    Args:
        size: bytes of its file.
        beside: bytes of the models that are kept there while it is fetched.

    Raises:
        Failure: with both sizes, and what to set.
    """
    needed = SYSTEM_GIB + -(-(size + beside) // GIB)
    if needed > volume_gib:
        others = f" and other models {beside / GIB:.1f}" if beside else ""
        raise Failure(
            f"the node's volume has no room for the model {name}, which has {size / GIB:.1f} GiB: of its {volume_gib} "
            f"GiB the system takes {SYSTEM_GIB}{others}",
            todo=f"set node.volume_gib = {needed} and run `aistratus up` (a running node then needs to stop and start)",
        )


def own_size(model: ModelSettings) -> int | None:
    """Bytes of the model that settings name; `None` where only its address is known."""
    if model.path is not None:
        with suppress(OSError):
            return model.path.stat().st_size
        return None
    return TINYLLAMA_BYTES if model.url == TINYLLAMA_URL else None


def require_own(settings: Settings, node: Found | None) -> None:
    """Refuses the model that settings name if the node's volume has no room for it; `node`: as it was found.

    Raises:
        Failure: with both sizes, and what to set.
    """
    size, model = own_size(settings.model), settings.model
    there = node.state.volume_gib if node is not None and isinstance(node.state, Instance) else 0
    if size is not None:
        name = model.name or (model.path.stem if model.path else "of the settings")
        require_volume(name, size, max(settings.node.volume_gib, there))


def volume_gib(aws: Cloud, settings: Settings) -> int:
    """How large the node's volume is or will be: one that is larger than settings say is left so."""
    node = INSTANCES.pick(aws, "node")
    volume = root_volume(aws, node) if node else None
    return max(settings.node.volume_gib, 0 if volume is None else int(volume["Size"]))
