# ruff: noqa: F401, F811 (fixtures are imported by name)
"""The router's `get_id`: the environment first, then the ledger, remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from router_front import Front, denied
from router_stack import Stack, client_of, front, moto

from aistratus.router.aws import Aws, AwsError
from aistratus.router.clock import Clock
from aistratus.router.connections import Connections
from aistratus.router.registry import Registry

PREFIX = "/tinyllama/registry"


@dataclass(frozen=True)
class Ids:
    """A registry, and the environment that it sees."""

    get_id: Callable[[str], str | None]
    forget: Callable[[], None]
    set: Callable[[str, str], None]


@pytest.fixture
def ids(front: Front) -> Ids:
    front.operations.clear()
    front.faults.clear()
    variables = Stack(front.url, "", "", "", "", PREFIX, "").variables()
    aws = Aws("eu-central-1", variables, Connections(), Clock(), front.url)
    registry = Registry(aws, PREFIX, variables)
    return Ids(registry.get_id, registry.forget, variables.__setitem__)


def record(moto: str, key: str, value: str, kind: str = "String") -> None:
    client_of("ssm", moto).put_parameter(Name=f"{PREFIX}/{key}", Value=value, Type=kind, Overwrite=True)


def test_the_ledger_is_read_once_and_again_when_it_shall_be(ids: Ids, front: Front, moto: str) -> None:
    record(moto, "node", '{"id": "i-1", "name": "n"}')
    assert [ids.get_id("node"), ids.get_id("node")] == ["i-1", "i-1"]
    assert front.operations == ["GetParameter"]
    record(moto, "node", '{"id": "i-2"}')
    assert ids.get_id("node") == "i-1"
    ids.forget()
    assert ids.get_id("node") == "i-2"


def test_the_environment_goes_first_and_makes_no_call(ids: Ids, front: Front, moto: str) -> None:
    record(moto, "jobs_table", '{"id": "from-the-ledger"}')
    ids.set("TINYLLAMA_JOBS_TABLE_ID", "from-the-environment")
    assert ids.get_id("jobs_table") == "from-the-environment"
    assert front.operations == []


def test_what_is_not_there_yet_is_looked_for_again(ids: Ids, moto: str) -> None:
    client_of("ssm", moto).delete_parameters(Names=[f"{PREFIX}/late"])
    assert ids.get_id("late") is None
    record(moto, "late", '{"id": "i-late"}')
    assert ids.get_id("late") == "i-late"


def test_a_record_that_is_none_is_no_id(ids: Ids, moto: str) -> None:
    for value in ("rubbish", "[]", "{}", '{"id": 5}', "null"):
        record(moto, "odd", value)
        assert ids.get_id("odd") is None, value


def test_what_is_kept_encrypted_is_not_decrypted(ids: Ids, moto: str) -> None:
    record(moto, "kept", json.dumps({"id": "unseen"}), "SecureString")
    assert ids.get_id("kept") is None


def test_128_are_remembered(ids: Ids, front: Front, moto: str) -> None:
    for number in range(129):
        record(moto, f"k{number}", json.dumps({"id": str(number)}))
    assert [ids.get_id(f"k{number}") for number in range(129)] == [str(number) for number in range(129)]
    front.operations.clear()
    assert [ids.get_id(f"k{number}") for number in range(1, 129)] == [str(number) for number in range(1, 129)]
    assert front.operations == []
    assert ids.get_id("k0") == "0"
    assert front.operations == ["GetParameter"]


def test_a_ledger_that_can_not_be_read_is_no_absence(ids: Ids, front: Front) -> None:
    front.break_next("GetParameter", *[denied] * 10)
    with pytest.raises(AwsError, match="AccessDenied"):
        ids.get_id("denied")
