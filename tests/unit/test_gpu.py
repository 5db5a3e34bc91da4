"""The GPU's flag: true only where the model's process holds the device, and a reason only when it is final."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aistratus.core.settle import RealClock
from aistratus.node.gpu import Gpu as At
from aistratus.node.gpu import settled, standing
from aistratus.worker.gpu import Gpu, has_gpu, holds_gpu


def test_a_process_uses_the_gpu_when_it_has_its_device_open(tmp_path: Path) -> None:
    for number, target in enumerate(("/dev/null", "/dev/nvidiactl", "/dev/nvidia-uvm", "pipe:[77]")):
        (tmp_path / str(number)).symlink_to(target)
    assert not holds_gpu(tmp_path), "the driver was asked, and no device was opened"
    (tmp_path / "9").symlink_to("/dev/nvidia0")
    assert holds_gpu(tmp_path)
    assert not holds_gpu(tmp_path / "absent")


def test_a_machine_has_a_gpu_with_or_without_a_driver(tmp_path: Path) -> None:
    for name, vendor, kind in (("0", "0x1d0f", "0x030000"), ("1", "0x10de", "0x040300")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert not has_gpu(tmp_path), "another maker's screen, and NVIDIA's sound"
    (tmp_path / "1" / "class").write_text("0x030200\n")
    assert has_gpu(tmp_path)
    assert not has_gpu(tmp_path / "absent")


def test_why_it_is_not_used_is_told_only_when_the_boots_script_has_ended(tmp_path: Path) -> None:
    note, state = tmp_path / "gpu", {"used": False}
    reason: list[str | None] = [None]

    def told(*, there: bool = True, kept: Path | None = note) -> tuple[Any, Any]:
        gpu = Gpu(there=there, boot="b2", note=kept, used=lambda: state["used"], given_up=lambda: reason[0])
        report = gpu.report()
        return report["gpu"], report["gpu_trouble"]

    assert told(there=False) == (False, "this machine has no GPU")
    assert told() == (False, None)
    for text in ("", "b1 unusable\n", "b1 usable\n"):
        note.write_text(text)
        reason[0] = "no device"
        assert told() == (False, None), "that was another boot, or nothing yet"
    note.write_text("b2 unusable\n")
    assert told() == (False, "NVIDIA's driver couldn't be installed, or doesn't start")
    note.write_text("b2 usable\n")
    assert told() == told(kept=None) == (False, "the engine can't use it: no device")
    reason[0] = None
    assert told() == (False, None), "the worker that was started for it still loads the model"
    state["used"] = True
    assert told() == (True, None)


def test_a_node_that_was_to_use_its_gpu_and_does_not_in_time_is_ready_with_a_remark() -> None:
    class Fast(RealClock):
        at = 0.0

        def now(self) -> float:
            return self.at

        def wait(self, seconds: float) -> None:
            self.at += seconds

    clock, coming = Fast(), {"gpu": False, "gpu_trouble": None}
    remark = settled(coming, "g4dn.xlarge", lambda: coming, tell=lambda _: None, clock=clock)
    assert remark == "its model runs on the processor: the GPU wasn't in use within 30 minutes"
    assert 1_800 <= clock.at < 1_806
    assert [standing(coming, "t3.small"), standing({}, "g4dn.xlarge")] == [At.NONE, At.NONE], "nothing to wait for"
