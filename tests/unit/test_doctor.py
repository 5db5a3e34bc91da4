"""The findings that need no account, and what keeps `up` from its first change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from aistratus.core.errors import Failure
from aistratus.doctor import check_clock, check_model, check_region, preflight
from aistratus.settings import ModelSettings, Settings


def answer(off_s: float) -> dict[str, Any]:
    """An answer of AWS whose clock is ahead of ours."""
    told = format_datetime(datetime.now(UTC) + timedelta(seconds=off_s), usegmt=True)
    return {"ResponseMetadata": {"HTTPHeaders": {"date": told}}}


@pytest.mark.parametrize(
    ("off_s", "state"), [(0, "ok"), (-20, "ok"), (90, "warn"), (-90, "warn"), (900, "fail"), (-900, "fail")]
)
def test_a_wrong_clock_is_found(off_s: float, state: str) -> None:
    assert check_clock(answer(off_s)).state == state


def test_a_model_that_the_volume_has_no_room_for_is_found_before_up_is(tmp_path: Path) -> None:
    with (tmp_path / "wide.gguf").open("wb") as file:
        file.truncate(14 << 30)  # without a byte of its own on this disk
    found = check_model(Settings(model=ModelSettings(path=tmp_path / "wide.gguf")))
    assert (found.state, found.todo[:24]) == ("fail", "set node.volume_gib = 21")


def test_an_answer_without_a_time_is_no_proof_of_a_wrong_clock() -> None:
    assert check_clock({}).state == "warn"


@pytest.mark.parametrize(
    ("region", "state"),
    [
        ("eu-central-1", "ok"),
        ("us-gov-west-1", "ok"),
        ("cn-north-1", "fail"),
        ("eu-central-9", "warn"),
        ("mars-north-1", "fail"),
    ],
)
def test_a_region_that_cannot_be_is_found(region: str, state: str) -> None:
    assert check_region(region).state == state


def test_up_is_stopped_by_what_makes_every_call_fail_and_by_nothing_less() -> None:
    preflight("eu-central-9", answer(90))
    with pytest.raises(Failure, match="no AWS region 'mars-north-1'"):
        preflight("mars-north-1", answer(0))
    with pytest.raises(Failure, match=r"clock is \d+ s off"):
        preflight("eu-central-1", answer(900))
