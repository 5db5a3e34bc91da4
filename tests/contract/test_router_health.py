# ruff: noqa: F401, F811 (fixtures are imported by name)
"""`GET /health?deep=1`: what an operator hears of everything behind the router, and nobody else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from router_front import Fault, Front, denied, failing, front_of
from router_function import Function, Result, event
from router_signer import Signer, claims_of
from router_stack import Stack, code, function, moto, runtime

from aistratus import wire

VALUE = "sk-never-told-to-anybody"
CONTRACT = json.loads((Path(__file__).parents[2] / "aistratus/router/openapi.json").read_text("utf-8"))


@pytest.fixture
def stack(moto: str) -> Stack:
    made = Stack.create(moto)
    made.client("secretsmanager").create_secret(Name=made.secret)
    return made


@pytest.fixture(scope="module")
def pool_key() -> Signer:
    return Signer.create("pool-key")


@pytest.fixture(scope="module")
def front(moto: str, pool_key: Signer) -> Iterator[Front]:
    with front_of(moto) as made:
        made.keys = [pool_key.public_jwk]
        yield made


@pytest.fixture
def operator(stack: Stack, pool_key: Signer) -> str:
    return pool_key.token(claims_of(stack, **{"cognito:groups": ["others", "operators"]}))


def deep(function: Function, token: str | None) -> Result:
    answer = function.invoke(event("GET /health", token, query={"deep": "1"}))
    if answer.status == 200:
        schema = {"$ref": "#/components/schemas/Health", "components": CONTRACT["components"]}
        Draft202012Validator(schema).validate(answer.body)
    return answer


def states(answer: Result) -> dict[str, str]:
    return {name: check["state"] for name, check in answer.body["checks"].items()}


def test_a_new_stack_is_well_and_looking_wakes_nobody_and_needs_no_boto3(
    function: Function, front: Front, stack: Stack, operator: str
) -> None:
    node = stack.node()
    answer = deep(function, operator)
    assert (answer.status, answer.body["status"], answer.body["env"]) == (200, "ok", "test")
    assert states(answer) == {"secret": "unset", "queue": "reachable", "table": "writable", "node": "asleep"}
    assert sorted(front.operations) == ["GetItem", "GetItem", "GetQueueAttributes", "GetSecretValue", "UpdateItem"]
    assert stack.messages() == []
    reservations = stack.client("ec2").describe_instances(InstanceIds=[node])["Reservations"]
    assert reservations[0]["Instances"][0]["State"]["Name"] == "stopped"
    assert not {"boto3", "botocore"} & answer.modules


def test_a_secret_that_is_set_is_said_to_be_and_told_nowhere(function: Function, stack: Stack, operator: str) -> None:
    stack.client("secretsmanager").put_secret_value(SecretId=stack.secret, SecretString=VALUE)
    stack.beat()
    answer = deep(function, operator)
    assert states(answer) == {"secret": "set", "queue": "reachable", "table": "writable", "node": "ready"}
    assert VALUE not in json.dumps(answer.body) + json.dumps(dict(answer.headers)) + answer.printed


def test_a_secret_that_is_not_there_is_no_empty_one(function: Function, stack: Stack, operator: str) -> None:
    stack.client("secretsmanager").delete_secret(SecretId=stack.secret, ForceDeleteWithoutRecovery=True)
    answer = deep(function, operator)
    assert (answer.status, answer.body["status"]) == (200, "degraded")
    assert answer.body["checks"]["secret"] == {
        "ok": False,
        "state": "unreadable",
        "reason": "ResourceNotFoundException",
    }


@pytest.mark.parametrize(
    ("operation", "check", "state"),
    [
        ("GetSecretValue", "secret", "unreadable"),
        ("GetQueueAttributes", "queue", "unreachable"),
        ("UpdateItem", "table", "read-only"),
        ("GetItem", "node", "unknown"),
    ],
)
@pytest.mark.parametrize("fault", [denied, failing], ids=lambda fault: fault.__name__)
def test_what_fails_is_named_and_hides_nothing_else(
    function: Function, front: Front, operator: str, operation: str, check: str, state: str, fault: Fault
) -> None:
    front.break_next(operation, *[fault] * 20)
    answer = deep(function, operator)
    assert (answer.status, answer.body["status"]) == (200, "degraded")
    found = answer.body["checks"]
    assert (found[check]["ok"], found[check]["state"]) == (False, state)
    assert found[check]["reason"] in ("AccessDeniedException", "InternalServerError")
    assert [name for name in found if not found[name]["ok"]] == [check]


@pytest.mark.parametrize(
    ("item", "state", "ok"),
    [
        ({"pk": wire.HEARTBEAT_PK, "state": "loading"}, "starting", True),
        ({"pk": wire.HEARTBEAT_PK, "state": "loading", "reason": "the model is damaged"}, "starting", False),
        ({"pk": wire.WAKE_PK, "state": "unavailable", "reason": "AWS has no capacity"}, "unavailable", False),
        ({"pk": wire.WAKE_PK, "state": "starting", "reason": ""}, "starting", True),
    ],
)
def test_the_nodes_state_is_what_the_worker_and_the_last_start_said(
    function: Function, stack: Stack, operator: str, item: dict[str, str], state: str, ok: bool
) -> None:
    now = int(time.time())
    stack.put({**item, "at_ms": now * 1000, "expires_at": now + 600})
    node = deep(function, operator).body["checks"]["node"]
    assert (node["state"], node["ok"], node["reason"]) == (state, ok, item.get("reason") or None)


def test_nobody_else_hears_more_than_that_the_router_runs(
    function: Function, front: Front, stack: Stack, pool_key: Signer
) -> None:
    assert deep(function, None).status == 401
    assert deep(function, "e30.e30.e30").status == 401
    stranger = Signer.create("pool-key").token(claims_of(stack, **{"cognito:groups": ["operators"]}))
    assert deep(function, stranger).status == 401
    for groups in (None, [], ["users"], "operators", {"operators": 1}, ["Operators", ["operators"], 5]):
        answer = deep(function, pool_key.token(claims_of(stack, **{"cognito:groups": groups})))
        assert (answer.status, answer.body["type"]) == (403, wire.FORBIDDEN), groups
        assert answer.headers["content-type"] == "application/problem+json"
    forged = event("GET /health", pool_key.token(claims_of(stack)), query={"deep": "1"})
    forged["requestContext"]["authorizer"] = {"jwt": {"claims": {"cognito:groups": "[operators]"}}}
    assert function.invoke(forged).status == 403
    assert "GetSecretValue" not in front.operations
    plain = function.invoke(event("GET /health", None, query={"deep": "0"}))
    assert (plain.status, set(plain.body)) == (200, {"status", "env", "version", "request_id"})


@pytest.mark.parametrize("value", ["", "2", "true", "1,1", " 1", "１"])
def test_a_silly_depth_is_named(function: Function, operator: str, value: str) -> None:
    answer = function.invoke(event("GET /health", operator, query={"deep": value}))
    assert (answer.status, answer.bad_fields) == (400, ["deep"])
