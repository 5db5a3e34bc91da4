"""What every test of convergence stands on: a cloud of its own, and the engine that `up` and `down` use.

AWS is the embedded cloud, asked over HTTP by the same clients as in production. One serves a whole test session; each
test gets an env name that nobody else has, so tests don't see each other and may run side by side.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from converge_engine import Engine, cloud

from aistratus.cloud import Cloud
from aistratus.local import process
from aistratus.trace import Meter


@pytest.fixture(scope="session")
def cloud_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the embedded cloud keeps what it has on disk."""
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="session")
def endpoint(cloud_folder: Path) -> Iterator[str]:
    """The address of an AWS account in memory: the embedded cloud, in a process of its own."""
    yield process.ensure(state_dir=cloud_folder, strict=True).endpoint
    process.stop(cloud_folder)


@pytest.fixture
def meter() -> Meter:
    """Counts the calls of the test's cloud."""
    return Meter()


@pytest.fixture
def aws(endpoint: str, meter: Meter) -> Cloud:
    """An env of its own in that account."""
    return cloud(endpoint, env=f"t{secrets.token_hex(4)}", meter=meter)


@pytest.fixture
def engine(aws: Cloud, meter: Meter) -> Engine:
    return Engine(aws, meter)


@pytest.fixture(scope="module")
def standing(endpoint: str) -> Engine:
    """An env that a file's tests have in common: what each of them finds or makes there stays, and is as declared."""
    meter = Meter()
    return Engine(cloud(endpoint, env=f"t{secrets.token_hex(4)}", meter=meter), meter)


@pytest.fixture
def another_env(endpoint: str) -> Callable[[str], Cloud]:
    """Makes a cloud for an env of the given name in the same account."""
    return lambda env: cloud(endpoint, env=env)
