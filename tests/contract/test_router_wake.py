# ruff: noqa: F401, F811 (fixtures are imported by name)
"""The router and a node that sleeps, against moto's EC2."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from router_front import Front, denied, reset
from router_function import Function, Result, event
from router_stack import Stack, alice, code, front, function, moto, runtime

from aistratus import wire


@pytest.fixture
def stack(moto: str) -> Stack:
    return Stack.create(moto)


def state(stack: Stack, instance: str) -> str:
    found = stack.client("ec2").describe_instances(InstanceIds=[instance])
    return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])


def starts(answer: Result) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in answer.printed.splitlines()]
    return [line for line in lines if "_aws" in line]


def silent(handler: Any, _: Any) -> None:
    """A fault: takes the call and says nothing until the caller has gone."""
    while handler.connection.recv(1024):
        pass
    handler.close_connection = True


def tried_again(stack: Stack) -> None:
    """Lets the short pause after an attempt that nothing came of be over."""
    stack.put({**(stack.item(wire.WAKE_PK) or {}), "at_ms": int(time.time() * 1000) - wire.WAKE_AGAIN_S * 1000 - 1})


def ec2_error(code_: str) -> Any:
    """A fault: EC2's XML for an error."""

    def answer(handler: Any, _: Any) -> None:
        text = f"<Response><Errors><Error><Code>{code_}</Code><Message>no</Message></Error></Errors></Response>"
        handler.send_response(400)
        handler.send_header("content-length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


def test_a_prompt_wakes_a_stopped_node_and_counts_the_start(function: Function, stack: Stack, alice: str) -> None:
    instance = stack.node()
    answer = function.infer(alice, {"prompt": "anybody there?"})
    assert (answer.status, answer.body["node"], answer.body["status"]) == (202, "starting", "queued")
    assert state(stack, instance) in ("pending", "running")
    assert len(stack.messages()) == 1
    (metric,) = starts(answer)
    described = metric["_aws"]["CloudWatchMetrics"][0]
    assert (described["Namespace"], described["Dimensions"]) == (
        "Aistratus",
        [["Reason"], ["Env", "Reason"]],
    )
    assert described["Metrics"][0]["Name"] == "EC2Starts"
    assert (metric["Env"], metric["Reason"], metric["EC2Starts"]) == ("test", "ColdBoot", 1)
    assert abs(metric["_aws"]["Timestamp"] - time.time() * 1000) < 60_000


def test_many_prompts_start_the_node_once(function: Function, front: Front, stack: Stack, alice: str) -> None:
    stack.node()
    answers = [function.infer(alice, {"prompt": f"prompt {n}"}) for n in range(5)]
    assert [answer.body["node"] for answer in answers] == ["starting"] * 5
    assert front.operations.count("StartInstances") == 1
    assert front.operations.count("DescribeInstances") == 1
    assert sum(len(starts(answer)) for answer in answers) == 1


def test_a_fresh_heartbeat_makes_no_call_to_ec2(function: Function, front: Front, stack: Stack, alice: str) -> None:
    stack.node()
    stack.beat(age_s=wire.HEARTBEAT_FRESH_S - 5)
    answer = function.infer(alice, {"prompt": "hello"})
    assert answer.body["node"] == "ready"
    assert not {"DescribeInstances", "StartInstances", "GetParameter"} & set(front.operations)
    assert "boto3" not in answer.modules


def test_a_worker_that_loads_its_model_is_starting(function: Function, stack: Stack, alice: str) -> None:
    stack.beat(state="loading")
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"


def test_a_stale_or_expired_heartbeat_wakes_the_node(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    stack.node()
    stack.beat(age_s=wire.HEARTBEAT_FRESH_S + 1)
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert front.operations.count("StartInstances") == 1


def test_whoever_waits_for_a_queued_job_wakes_the_node_again(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    stack.beat()
    job_id = function.infer(alice, {"prompt": "hello"}).body["job_id"]
    instance = stack.node()
    stack.beat(age_s=60)
    answer = function.job(alice, job_id)
    assert (answer.status, answer.body["node"]) == (200, "starting")
    assert state(stack, instance) in ("pending", "running")
    assert len(starts(answer)) == 1


def test_a_node_that_runs_without_a_heartbeat_is_not_started_again(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    stack.client("ec2").start_instances(InstanceIds=[stack.node()])
    answer = function.infer(alice, {"prompt": "hello"})
    assert (answer.status, answer.body["node"]) == (202, "starting")
    assert front.operations.count("StartInstances") == 0


def test_a_stopping_node_is_told_and_woken_by_a_later_poll(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    instance = stack.node()
    front.break_next("StartInstances", ec2_error("IncorrectInstanceState"))
    answer = function.infer(alice, {"prompt": "hello"})
    assert (answer.status, answer.body["node"]) == (202, "stopping")
    assert function.job(alice, answer.body["job_id"]).body["node"] == "stopping"
    item = stack.item(wire.WAKE_PK)
    stack.put({**(item or {}), "at_ms": int(time.time() * 1000) - wire.WAKE_AGAIN_S * 1000 - 1})
    assert function.job(alice, answer.body["job_id"]).body["node"] == "starting"
    assert state(stack, instance) in ("pending", "running")


@pytest.mark.parametrize(
    ("code_", "said"),
    [
        ("InsufficientInstanceCapacity", "no capacity"),
        ("UnauthorizedOperation", "may not start"),
        ("VcpuLimitExceeded", "limit"),
        ("SomethingNew", "refused"),
    ],
)
def test_a_node_that_cannot_start_is_a_503_and_nothing_is_queued(
    function: Function, front: Front, stack: Stack, alice: str, code_: str, said: str
) -> None:
    stack.node()
    front.break_next("StartInstances", ec2_error(code_))
    # The second hears of it from the first one's attempt.
    for answer in (function.infer(alice, {"prompt": "hello"}), function.infer(alice, {"prompt": "hello"})):
        assert (answer.status, answer.body["type"]) == (503, wire.NODE_UNAVAILABLE)
        assert said in answer.body["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    assert front.operations.count("StartInstances") == 1
    assert stack.messages() == []
    assert stack.jobs() == []


def shape(stack: Stack, instance: str) -> str:
    found = stack.client("ec2").describe_instances(InstanceIds=[instance])
    return str(found["Reservations"][0]["Instances"][0]["InstanceType"])


def test_a_change_of_shape_whose_command_died_is_carried_out_by_the_next_prompt(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    instance = stack.node()
    stack.put({"pk": wire.SHAPE_PK, "type": "g5.xlarge", "expires_at": int(time.time()) + 60})
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert (shape(stack, instance), state(stack, instance) in ("pending", "running")) == ("g5.xlarge", True)
    assert (stack.item(wire.SHAPE_PK) or {})["type"] == "", "and is over"


def test_the_note_of_a_start_by_hand_keeps_nobody_from_waking_the_node(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    instance = stack.node()
    stack.put({"pk": wire.WAKE_PK, "started_ms": int(time.time() * 1000), "type": "t3.small"})
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert state(stack, instance) in ("pending", "running")


def test_a_type_that_settings_do_not_name_is_never_made(function: Function, stack: Stack, alice: str) -> None:
    instance = stack.node()
    stack.put({"pk": wire.SHAPE_PK, "type": "p5.48xlarge", "expires_at": int(time.time()) + 60})
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert shape(stack, instance) == "t3.small"


def test_without_room_for_a_gpu_the_node_wakes_as_the_next_type(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    instance = stack.node()
    ec2 = stack.client("ec2")
    ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "g5.xlarge"})
    front.break_next("StartInstances", ec2_error("InsufficientInstanceCapacity"))
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert (shape(stack, instance), state(stack, instance) in ("pending", "running")) == ("t3.small", True)


def test_a_change_to_a_type_without_room_wakes_the_node_on_its_cpu_at_once(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    """An account's quota of GPUs is 0 at first; what was asked for must not keep prompts from being answered."""
    instance = stack.node()
    stack.put({"pk": wire.SHAPE_PK, "type": "g4dn.xlarge", "wake": True, "expires_at": int(time.time()) + 60})
    front.break_next("StartInstances", *[ec2_error("VcpuLimitExceeded")] * 2)
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert (shape(stack, instance), state(stack, instance) in ("pending", "running")) == ("t3.small", True)
    note = stack.item(wire.SHAPE_PK) or {}
    assert (note["type"], note["wake"]) == ("", False)


def test_where_every_type_refuses_the_next_prompt_goes_on_from_the_cpu_type(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    instance = stack.node()
    stack.put({"pk": wire.SHAPE_PK, "type": "g4dn.xlarge", "wake": True, "expires_at": int(time.time()) + 60})
    front.break_next("StartInstances", *[ec2_error("InsufficientInstanceCapacity")] * 3)
    refused = function.infer(alice, {"prompt": "hello"})
    assert (refused.status, shape(stack, instance)) == (503, "t3.small")
    tried_again(stack)
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert (shape(stack, instance), state(stack, instance) in ("pending", "running")) == ("t3.small", True)
    assert front.operations.count("StartInstances") == 4, "it didn't begin with the wanted type anew"


@pytest.mark.parametrize("code_", ["Unsupported", "InvalidInstanceAttributeValue"])
def test_a_node_that_can_not_become_the_wanted_type_starts_as_it_is(
    function: Function, front: Front, stack: Stack, alice: str, code_: str
) -> None:
    instance = stack.node()
    stack.put({"pk": wire.SHAPE_PK, "type": "g4dn.xlarge", "wake": True, "expires_at": int(time.time()) + 60})
    front.break_next("ModifyInstanceAttribute", ec2_error(code_))
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert (shape(stack, instance), state(stack, instance) in ("pending", "running")) == ("t3.small", True)
    assert (stack.item(wire.SHAPE_PK) or {})["type"] == ""


@pytest.mark.parametrize(("noted", "woken"), [("", "g4dn.xlarge"), ("g5.xlarge", "g5.xlarge")])
def test_a_prompt_wakes_it_as_the_settings_say_unless_somebody_has_asked_for_a_type(
    front: Front, stack: Stack, code: Path, runtime: Path, alice: str, noted: str, woken: str
) -> None:
    function, instance = Function(code, runtime, stack.variables(front.url, WAKE_AS="g4dn.xlarge")), stack.node()
    if noted:
        stack.put({"pk": wire.SHAPE_PK, "type": noted, "expires_at": int(time.time()) + 60})
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert (shape(stack, instance), state(stack, instance) in ("pending", "running")) == (woken, True)
    function.close()


def test_what_the_settings_wake_it_as_is_given_up_for_a_while_where_there_is_no_room(
    front: Front, stack: Stack, code: Path, runtime: Path, alice: str
) -> None:
    """Or each request would begin with the first type anew, and none would reach the last."""
    function, instance = Function(code, runtime, stack.variables(front.url, WAKE_AS="g4dn.xlarge")), stack.node()
    front.operations.clear()
    front.break_next("StartInstances", ec2_error("VcpuLimitExceeded"), ec2_error("RequestLimitExceeded"))
    answer = function.infer(alice, {"prompt": "hello"})
    assert (answer.status, shape(stack, instance)) == (202, "g5.xlarge"), "EC2 had no more time for this request"
    tried_again(stack)
    front.break_next("StartInstances", ec2_error("VcpuLimitExceeded"))
    assert function.job(alice, answer.body["job_id"]).body["node"] == "starting"
    assert (shape(stack, instance), state(stack, instance) in ("pending", "running")) == ("t3.small", True)
    assert (stack.item(wire.SHAPE_PK) or {})["type"] == "", "the next wake-up tries it again"
    function.close()


def test_no_node_at_all_is_a_503_that_says_what_to_do(function: Function, stack: Stack, alice: str) -> None:
    answer = function.infer(alice, {"prompt": "hello"})
    assert (answer.status, answer.body["type"]) == (503, wire.NODE_UNAVAILABLE)
    assert "aistratus up" in answer.body["detail"]
    assert stack.jobs() == []


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("DescribeInstances", silent),
        ("DescribeInstances", reset),
        ("StartInstances", silent),
        ("StartInstances", ec2_error("RequestLimitExceeded")),
    ],
    ids=["silent look", "broken look", "silent start", "throttled start"],
)
def test_a_prompt_is_taken_when_ec2_does_not_answer_and_the_next_poll_tries_anew(
    function: Function, front: Front, stack: Stack, alice: str, operation: str, fault: Any
) -> None:
    instance = stack.node()
    front.break_next(operation, fault)
    answer = function.infer(alice, {"prompt": "hello"})
    assert (answer.status, answer.body["node"], answer.body["status"]) == (202, "starting", "queued")
    assert front.operations.count(operation) == 1
    assert starts(answer) == []
    assert len(stack.messages()) == 1
    item = stack.item(wire.WAKE_PK)
    assert item is not None
    assert (item["state"], "EC2 doesn't answer" in item["reason"]) == ("asleep", True)
    assert item["at_ms"] <= time.time() * 1000 - (wire.WAKE_AGAIN_S - 1) * 1000  # the next attempt is due in a second

    tried_again(stack)
    woken = function.job(alice, answer.body["job_id"])
    assert (woken.status, woken.body["node"], len(starts(woken))) == (200, "starting", 1)
    assert state(stack, instance) in ("pending", "running")
    assert (stack.item(wire.WAKE_PK) or {})["state"] == "starting"


def test_a_prompt_with_little_time_left_is_taken_without_asking_ec2(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    instance = stack.node()
    asked = event("POST /infer", alice, body=json.dumps({"prompt": "hello"}))
    answer = function.invoke(asked, remaining_ms=6_000)
    assert (answer.status, answer.body["node"], answer.body["status"]) == (202, "starting", "queued")
    assert not {"DescribeInstances", "StartInstances"} & set(front.operations)
    assert "boto3" not in answer.modules
    assert len(stack.messages()) == 1
    tried_again(stack)
    assert function.job(alice, answer.body["job_id"]).body["node"] == "starting"
    assert state(stack, instance) in ("pending", "running")


def test_whoever_asks_right_after_an_attempt_that_came_to_nothing_is_told_starting(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    stack.node()
    stack.put({"pk": wire.WAKE_PK, "at_ms": int(time.time() * 1000), "state": "asleep", "reason": "EC2"})
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert front.operations.count("DescribeInstances") == 0


def test_a_ledger_that_does_not_answer_loses_no_prompt_and_one_that_refuses_is_a_503(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    stack.node()
    front.break_next("GetParameter", silent)
    answer = function.infer(alice, {"prompt": "hello"})
    assert (answer.status, answer.body["node"]) == (202, "starting")
    tried_again(stack)
    front.break_next("GetParameter", denied)
    assert function.infer(alice, {"prompt": "hello"}).status == 503
    assert len(stack.jobs()) == 1


def test_a_node_that_was_replaced_is_looked_up_again(function: Function, stack: Stack, alice: str) -> None:
    old = stack.node()
    function.infer(alice, {"prompt": "hello"})
    stack.client("ec2").terminate_instances(InstanceIds=[old])
    new = stack.node()
    item = stack.item(wire.WAKE_PK)
    stack.put({**(item or {}), "at_ms": 0})
    assert function.infer(alice, {"prompt": "hello again"}).body["node"] == "starting"
    assert state(stack, new) in ("pending", "running")


def test_a_repeated_request_finds_its_job_even_when_the_node_cannot_start(
    function: Function, stack: Stack, alice: str
) -> None:
    stack.beat()
    function.infer(alice, {"prompt": "hello"}, key="key-asleep")
    stack.beat(age_s=60)
    assert function.infer(alice, {"prompt": "hello"}, key="key-asleep").status == 202
    assert function.infer(alice, {"prompt": "other"}, key="key-asleep").status == 409


def test_a_node_that_the_budget_stopped_stays_off_until_the_month_ends(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    instance = stack.node()
    stack.put({"pk": wire.BUDGET_PK, "at_ms": 1, "expires_at": int(time.time()) + 600})
    answer = function.infer(alice, {"prompt": "hello"})
    assert (answer.status, answer.body["type"]) == (503, wire.NODE_UNAVAILABLE)
    assert "the budget's limit is reached" in answer.body["detail"]
    assert 500 < int(answer.headers["retry-after"]) <= 600
    assert front.operations.count("StartInstances") == 0
    assert stack.jobs() == []

    stack.put({"pk": wire.BUDGET_PK, "at_ms": 1, "expires_at": int(time.time()) - 1})
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert state(stack, instance) in ("pending", "running")


def test_a_limit_that_was_raised_lifts_what_the_budget_said(function: Function, stack: Stack, alice: str) -> None:
    """The router's own limit is 24.68 dollars."""
    instance, ends = stack.node(), int(time.time()) + 600
    for limit in (24.68, 30):
        stack.put({"pk": wire.BUDGET_PK, "at_ms": 1, "limit_usd": limit, "expires_at": ends})
        answer = function.infer(alice, {"prompt": "hello"})
        assert answer.status == 503
        assert "raises budget.kill_eur and runs `aistratus up`" in answer.body["detail"]
    stack.put({"pk": wire.BUDGET_PK, "at_ms": 1, "limit_usd": 20, "expires_at": ends})
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "starting"
    assert state(stack, instance) in ("pending", "running")


def test_a_node_that_was_started_by_hand_answers_whatever_the_budget_says(
    function: Function, stack: Stack, alice: str
) -> None:
    stack.put({"pk": wire.BUDGET_PK, "at_ms": 1, "expires_at": int(time.time()) + 10**7})
    assert int(function.infer(alice, {"prompt": "hello"}).headers["retry-after"]) == 3_600
    stack.beat()
    assert function.infer(alice, {"prompt": "hello"}).body["node"] == "ready"


def test_the_event_that_keeps_the_router_warm_is_answered_at_once(function: Function, front: Front) -> None:
    answer = function.invoke(dict(wire.WARM))
    assert (answer.status, answer.body, answer.printed) == (200, {"status": "warm"}, "")
    assert front.operations == []
    assert not {"boto3", "jose"} & answer.modules
    assert function.invoke({**wire.WARM, "routeKey": "POST /infer", "headers": {}}).status == 401
