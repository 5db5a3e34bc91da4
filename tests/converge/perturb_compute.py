"""What somebody may do to key pairs and instances from outside: one change for each field that `up` repairs."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

from perturb_network import tags

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.compute import Instance, KeyPair

STATE_WITHIN_S = 60


def state(aws: Cloud, instance: str) -> str:
    """The instance's state as EC2 tells it."""
    answer = aws.ec2.describe_instances(InstanceIds=[instance])
    return str(answer["Reservations"][0]["Instances"][0]["State"]["Name"])


def await_state(aws: Cloud, instance: str, wanted: str) -> None:
    """Looks until the instance is in this state."""
    end = time.monotonic() + STATE_WITHIN_S
    while (now := state(aws, instance)) != wanted:
        assert time.monotonic() < end, f"{instance} is {now}, not {wanted}"
        time.sleep(0.05)


def stop(aws: Cloud, instance: str) -> None:
    """Stops it and waits until it has stopped."""
    if state(aws, instance) == "pending":
        await_state(aws, instance, "running")
    aws.ec2.stop_instances(InstanceIds=[instance])
    await_state(aws, instance, "stopped")


def _security_groups(aws: Cloud, found: Found) -> None:
    """The VPC's default group in place of ours."""
    instance = aws.ec2.describe_instances(InstanceIds=[found.id])["Reservations"][0]["Instances"][0]
    filters = [{"Name": "vpc-id", "Values": [instance["VpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
    default = aws.ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]["GroupId"]
    aws.ec2.modify_instance_attribute(InstanceId=found.id, Groups=[default])


def _profile(aws: Cloud, found: Found) -> None:
    filters = [{"Name": "instance-id", "Values": [found.id]}]
    answer = aws.ec2.describe_iam_instance_profile_associations(Filters=filters)
    for association in answer["IamInstanceProfileAssociations"]:
        aws.ec2.disassociate_iam_instance_profile(AssociationId=association["AssociationId"])


def _user_data(aws: Cloud, found: Found) -> None:
    """Changes it in the instance's sleep, and wakes it again."""
    stop(aws, found.id)
    text = base64.b64encode(b"#!/bin/bash\n# somebody's\n").decode()
    aws.ec2.modify_instance_attribute(InstanceId=found.id, Attribute="userData", Value=text)
    aws.ec2.start_instances(InstanceIds=[found.id])
    await_state(aws, found.id, "running")


def _metadata(aws: Cloud, found: Found, **changed: object) -> None:
    answer = aws.ec2.describe_instances(InstanceIds=[found.id])["Reservations"][0]["Instances"][0]["MetadataOptions"]
    kept = {name: answer[name] for name in ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint")}
    aws.ec2.modify_instance_metadata_options(InstanceId=found.id, **{**kept, **changed})


def _http_tokens(aws: Cloud, found: Found) -> None:
    _metadata(aws, found, HttpTokens="optional")


def _hop_limit(aws: Cloud, found: Found) -> None:
    _metadata(aws, found, HttpPutResponseHopLimit=5)


def _shutdown_behavior(aws: Cloud, found: Found) -> None:
    terminate = {"Value": "terminate"}
    aws.ec2.modify_instance_attribute(InstanceId=found.id, InstanceInitiatedShutdownBehavior=terminate)


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (KeyPair, "tags"): tags,
    (Instance, "security_groups"): _security_groups,
    (Instance, "profile"): _profile,
    (Instance, "user_data"): _user_data,
    (Instance, "http_tokens"): _http_tokens,
    (Instance, "hop_limit"): _hop_limit,
    (Instance, "shutdown_behavior"): _shutdown_behavior,
    (Instance, "tags"): tags,
}

NOT_FROM_OUTSIDE: dict[tuple[type, str], str] = {
    (Instance, "volume_gib"): "a volume can't shrink, and a larger one is as good: only the wanted size makes a drift",
}
"""Mutable fields that nobody can make differ from outside, with the reason."""
