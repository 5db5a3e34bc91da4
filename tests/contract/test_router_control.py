# ruff: noqa: F401, F811 (fixtures are imported by name)
"""`POST /stop` and `POST /resize`: for operators; no request waits for the machine, and whoever comes next goes on."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from router_front import Front, reset
from router_function import Function, Result, event
from router_stack import Stack, code, moto, runtime
from test_router_health import Signer, claims_of, front, function, operator, pool_key, stack
from test_router_wake import ec2_error, shape, state

from aistratus import wire


@pytest.fixture
def alice(stack: Stack, pool_key: Signer) -> str:
    return pool_key.token(claims_of(stack))


def order(function: Function, token: str | None, body: Any, route: str = "POST /resize") -> Result:
    return function.invoke(event(route, token, body=body if isinstance(body, str) else json.dumps(body)))


def running(stack: Stack) -> str:
    instance = stack.node()
    stack.client("ec2").start_instances(InstanceIds=[instance])
    return instance


@pytest.mark.parametrize("route", ["POST /stop", "POST /resize"])
def test_nobody_else_may(function: Function, front: Front, stack: Stack, alice: str, route: str) -> None:
    instance = running(stack)
    for token, status in ((None, 401), ("nonsense", 401), (alice, 403)):
        answer = order(function, token, {"action": "stop"}, route)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert state(stack, instance) == "running"
    assert "StopInstances" not in front.operations


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", "body"),
        ("[]", "body"),
        ({}, "action"),
        ({"action": "reboot"}, "action"),
        ({"action": "resize"}, "type"),
        ({"action": "resize", "type": "p5.48xlarge"}, "type"),
        ({"action": "resize", "type": ["t3.small"]}, "type"),
        ({"action": "stop", "type": "t3.small"}, "type"),
        ({"action": "stop", "force": True}, "force"),
    ],
)
def test_a_wrong_order_is_refused_with_the_field(function: Function, operator: str, body: Any, field: str) -> None:
    answer = order(function, operator, body)
    assert (answer.status, answer.body["type"]) == (400, wire.INVALID_REQUEST)
    assert field in {error["field"] for error in answer.body["errors"]}


def test_the_node_is_stopped_and_started_and_both_again_without_harm(
    function: Function, stack: Stack, operator: str
) -> None:
    instance = running(stack)
    for body, route in ((None, "POST /stop"), ({"action": "stop"}, "POST /resize")):
        answer = order(function, operator, body, route)
        assert (answer.status, answer.body["node"]["type"]) == (202, "t3.small")
        assert state(stack, instance) in ("stopping", "stopped")
        assert function.invoke(event("GET /queue-health", operator)).body["node"]["state"] == "stopped"
    for _ in range(2):
        assert order(function, operator, {"action": "start"}).body["node"]["state"] == "starting"
    assert state(stack, instance) in ("pending", "running")
    record = stack.item(wire.power_pk(int(time.time() * 1000))) or {}
    assert {name.partition("_")[0] for name in record if instance.replace("-", "_") in name} == {wire.START, wire.STOP}


def test_a_change_of_type_is_carried_on_by_whoever_looks_next(
    function: Function, stack: Stack, operator: str, alice: str
) -> None:
    instance = running(stack)
    answer = order(function, operator, {"action": "resize", "type": "g4dn.xlarge"})
    assert (answer.status, answer.body["node"]) == (202, {"state": "shape-changing", "type": "g4dn.xlarge"})
    assert (shape(stack, instance), state(stack, instance)) == ("t3.small", "stopped"), "the request didn't wait"
    other = order(function, operator, {"action": "resize", "type": "g5.xlarge"})
    assert (other.status, other.body["type"]) == (409, wire.CONFLICT)
    assert "made g4dn.xlarge already" in other.body["detail"]
    looked = function.invoke(event("GET /queue-health", alice))
    assert looked.status == 200 and looked.body["node"]["type"] == "g4dn.xlarge"
    assert (shape(stack, instance), state(stack, instance) in ("pending", "running")) == ("g4dn.xlarge", True)
    again = order(function, operator, {"action": "resize", "type": "g4dn.xlarge"})
    assert again.body["node"] == {"state": "running", "type": "g4dn.xlarge"}


def test_a_stop_calls_off_a_change_and_nobody_who_looks_starts_the_node_again(
    function: Function, front: Front, stack: Stack, operator: str, alice: str
) -> None:
    instance = running(stack)
    order(function, operator, {"action": "resize", "type": "g4dn.xlarge"})
    assert order(function, operator, None, "POST /stop").status == 202
    looked = function.invoke(event("GET /queue-health", alice)).body["node"]
    assert (looked["state"], state(stack, instance), shape(stack, instance)) == ("stopped", "stopped", "t3.small")

    stack.client("ec2").start_instances(InstanceIds=[instance])
    front.break_next("StopInstances", ec2_error("UnauthorizedOperation"))
    assert order(function, operator, {"action": "resize", "type": "g4dn.xlarge"}).status == 503
    note = stack.item(wire.SHAPE_PK) or {}
    assert (note["type"], note["wake"]) == ("", False), "nothing was begun, so nothing is wanted"


def test_what_ec2_does_not_do_is_told(function: Function, front: Front, stack: Stack, operator: str) -> None:
    assert order(function, operator, {"action": "stop"}).status == 503, "there is no node"
    running(stack)
    for code_, status, said in (
        ("IncorrectInstanceState", 409, "just changing its state"),
        ("UnauthorizedOperation", 503, "may not start"),
        ("RequestLimitExceeded", 503, "RequestLimitExceeded"),
    ):
        front.break_next("StopInstances", ec2_error(code_))
        answer = order(function, operator, {"action": "stop"})
        assert (answer.status, said in answer.body["detail"]) == (status, True), answer.body
    front.break_next("DescribeInstances", reset)
    answer = order(function, operator, {"action": "stop"})
    assert (answer.status, "doesn't answer" in answer.body["detail"]) == (503, True)


def test_the_node_is_told_with_the_time_that_its_boots_have_taken(function: Function, stack: Stack, alice: str) -> None:
    def node() -> dict[str, Any]:
        told: dict[str, Any] = function.invoke(event("GET /queue-health", alice)).body["node"]
        return told

    assert node() == {"state": "stopped", "type": None, "stops_in_s": None, "eta_s": 40}
    boots: list[dict[str, Any]] = [{"type": "t3.small", "total_s": seconds} for seconds in (500, 60, 64, 62, 70, 20)]
    stack.put({"pk": wire.BOOTS_PK, "boots": boots})
    stack.node()
    accepted = function.infer(alice, {"prompt": "hello"}).body
    assert (accepted["node"], 55 <= accepted["eta_s"] <= 62) == ("starting", True), accepted
    assert (node()["state"], node()["type"]) == ("pending", "t3.small")
    waiting = function.job(alice, accepted["job_id"]).body
    assert (waiting["node"], 50 <= waiting["eta_s"] <= 62) == ("starting", True)
    stack.put({"pk": wire.HEARTBEAT_PK, "at_ms": int(time.time() * 1000), "state": "ready", "type": "t3.small",
               "stops_in_s": 600})  # fmt: skip
    ready = node()
    assert (ready["state"], ready["eta_s"], 590 <= ready["stops_in_s"] <= 600) == ("ready", 0, True)
    assert function.job(alice, accepted["job_id"]).body["eta_s"] is None
    stack.put({"pk": wire.HEARTBEAT_PK, "at_ms": 0})
    stack.put({"pk": wire.BOOTS_PK, "boots": [*boots, {"type": "t3.small", "at_ms": int(time.time() * 1000) + 1}]})
    assert node()["state"] == "stopped", "it was ready, and gives no sign of life any more"
