"""The embedded cloud as a process of its own, once for a session, and clients that speak to it over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from embedded_cloud_parts import Connect, connected_to
from strict_judge import Judge

from aistratus.local import process
from aistratus.local.process import Running


@pytest.fixture(scope="session")
def embedded_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cloud as `aistratus local start` starts it."""
    state_dir = tmp_path_factory.mktemp("cloud")
    yield process.ensure(state_dir=state_dir)
    process.stop(state_dir)


@pytest.fixture(scope="session")
def strict_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cloud that enforces the rules that emulators forgive."""
    state_dir = tmp_path_factory.mktemp("strict")
    yield process.ensure(state_dir=state_dir, strict=True)
    process.stop(state_dir)


@pytest.fixture
def connect(embedded_cloud: Running) -> Connect:
    return connected_to(embedded_cloud)


@pytest.fixture
def connect_strictly(strict_cloud: Running) -> Connect:
    return connected_to(strict_cloud)


@pytest.fixture
def judge(strict_cloud: Running) -> Iterator[Judge]:
    """The strict cloud; what a test asked of its clockwork ends with the test."""
    judge = Judge(strict_cloud)
    yield judge
    judge.order(reset=True)


@pytest.fixture
def vpc(judge: Judge) -> str:
    """Id of a new VPC in the strict cloud."""
    identifier: str = judge("ec2").create_vpc(CidrBlock="10.20.0.0/22")["Vpc"]["VpcId"]
    return identifier
