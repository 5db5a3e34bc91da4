"""The node changes its shape: twice at once, without room, after a failure in the middle and somebody's own hands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from converge_engine import Engine
from perturb_compute import state
from test_compute import bare, node_id

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.core.errors import Absent, Failure, Interrupted, Locked, UsageError
from aistratus.core.settle import RealClock
from aistratus.node import lifecycle, resize
from aistratus.node.resize import Outcome
from aistratus.node.states import Shapes
from aistratus.resources.dynamodb import Table
from aistratus.retries import NO_CAPACITY

CPU, GPU, OTHER = "t3.small", "g4dn.xlarge", "g5.xlarge"
SHAPES = Shapes(cpu=CPU, gpus=(GPU, OTHER))


@pytest.fixture
def node(aws: Cloud, engine: Engine) -> str:
    """A node without a worker: a heartbeat that never ages stands for one."""
    engine.up(*bare(), Table(key="jobs_table", name="jobs"))
    identity = node_id(engine, *bare())
    ahead = int((time.time() + 3_600) * 1000)
    item = {"pk": wire.HEARTBEAT_PK, "instance_id": identity, "at_ms": ahead, "state": "ready"}
    aws.dynamodb.put_item(TableName=aws.name("jobs"), Item=wire.pack(item))
    return identity


def change(aws: Cloud, wanted: str, **options: Any) -> Outcome:
    return resize.resize(aws, wanted, SHAPES, by="ann", **options)


def type_of(aws: Cloud) -> str:
    return str(lifecycle.look(aws)["InstanceType"])


def refuse(aws: Cloud, operation: str, code: str, when: Callable[[dict[str, Any]], bool] = lambda _: True) -> list[str]:
    """Makes EC2 refuse an operation; gives what was asked of it."""
    asked: list[str] = []

    def answer(params: dict[str, Any], **_: Any) -> Any:
        asked.append(type_of(aws))
        if not when(params):
            return None
        error = {"Code": code, "Message": code}
        status = 500 if code in NO_CAPACITY else 400
        return AWSResponse("", status, {}, None), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}

    for retries in (True, False):
        aws._clients.get("ec2", retries=retries).meta.events.register(f"before-call.ec2.{operation}", answer)
    return asked


def test_it_becomes_another_type_and_is_left_so_by_up(aws: Cloud, engine: Engine, node: str) -> None:
    told: list[str] = []
    assert change(aws, GPU, tell=told.append) == Outcome(GPU)
    assert (type_of(aws), state(aws, node)) == (GPU, "running")
    assert [line.partition(" ")[0] for line in told] == ["stopping", "making", "starting", "waiting"]
    assert resize.changing_to(aws) == ""
    assert engine.differences(*bare()) == {}, "the declared type counts for a new node only"
    before = engine.meter.write
    assert change(aws, GPU) == Outcome(GPU)
    assert engine.meter.write == before + 2, "but for notes in the table, doing it again changes nothing"
    assert change(aws, CPU, wake=False) == Outcome(CPU)
    assert (type_of(aws), state(aws, node)) == (CPU, "stopped")


def test_with_a_gpu_it_is_ready_when_the_worker_uses_it_or_says_why_it_does_not(aws: Cloud, node: str) -> None:
    """The first boot builds the driver; what is waited for has a name and an end."""
    told: list[str] = []
    ahead = int((time.time() + 3_600) * 1000)
    beat = {"pk": wire.HEARTBEAT_PK, "instance_id": node, "at_ms": ahead, "state": "ready", "gpu": False}

    def put(**more: Any) -> None:
        aws.dynamodb.put_item(TableName=aws.name("jobs"), Item=wire.pack({**beat, **more}))

    def tell(line: str) -> None:
        told.append(line)
        if "waiting for the GPU's driver" in line:
            put(state="loading")
            threading.Timer(0.7, put, kwargs={"gpu": True, "gpu_trouble": None}).start()

    put(gpu_trouble=None)
    assert change(aws, GPU, tell=tell) == Outcome(GPU)
    assert told[-1].endswith("which the first boot on g4dn.xlarge builds: some minutes, 30 at most …")
    put(gpu_trouble="this machine has no GPU")
    assert change(aws, GPU).remark == "its model runs on the processor: this machine has no GPU"
    assert change(aws, CPU).remark == ""


def test_two_at_once_for_one_type_end_alike_and_another_type_is_refused_meanwhile(aws: Cloud, node: str) -> None:
    asked = refuse(aws, "ModifyInstanceAttribute", "never", when=lambda _: False)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(change, aws.fresh(), GPU) for _ in range(2)]
        assert {one.result() for one in both} == {Outcome(GPU)}
    assert (type_of(aws), state(aws, node)) == (GPU, "running")
    assert asked
    note = {"pk": wire.SHAPE_PK, "type": OTHER, "token": "theirs", "by": "bob", "expires_at": int(time.time()) + 60}
    aws.dynamodb.put_item(TableName=aws.name("jobs"), Item=wire.pack(note))
    with pytest.raises(Locked, match=rf"bob began \d+ s ago to make the node {OTHER}; wait"):
        change(aws, CPU)
    assert (type_of(aws), state(aws, node)) == (GPU, "running")


@pytest.mark.parametrize("code", ["InsufficientInstanceCapacity", "VcpuLimitExceeded", "Unsupported"])
def test_without_room_the_next_type_is_tried_and_at_last_the_node_stays_on_its_cpu(
    aws: Cloud, node: str, code: str
) -> None:
    asked = refuse(aws, "StartInstances", code, when=lambda _: type_of(aws) != CPU)
    outcome = change(aws, OTHER)
    assert (outcome.type, type_of(aws), state(aws, node)) == (CPU, CPU, "running")
    assert OTHER in outcome.why
    assert asked == [OTHER, GPU, CPU]


def test_a_failure_in_the_middle_leaves_it_startable_and_says_how_it_stands(aws: Cloud, node: str) -> None:
    refuse(aws, "ModifyInstanceAttribute", "UnauthorizedOperation")
    with pytest.raises(Failure, match=rf"the node is stopped as {CPU}"):
        change(aws, GPU)
    assert resize.changing_to(aws) == "", "a prompt wakes it as it is"
    lifecycle.start(aws, node)
    assert state(aws, node) == "running"


def test_a_stop_calls_off_what_the_node_was_to_become(aws: Cloud, node: str) -> None:
    note = {"pk": wire.SHAPE_PK, "type": GPU, "token": "api", "wake": True, "expires_at": int(time.time()) + 60}
    aws.dynamodb.put_item(TableName=aws.name("jobs"), Item=wire.pack(note))
    lifecycle.stop(aws, node)
    told = resize.table_item(aws, wire.SHAPE_PK)
    assert (told["type"], told["wake"], state(aws, node)) == ("", False, "stopped")
    aws.dynamodb.put_item(TableName=aws.name("jobs"), Item=wire.pack(note))
    assert change(aws, GPU, wake=False) == Outcome(GPU)
    told = resize.table_item(aws, wire.SHAPE_PK)
    assert (told["type"], told["wake"], state(aws, node)) == ("", False, "stopped"), "a command's own is over too"


def test_ctrl_c_while_it_stops_ends_the_change_and_starts_nothing(aws: Cloud, node: str) -> None:
    asked = refuse(aws, "StartInstances", "never", when=lambda _: False)
    stop = threading.Event()
    ended = Cloud(env=aws.env, identity=aws.identity, clients=aws._clients, clock=RealClock(stop))
    aws.ec2.meta.events.register("after-call.ec2.StopInstances", lambda **_: stop.set())
    with pytest.raises(Interrupted):
        change(ended, GPU)
    assert (type_of(aws), asked, resize.changing_to(aws)) == (CPU, [], "")


def test_what_can_not_be_is_refused_before_anything_stops(aws: Cloud, node: str) -> None:
    with pytest.raises(UsageError, match=r"p5\.48xlarge isn't a type that settings allow: g4dn"):
        resize.chosen(SHAPES, "p5.48xlarge")
    with pytest.raises(Failure, match=r"AWS doesn't offer g4dn\.metalish in eu-central-1\w"):
        change(aws, "g4dn.metalish")
    wide = "g5.48xlarge"  # 192 vCPUs; the account has 64
    with pytest.raises(Failure, match=r"64 vCPUs .* 192; ask for more: https://eu-central-1.console.*/L-DB2E81BA"):
        change(aws, wide)
    assert (type_of(aws), state(aws, node)) == (CPU, "running")


def test_a_node_that_somebody_ended_or_took_the_volume_from_is_told(aws: Cloud, node: str) -> None:
    lifecycle.stop(aws, node)
    (root,) = lifecycle.look(aws)["BlockDeviceMappings"]
    aws.ec2.detach_volume(VolumeId=root["Ebs"]["VolumeId"], InstanceId=node, Device=root["DeviceName"])
    for work in (lambda: lifecycle.start(aws, node), lambda: change(aws, GPU)):
        with pytest.raises(Failure, match=r"its root volume is detached.*attach it as /dev/\w+ in eu-central-1"):
            work()
    aws.ec2.terminate_instances(InstanceIds=[node])
    with pytest.raises(Absent, match="`aistratus up` builds it"):
        change(aws, GPU)
