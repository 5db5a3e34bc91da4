"""Fixtures of the worker's end-to-end tests: one moto server per file, and queues and a table per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_rig import Rig, rigs, start_server


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server, address = start_server()
    yield address
    server.stop()


@pytest.fixture
def rig(endpoint: str, tmp_path: Path) -> Iterator[Rig]:
    yield from rigs(endpoint, tmp_path)
