"""The node is stopped and started from every state, twice at once too, and says what AWS refuses."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from converge_engine import Engine
from perturb_compute import await_state, state
from test_compute import bare, node_id

from aistratus import wire
from aistratus.cloud import CREATED_SEEN, Cloud
from aistratus.core.errors import Absent, Failure
from aistratus.core.settle import Wait, until
from aistratus.node import lifecycle
from aistratus.node.stop_all import stop_all
from aistratus.resources.dynamodb import Table
from aistratus.resources.instance_listing import INSTANCES

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
NEXT_SECOND = Wait(what="the clock shows another second", within=5, first=0.1)


@pytest.fixture
def node(engine: Engine) -> str:
    engine.up(*bare())
    return node_id(engine, *bare())


def twice(work: Callable[[Cloud, str], None], aws: Cloud, node: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(work, aws, node) for _ in range(2)]:
            one.result()


def test_it_stops_and_starts_and_doing_so_again_changes_nothing(aws: Cloud, engine: Engine, node: str) -> None:
    assert lifecycle.look(aws)["InstanceId"] == node
    lifecycle.stop(aws, node)  # it may be `pending` yet
    assert state(aws, node) == "stopped"
    before = engine.meter.write
    lifecycle.stop(aws, node)
    assert engine.meter.write == before
    lifecycle.start(aws, node)
    assert state(aws, node) == "running"
    before = engine.meter.write
    lifecycle.start(aws, node)
    assert engine.meter.write == before


def test_two_at_once_end_alike_and_states_in_between_are_waited_out(aws: Cloud, node: str) -> None:
    twice(lifecycle.stop, aws, node)
    assert state(aws, node) == "stopped"
    twice(lifecycle.start, aws, node)
    assert state(aws, node) == "running"
    aws.ec2.stop_instances(InstanceIds=[node])  # `stopping` can't be started
    lifecycle.start(aws, node)
    assert state(aws, node) == "running"
    lifecycle.stop(aws, node)
    aws.ec2.start_instances(InstanceIds=[node])  # `pending` can't be stopped
    lifecycle.stop(aws, node)
    assert state(aws, node) == "stopped"


def test_one_that_is_gone_is_told(aws: Cloud, engine: Engine, node: str) -> None:
    engine.down(*bare())
    with pytest.raises(Absent, match="`aistratus up` builds it"):
        lifecycle.look(aws)
    for work in (lifecycle.stop, lifecycle.start):
        with pytest.raises(Absent, match=f"{node} was terminated"):
            work(aws, node)


def test_one_that_a_prompt_wakes_meanwhile_is_left_awake(aws: Cloud, node: str) -> None:
    await_state(aws, node, "running")
    asked: list[str] = []

    def wake(**_: Any) -> None:
        asked.append(node)
        await_state(aws, node, "stopped")
        # EC2 tells the second of the latest start.
        second = int(time.time())
        until(NEXT_SECOND, lambda: int(time.time()) > second or None, clock=aws.clock)
        aws.ec2.start_instances(InstanceIds=[node])

    aws.ec2.meta.events.register("after-call.ec2.StopInstances", wake)
    with pytest.raises(Failure, match="started again while it stopped"):
        lifecycle.stop(aws, node)
    await_state(aws, node, "running")
    assert asked == [node]


@pytest.mark.parametrize(
    ("code", "status", "sentence"),
    [
        ("InsufficientInstanceCapacity", 500, r"AWS has no capacity for t3\.small in eu-central-1\w right now; try"),
        ("VcpuLimitExceeded", 400, "the account's limit on running instances leaves no room for t3.small; stop others"),
    ],
)
def test_what_aws_has_no_room_for_is_told_at_once(aws: Cloud, node: str, code: str, status: int, sentence: str) -> None:
    lifecycle.stop(aws, node)
    asked: list[str] = []

    def refuse(**_: Any) -> Any:
        asked.append(code)
        error = {"Code": code, "Message": code}
        return AWSResponse("", status, {}, None), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}

    aws._clients.get("ec2", retries=False).meta.events.register("before-call.ec2.StartInstances", refuse)
    with pytest.raises(Failure, match=sentence):
        lifecycle.start(aws, node)
    assert asked == [code]
    assert state(aws, node) == "stopped"


def test_the_budgets_mark_is_read_until_it_expires(aws: Cloud, engine: Engine) -> None:
    assert lifecycle.budget_until(aws, 24.0) is None, "without a table too"
    engine.up(Table(key="jobs_table", name="jobs"))
    for expires_at, limit_usd, told in (
        (1, 24.0, None),
        (4_102_444_800, 24.0, "2100-01-01"),
        (4_102_444_800, 23.0, None),
    ):
        item = wire.pack({"pk": wire.BUDGET_PK, "expires_at": expires_at, "limit_usd": limit_usd})
        aws.dynamodb.put_item(TableName=aws.name("jobs"), Item=item)
        assert lifecycle.budget_until(aws, 24.0) == told


def test_one_machine_that_cannot_be_stopped_keeps_no_other_running(aws: Cloud) -> None:
    tags = [{"Key": name, "Value": value} for name, value in aws.tags("spare").items()]
    aws.ec2.run_instances(
        ImageId=aws.ssm.get_parameter(Name=IMAGE)["Parameter"]["Value"],
        InstanceType="t3.micro", MinCount=3, MaxCount=3,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )  # fmt: skip
    things = until(CREATED_SEEN, lambda: INSTANCES.ours(aws.fresh()) or None, clock=aws.clock)
    ids = [thing["InstanceId"] for thing in things]
    asked: list[str] = []

    def refuse(params: dict[str, Any], **_: Any) -> Any:
        asked.append(params["body"]["InstanceId.1"])
        if asked[-1] != ids[0]:
            return None
        error = {"Code": "OperationNotPermitted", "Message": "its stop protection is on"}
        return AWSResponse("", 400, {}, None), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}

    aws.ec2.meta.events.register("before-call.ec2.StopInstances", refuse)
    aws.ec2.meta.events.register("before-call.ec2.DescribeInstances", lambda **_: asked.append("look"))
    stops = stop_all(aws, things)
    assert len(ids) == 3 and asked[: len(ids) + 1] == [*ids, "look"]
    assert (set(stops.stopped), set(stops.failed)) == (set(ids[1:]), {ids[0]})
    assert [state(aws, one) for one in ids[1:]] == ["stopped", "stopped"]
    aws.ec2.terminate_instances(InstanceIds=ids)
