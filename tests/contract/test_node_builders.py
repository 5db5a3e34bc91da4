"""Machines that build images, on an embedded cloud: each build ends its own, whoever else builds at the same time."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from embedded_cloud_parts import REGION, connected_to, unique

from aistratus.cloud import Access, Clients, Cloud, Identity
from aistratus.core.errors import Failure
from aistratus.core.settle import RealClock
from aistratus.local.process import Running
from aistratus.node.build import Work, build, stop
from aistratus.trace import Meter


@pytest.fixture
def work(embedded_cloud: Running) -> Work:
    """What is to be built, and what its builder stands on."""
    connect, name = connected_to(embedded_cloud), unique("builder")
    connect("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    connect("iam").create_instance_profile(InstanceProfileName=name)
    ec2 = connect("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(GroupName=name, Description=name, VpcId=subnet["VpcId"])["GroupId"]
    ids = {
        "subnet_public": {"id": subnet["SubnetId"]},
        "node_group": {"id": group},
        "build_runner_profile": {"name": name},
    }
    image = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/builder:1"
    return Work(ids=ids, image=image, bucket=name, log_group="/t", dockerfile=b"FROM x", bundle=b"zip", tag="1" * 64)


def test_two_builds_that_begin_at_once_have_a_builder_each_and_end_just_that(
    embedded_cloud: Running, work: Work
) -> None:
    """There is no Docker, so that both end in that sentence; neither may lose its machine to the other's end."""
    env, identity = unique("t"), Identity("123456789012", "arn:aws:iam::123456789012:user/test", REGION)

    def cloud() -> Cloud:
        access = Access(REGION, endpoint=embedded_cloud.endpoint, access_key="testing", secret_key="testing")
        return Cloud(env=env, identity=identity, clients=Clients(access, Meter()), clock=RealClock())

    first, second, builders = cloud(), cloud(), list[str]()
    started, both, failures = threading.Event(), threading.Event(), list[Failure]()

    def build_second() -> None:
        def told(sentence: str) -> None:
            if not started.is_set():
                builders.append(sentence.split()[2])
                started.set()
                both.wait(60)

        with pytest.raises(Failure) as failed:
            build(second, work, told=told, heard=lambda piece: None)
        failures.append(failed.value)

    thread = threading.Thread(target=build_second)

    def before(**_: Any) -> None:
        """The first has looked for a builder and found none; now the second starts its own."""
        if not started.is_set():
            thread.start()
            started.wait(60)

    def told(sentence: str) -> None:
        if both.is_set():
            return
        builders.append(sentence.split()[2])
        with pytest.raises(Failure, match=r"the builder i-\w+ is there already"):
            build(cloud(), work, told=lambda sentence: None, heard=lambda piece: None)
        both.set()
        thread.join()

    first._clients.get("ec2", retries=False).meta.events.register("before-call.ec2.RunInstances", before)
    with pytest.raises(Failure, match="no image was built"):
        build(first, work, told=told, heard=lambda piece: None)
    assert "no image was built" in str(failures[0])
    assert len(set(builders)) == 2
    assert stop(cloud()) == [], "each has ended its own"
