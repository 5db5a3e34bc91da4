"""Instances as processes: the shipped worker runs while its instance does, and commands really run on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
from embedded_cloud_parts import (
    Connect,
    await_state,
    eventually,
    image,
    instance_state,
    log_lines,
    refused,
    run_instance,
    unique,
    upload_node,
    user_data,
)

from aistratus.local.process import Running


@pytest.fixture
def node(connect: Connect) -> tuple[str, str]:
    """Instance id and log group of a node whose worker has started."""
    group, bucket = unique("/group"), unique("bucket")
    connect("logs").create_log_group(logGroupName=group)
    upload_node(connect, bucket, group=group)
    instance_id = run_instance(connect, UserData=user_data(bucket))
    starts(connect, group, 1)
    return instance_id, group


def starts(connect: Connect, group: str, count: int) -> list[int]:
    """Pids of the worker's first `count` starts."""

    def found() -> list[str]:
        return [line for line in log_lines(connect, group) if line.startswith("started")]

    lines = eventually(found, until=lambda seen: len(seen) >= count)
    assert len(lines) >= count
    return [int(line.split()[-1]) for line in lines]


def command(connect: Connect, instance_id: str, *lines: str, **parameters: list[str]) -> dict[str, Any]:
    """Runs lines on a node and gives back their invocation."""
    ssm = connect("ssm")
    sent = ssm.send_command(
        InstanceIds=[instance_id], DocumentName="AWS-RunShellScript", Parameters={"commands": list(lines), **parameters}
    )
    identifier = sent["Command"]["CommandId"]
    return eventually(
        lambda: ssm.get_command_invocation(CommandId=identifier, InstanceId=instance_id),
        until=lambda found: found["Status"] not in ("Pending", "InProgress"),
    )


def test_the_worker_runs_what_was_shipped_with_what_the_manifest_says(
    connect: Connect, node: tuple[str, str], embedded_cloud: Running
) -> None:
    instance_id, group = node
    lines = eventually(lambda: log_lines(connect, group), until=lambda found: len(found) >= 2)
    _, version, file, _ = lines[0].split()
    assert version == "shipped"
    assert Path(file).is_relative_to(embedded_cloud.log.parent / "nodes" / instance_id / "bundle")
    assert lines[1] == "model a small model the-queue"


def test_a_node_may_be_there_before_its_artifacts(connect: Connect) -> None:
    group, bucket = unique("/group"), unique("bucket")
    connect("logs").create_log_group(logGroupName=group)
    run_instance(connect, UserData=user_data(bucket))
    upload_node(connect, bucket, group=group)
    starts(connect, group, 1)


def test_a_bundle_with_another_digest_is_never_started(connect: Connect, embedded_cloud: Running) -> None:
    group, bucket = unique("/group"), unique("bucket")
    connect("logs").create_log_group(logGroupName=group)
    upload_node(connect, bucket, group=group, bundle_sha256="0" * 64)
    instance_id = run_instance(connect, UserData=user_data(bucket))
    note = embedded_cloud.log.parent / "nodes" / instance_id / "worker.log"
    assert "the manifest says 000000000000" in eventually(
        lambda: note.read_text() if note.exists() else "", until=lambda text: "manifest says" in text
    )
    assert log_lines(connect, group) == []


def test_a_killed_worker_is_started_again(connect: Connect, node: tuple[str, str]) -> None:
    _, group = node
    first = starts(connect, group, 1)[0]
    psutil.Process(first).kill()
    assert starts(connect, group, 2)[1] != first


def test_stop_and_start_pass_through_the_states_between(connect: Connect, node: tuple[str, str]) -> None:
    instance_id, group = node
    ec2 = connect("ec2")
    stopping = ec2.stop_instances(InstanceIds=[instance_id])["StoppingInstances"][0]
    assert stopping["CurrentState"]["Name"] == "stopping"
    await_state(connect, instance_id, "stopped")
    assert "gave back" in log_lines(connect, group)
    assert ec2.stop_instances(InstanceIds=[instance_id])["StoppingInstances"][0]["CurrentState"]["Name"] == "stopped"
    starting = ec2.start_instances(InstanceIds=[instance_id])["StartingInstances"][0]
    assert starting["CurrentState"]["Name"] == "pending"
    await_state(connect, instance_id, "running")
    starts(connect, group, 2)


def test_termination_ends_the_worker_and_removes_its_folder(
    connect: Connect, node: tuple[str, str], embedded_cloud: Running
) -> None:
    instance_id, group = node
    worker = psutil.Process(starts(connect, group, 1)[0])
    connect("ec2").terminate_instances(InstanceIds=[instance_id])
    await_state(connect, instance_id, "terminated")
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert not (embedded_cloud.log.parent / "nodes" / instance_id).exists()
    assert refused(connect("ec2").start_instances, InstanceIds=[instance_id]) == "IncorrectInstanceState"


def test_a_worker_can_switch_its_machine_off(connect: Connect, node: tuple[str, str], embedded_cloud: Running) -> None:
    instance_id, _ = node
    (embedded_cloud.log.parent / "nodes" / instance_id / "worker" / "off").touch()
    await_state(connect, instance_id, "stopped")


def test_a_machine_that_switches_itself_off_goes_where_it_was_told_to(connect: Connect) -> None:
    instance_id = run_instance(connect, InstanceInitiatedShutdownBehavior="terminate")
    command(connect, instance_id, "sudo shutdown -h now")
    await_state(connect, instance_id, "terminated")


