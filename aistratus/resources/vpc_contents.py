"""Names what keeps a VPC or a subnet from being deleted.

Other AWS services and other people put things of their own into a VPC. GuardDuty's runtime monitoring, for one, adds an
endpoint with network interfaces in the subnets, and a security group. EC2 then answers `DependencyViolation` without
saying what depends. Sources: EC2 API reference, DeleteVpc; terraform-provider-aws issue 46747.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from aistratus.cloud import Cloud
from aistratus.core.errors import Occupied, Unsettled
from aistratus.resources.ec2 import Described, tags_of

OF_A_NAT_GATEWAY = "Interface for NAT Gateway "
"""How EC2 describes the interface of a NAT gateway.

It carries no tags and may outlive the gateway for a moment, so ours can't be told from another's.
"""

NAMED = 5
"""So many are listed by name in an error."""


@contextmanager
def naming_contents(aws: Cloud, within: Literal["vpc-id", "subnet-id"], identity: str) -> Iterator[None]:
    """Replaces the end of a wait for an empty VPC or subnet by an error that names what is in it.

    Raises:
        Occupied: somebody else's things are in it.
        Unsettled: the wait ended for another reason.
    """
    try:
        yield
    except Unsettled as error:
        held = _others_in(aws, within, identity)
        if not held:
            raise
        more = f" and {len(held) - NAMED} more" if len(held) > NAMED else ""
        raise Occupied(
            f"{identity} can't be deleted while it contains what isn't this env's: {', '.join(held[:NAMED])}{more}",
            todo="delete these, or switch off the service that made them, then run the command again",
        ) from error


def _others_in(aws: Cloud, within: str, identity: str) -> list[str]:
    """A name for each thing in there that isn't ours; AWS's default security group goes with its VPC."""
    wanted = [{"Name": within, "Values": [identity]}]
    interfaces = aws.ec2.describe_network_interfaces(Filters=wanted)["NetworkInterfaces"]
    others = [each for each in _others(aws, interfaces) if not each["Description"].startswith(OF_A_NAT_GATEWAY)]
    held = [_told("network interface", each, "NetworkInterfaceId", "Description") for each in others]
    if within != "vpc-id":
        return held
    endpoints = aws.ec2.describe_vpc_endpoints(Filters=wanted)["VpcEndpoints"]
    groups = aws.ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]
    subnets = aws.ec2.describe_subnets(Filters=wanted)["Subnets"]
    added = [each for each in _others(aws, groups) if each["GroupName"] != "default"]
    return [
        *(_told("endpoint", each, "VpcEndpointId", "ServiceName") for each in _others(aws, endpoints)),
        *(_told("security group", each, "GroupId", "GroupName") for each in added),
        *(_told("subnet", each, "SubnetId", "CidrBlock") for each in _others(aws, subnets)),
        *held,
    ]


def _others(aws: Cloud, described: list[Described]) -> list[Described]:
    return [each for each in described if not aws.owns(tags_of(each))]


def _told(kind: str, described: Described, identity: str, name: str) -> str:
    told = described.get(name)
    return f"{kind} {described[identity]}" + (f" ({told})" if told else "")
