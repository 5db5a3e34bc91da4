"""Does the model run on the machine's GPU, and if it doesn't, will it?

Only the process that holds the model can tell that it does: it has the GPU's device open (`holds_gpu`). Why it doesn't
is told as soon as that is final. The first boot on a type with a GPU takes some minutes to build NVIDIA's driver, and
the model answers on the processor meanwhile; the bootstrap script writes how that ended, together with the boot that it
was in, after it has started the worker anew for it. Until then nothing is final.
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
"""How the class of a graphics card (0x0300xx) or an accelerator without a screen (0x0302xx) begins.

Source: the PCI code and ID assignment specification; the kernel's `Documentation/ABI/testing/sysfs-bus-pci`.
"""

PCI: Final = Path("/sys/bus/pci/devices")
"""A device is listed here whether it has a driver or not."""

USABLE: Final = "usable"
"""What the bootstrap script writes when the driver works; anything else is that it doesn't."""


def holds_gpu(descriptors: Path = Path("/proc/self/fd")) -> bool:
    """Has this process an NVIDIA GPU open, as CUDA keeps it from its first call to the process's end?"""
    with suppress(OSError):
        for entry in descriptors.iterdir():
            with suppress(OSError):  # closed meanwhile
                if re.fullmatch(r"/dev/nvidia\d+", str(entry.readlink())):
                    return True
    return False


def has_gpu(devices: Path = PCI) -> bool:
    """Has this machine an NVIDIA GPU, with or without a driver?"""
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
    """What the heartbeat says of the GPU.

    there: the machine has one.
    boot: this boot of the machine.
    note: where the bootstrap script writes `BOOT usable` or `BOOT unusable`; none where nobody does.
    used: does the loaded model run on it?
    given_up: why the engine couldn't use it, if that was tried and has failed.
    """

    there: bool
    boot: str
    note: Path | None
    used: Callable[[], bool]
    given_up: Callable[[], str | None]

    def report(self) -> dict[str, bool | str | None]:
        """`gpu`, and in `gpu_trouble` why it isn't used; `None` as long as it may still come."""
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
        """How the bootstrap script's part ended in this boot; `None` while it goes on."""
        if self.note is None:
            return USABLE
        with suppress(OSError, ValueError):
            boot, verdict = self.note.read_text(encoding="ascii").split()
            return verdict if boot == self.boot else None
        return None