def test_a_command_really_runs_and_tells_how_it_ended(connect: Connect, node: tuple[str, str]) -> None:
    done = command(connect, node[0], "echo out; echo err >&2", "pwd", "exit 7")
    assert (done["Status"], done["ResponseCode"]) == ("Failed", 7)
    assert done["StandardOutputContent"].splitlines()[0] == "out"
    assert done["StandardOutputContent"].splitlines()[1].endswith(f"{node[0]}/root")
    assert done["StandardErrorContent"] == "err\n"


def test_a_command_over_its_time_is_ended(connect: Connect, node: tuple[str, str]) -> None:
    assert command(connect, node[0], "sleep 600", executionTimeout=["1"])["Status"] == "TimedOut"


def test_a_command_can_be_cancelled(connect: Connect, node: tuple[str, str]) -> None:
    ssm = connect("ssm")
    sent = ssm.send_command(
        InstanceIds=[node[0]], DocumentName="AWS-RunShellScript", Parameters={"commands": ["sleep 600"]}
    )["Command"]["CommandId"]

    def listed() -> dict[str, Any]:
        found: dict[str, Any] = ssm.list_command_invocations(CommandId=sent, Details=True)["CommandInvocations"][0]
        return found

    assert eventually(listed, until=lambda one: one["Status"] == "InProgress")["Status"] == "InProgress"
    ssm.cancel_command(CommandId=sent)
    assert eventually(listed, until=lambda one: one["Status"] == "Cancelled")["Status"] == "Cancelled"


def test_systemctl_on_the_node_is_about_its_worker(connect: Connect, node: tuple[str, str]) -> None:
    instance_id, group = node
    assert command(connect, instance_id, "sudo systemctl restart aistratus-worker")["Status"] == "Success"
    starts(connect, group, 2)
    assert command(connect, instance_id, "systemctl restart sshd")["ResponseCode"] == 5


def test_only_running_instances_take_commands(connect: Connect) -> None:
    ssm, instance_id = connect("ssm"), run_instance(connect)
    known = {one["InstanceId"] for one in ssm.describe_instance_information()["InstanceInformationList"]}
    assert instance_id in known
    connect("ec2").stop_instances(InstanceIds=[instance_id])
    await_state(connect, instance_id, "stopped")
    order: dict[str, Any] = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]}}
    assert refused(ssm.send_command, InstanceIds=[instance_id], **order) == "InvalidInstanceId"
    assert refused(ssm.send_command, InstanceIds=["i-00000000000000000"], **order) == "InvalidInstanceId"


def test_a_client_token_makes_a_repeated_create_harmless(connect: Connect) -> None:
    token = unique()
    first, second = (run_instance(connect, ClientToken=token) for _ in range(2))
    assert first == second
    assert (
        refused(
            connect("ec2").run_instances,
            ImageId=image(connect),
            MinCount=1,
            MaxCount=1,
            ClientToken=token,
            InstanceType="t3.micro",
        )
        == "IdempotentParameterMismatch"
    )
    tables = connect("ec2")
    vpc = tables.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    ids = {tables.create_route_table(VpcId=vpc, ClientToken=token)["RouteTable"]["RouteTableId"] for _ in range(2)}
    assert len(ids) == 1


def test_public_parameters_name_images_that_exist(connect: Connect) -> None:
    for name in (
        "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id",
    ):
        found = connect("ec2").describe_images(ImageIds=[image(connect, name)])["Images"]
        assert [one["RootDeviceName"] for one in found] == ["/dev/xvda"]


def test_changing_one_attribute_leaves_the_security_groups_alone(connect: Connect) -> None:
    ec2, instance_id = connect("ec2"), run_instance(connect)

    def groups() -> list[str]:
        found = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
        return [one["GroupId"] for one in found["SecurityGroups"]]

    before = groups()
    ec2.modify_instance_attribute(InstanceId=instance_id, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
    told = ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="instanceInitiatedShutdownBehavior")
    assert told["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    assert groups() == before


def test_new_user_data_is_what_the_next_start_reads(connect: Connect) -> None:
    group, bucket = unique("/group"), unique("bucket")
    connect("logs").create_log_group(logGroupName=group)
    upload_node(connect, bucket, group=group)
    instance_id = run_instance(connect, UserData="#!/bin/sh\n")
    ec2 = connect("ec2")
    ec2.stop_instances(InstanceIds=[instance_id])
    await_state(connect, instance_id, "stopped")
    ec2.modify_instance_attribute(InstanceId=instance_id, UserData={"Value": user_data(bucket).encode()})
    ec2.start_instances(InstanceIds=[instance_id])
    starts(connect, group, 1)
    assert instance_state(connect, instance_id) == "running"


@pytest.mark.parametrize(
    ("kind", "place"),
    [("region", "eu-central-1"), ("availability-zone", "eu-central-1a"), ("availability-zone-id", "euc1-az2")],
)
def test_the_region_offers_its_own_instance_types(connect: Connect, kind: str, place: str) -> None:
    pages = connect("ec2").get_paginator("describe_instance_type_offerings").paginate(LocationType=kind)
    found = [one for page in pages for one in page["InstanceTypeOfferings"]]
    assert {one["LocationType"] for one in found} == {kind}
    assert all(one["Location"].startswith(("eu-central-1", "euc1-")) for one in found)
    assert (place, "t3.small") in {(one["Location"], one["InstanceType"]) for one in found}
