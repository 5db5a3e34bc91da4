"""Reports whether the model runs on the machine's GPU, and if it doesn't, why.

The process that holds the model knows whether it does: it has the GPU's device open (`holds_gpu`). The reason why it
doesn't is reported once it is final. On the first boot of a GPU type it takes some minutes to build NVIDIA's driver,
and the model runs on the CPU meanwhile. When that is done, the bootstrap script restarts the worker and writes the
outcome, with the boot's id, into a file; until then nothing is final.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NVIDIA: Final = "0x10de"
DISPLAY: Final = "0x03"
"""PCI class prefix of a graphics card (0x0300xx) and of an accelerator without a display (0x0302xx).

Source: the PCI code and ID assignment specification; the kernel's `Documentation/ABI/testing/sysfs-bus-pci`.
"""

PCI: Final = Path("/sys/bus/pci/devices")
"""A device is listed here whether it has a driver or not."""

USABLE: Final = "usable"
"""The outcome that the bootstrap script writes when the driver works; any other word means that it doesn't."""


def holds_gpu(descriptors: Path = Path("/proc/self/fd")) -> bool:
    """Whether this process has an NVIDIA GPU open, which CUDA keeps from its first call to the process's end."""
    with suppress(OSError):
        for entry in descriptors.iterdir():
            with suppress(OSError):  # the descriptor was closed meanwhile
                if re.fullmatch(r"/dev/nvidia\d+", str(entry.readlink())):
                    return True
    return False


def has_gpu(devices: Path = PCI) -> bool:
    """Whether this machine has an NVIDIA GPU, with or without a driver."""
    with suppress(OSError):
        return any(_is_gpu(device) for device in devices.iterdir())
    return False


def _is_gpu(device: Path) -> bool:
    with suppress(OSError):
        vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        return vendor == NVIDIA and kind.startswith(DISPLAY)
    return False


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The heartbeat's report on the GPU.

    there: whether the machine has one.
    boot: the id of this boot of the machine.
    note: the file into which the bootstrap script writes `BOOT usable` or `BOOT unusable`; `None`: there is no script.
    used: whether the loaded model runs on the GPU.
    given_up: why the engine couldn't use the GPU, if it tried and failed.
    """

    there: bool
    boot: str
    note: Path | None
    used: Callable[[], bool]
    given_up: Callable[[], str | None]

    def report(self) -> dict[str, bool | str | None]:
        """`gpu`: whether it is used; `gpu_trouble`: why not, and `None` while that isn't final."""
        used = self.used()
        return {"gpu": used, "gpu_trouble": None if used else self._trouble()}

    def _trouble(self) -> str | None:
        if not self.there:
            return "this machine has no GPU"
        verdict = self._verdict()
        if verdict is None:
            return None
        if verdict != USABLE:
            return "NVIDIA's driver couldn't be installed, or doesn't start"
        reason = self.given_up()
        return None if reason is None else f"the engine can't use it: {reason}"

    def _verdict(self) -> str | None:
        """The outcome that the bootstrap script wrote in this boot; `None` while it is still at work."""
        if self.note is None:
            return USABLE
        with suppress(OSError, ValueError):
            boot, verdict = self.note.read_text(encoding="ascii").split()
            return verdict if boot == self.boot else None
        return None
