"""What tests of crashes and faults share: a strict cloud, command processes that can be killed, and a judge.

The parts stand in `scripts/bench`, where the same things run in full: every call, every fault.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).resolve().parents[2]
for folder in ("tests/converge", "scripts/bench"):
    if str(ROOT / folder) not in sys.path:
        sys.path.insert(0, str(ROOT / folder))

if TYPE_CHECKING:
    from env_on_cloud import Env, WarmCommand

MakeEnv = Callable[..., "Env"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A strict cloud for one module."""
    from env_on_cloud import embedded_cloud

    with embedded_cloud(strict=True) as address:
        yield address


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmCommand]:
    """Where command processes are forked from."""
    from env_on_cloud import WarmCommand

    with WarmCommand() as command:
        yield command


@pytest.fixture(scope="module")
def make_env(endpoint: str, warm: WarmCommand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeEnv]:
    """Makes an env by name; `warm=` for one whose commands run beside those of another, `AISTRATUS_…=` for settings."""
    from env_on_cloud import Env

    home = tmp_path_factory.mktemp("home")
    with ExitStack() as stack:
        yield lambda name, warm=warm, **variables: stack.enter_context(
            Env(name, endpoint=endpoint, warm=warm, home=home, **variables)
        )
