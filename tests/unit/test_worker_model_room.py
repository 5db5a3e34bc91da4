"""What the worker checks before it fetches another model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aistratus.worker.models import SPARE, require_room
from aistratus.worker.preflight import ModelRefused


def test_a_model_for_which_the_volume_has_no_room_is_refused_with_what_to_set(tmp_path: Path) -> None:
    disk = shutil.disk_usage(tmp_path)
    require_room(min(0, disk.free - SPARE), tmp_path)
    told = rf"^it has {disk.total >> 20} MiB, .* room: set node\.volume_gib = \d+, run `aistratus up`"
    with pytest.raises(ModelRefused, match=told) as said:
        require_room(disk.total, tmp_path)
    assert int(str(said.value).partition("volume_gib = ")[2].partition(",")[0]) > disk.total >> 30
