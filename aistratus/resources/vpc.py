"""The VPC, its subnets, and its internet gateway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from botocore.exceptions import ClientError

from aistratus.cloud import Cloud, await_match
from aistratus.core.errors import Failure, error_code
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import at_once, unless_gone
from aistratus.resources.ec2 import KNOWN, Described, Listing, drift, repair_tags, tag_specifications, write
from aistratus.resources.vpc_contents import naming_contents

VPCS = Listing(operation="describe_vpcs", rows="Vpcs[]", id="VpcId", id_filter="vpc-id", arn="vpc")
SUBNETS = Listing(operation="describe_subnets", rows="Subnets[]", id="SubnetId", id_filter="subnet-id", arn="subnet")
GATEWAYS = Listing(
    operation="describe_internet_gateways",
    rows="InternetGateways[]",
    id="InternetGatewayId",
    id_filter="internet-gateway-id",
    arn="internet-gateway",
)

VPC_GONE = frozenset({"InvalidVpcID.NotFound"})
SUBNET_GONE = frozenset({"InvalidSubnetID.NotFound"})
GATEWAY_GONE = frozenset({"InvalidInternetGatewayID.NotFound", "Gateway.NotAttached"})

EMPTIED = Wait(
    what="AWS lets go of the last things in the VPC or subnet", within=180, codes=frozenset({"DependencyViolation"})
)
"""Interfaces of a terminated instance and gateway endpoints leave some seconds after they count as deleted.

Source: EC2 error codes, DependencyViolation.
"""

ADDRESSES_UNMAPPED = Wait(
    what="no public address is mapped in the VPC any more, so that its gateway can go",
    within=300,
    codes=frozenset({"DependencyViolation"}),
)
"""An instance's public address goes when it has stopped or terminated. Source: DetachInternetGateway."""


# --- VPC ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Vpc(Resource):
    """A network of our own.

    cidr: its IPv4 range.
    dns_support: names are resolved inside.
    dns_hostnames: instances with a public address get a public name.
    """

    cidr: str
    dns_support: bool = True
    dns_hostnames: bool = True

    replace_on: ClassVar[frozenset[str]] = frozenset({"cidr"})


def find_vpc(aws: Cloud, want: Vpc) -> Found | None:
    """By tags."""
    described = VPCS.pick(aws, want.key)
    if described is None:
        return None
    attributes = at_once(
        _attribute(aws, described["VpcId"], "enableDnsSupport", "EnableDnsSupport"),
        _attribute(aws, described["VpcId"], "enableDnsHostnames", "EnableDnsHostnames"),
    )
    if None in attributes:
        return None  # the listing shows a new or a deleted VPC while the rest of EC2 doesn't
    state = Vpc(key=want.key, cidr=described["CidrBlock"], dns_support=attributes[0], dns_hostnames=attributes[1])
    return VPCS.found(aws, described, state, health=_readiness(described))


def owned_vpcs(aws: Cloud) -> list[Found]:
    """By tags."""
    return [VPCS.found(aws, described, Vpc(key=key, cidr=described["CidrBlock"])) for key, described in VPCS.left(aws)]


def remove_vpc(aws: Cloud, have: Found) -> None:
    """Removes it; the default security group, network list and main route table, which AWS made, go with it."""
    with naming_contents(aws, "vpc-id", have.ids["id"]):
        VPCS.remove(aws, have, VPC_GONE, EMPTIED, "delete_vpc", VpcId=have.ids["id"])


@reconciles(Vpc, find=find_vpc, remove=remove_vpc, owned=owned_vpcs)
def ensure_vpc(aws: Cloud, want: Vpc, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "ec2",
            "create_vpc",
            look=lambda cloud: find_vpc(cloud, want),
            CidrBlock=want.cidr,
            TagSpecifications=tag_specifications(aws, want.key, "vpc"),
        )
        changes = drift(aws, want, have)
        if not changes:
            return have
    # One attribute a call; names can only be given where they are resolved.
    if "dns_support" in changes:
        write(aws, "modify_vpc_attribute", VpcId=have.ids["id"], EnableDnsSupport={"Value": want.dns_support})
    if "dns_hostnames" in changes:
        write(aws, "modify_vpc_attribute", VpcId=have.ids["id"], EnableDnsHostnames={"Value": want.dns_hostnames})
    if "tags" in changes:
        repair_tags(aws, want.key, have.ids["id"])
    return await_match(find_vpc, aws, want)


def _attribute(aws: Cloud, vpc: str, name: str, field: str) -> Callable[[], bool | None]:
    def read() -> bool | None:
        answer = unless_gone(VPC_GONE, aws.ec2.describe_vpc_attribute, VpcId=vpc, Attribute=name)
        return None if answer is None else bool(answer[field]["Value"])

    return read


def _readiness(described: Described) -> str:
    return "ok" if described.get("State", "available") == "available" else "starting"


# --- subnets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Subnet(Resource):
    """A part of a VPC in one zone.

    zone_index: which of the region's zones, counted from 0 in the order of their names.
    map_public_ip: instances get a public address unless they say otherwise.
    """

    vpc: Ref | str
    cidr: str
    zone_index: int
    map_public_ip: bool

    replace_on: ClassVar[frozenset[str]] = frozenset({"vpc", "cidr", "zone_index"})


def find_subnet(aws: Cloud, want: Subnet) -> Found | None:
    """By tags."""
    described = SUBNETS.pick(aws, want.key)
    return None if described is None else _found_subnet(aws, want.key, described)


def owned_subnets(aws: Cloud) -> list[Found]:
    """By tags."""
    return [_found_subnet(aws, key, described) for key, described in SUBNETS.left(aws)]


def remove_subnet(aws: Cloud, have: Found) -> None:
    """Removes it once no network interface is left in it."""
    with naming_contents(aws, "subnet-id", have.ids["id"]):
        SUBNETS.remove(aws, have, SUBNET_GONE, EMPTIED, "delete_subnet", SubnetId=have.ids["id"])


@reconciles(Subnet, find=find_subnet, remove=remove_subnet, owned=owned_subnets)
def ensure_subnet(aws: Cloud, want: Subnet, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "ec2",
            "create_subnet",
            look=lambda cloud: find_subnet(cloud, want),
            taken={"InvalidSubnet.Conflict"},
            settling=KNOWN,
            VpcId=want.vpc,
            CidrBlock=want.cidr,
            AvailabilityZone=_zone(aws, want.zone_index),
            TagSpecifications=tag_specifications(aws, want.key, "subnet"),
        )
        changes = drift(aws, want, have)
        if not changes:
            return have
    if "map_public_ip" in changes:
        mapped = {"Value": want.map_public_ip}
        write(aws, "modify_subnet_attribute", SubnetId=have.ids["id"], MapPublicIpOnLaunch=mapped)
    if "tags" in changes:
        repair_tags(aws, want.key, have.ids["id"])
    return await_match(find_subnet, aws, want)


def _found_subnet(aws: Cloud, key: str, described: Described) -> Found:
    zones, zone = _zones(aws), described["AvailabilityZone"]
    state = Subnet(
        key=key,
        vpc=described["VpcId"],
        cidr=described["CidrBlock"],
        zone_index=zones.index(zone) if zone in zones else -1,
        map_public_ip=bool(described["MapPublicIpOnLaunch"]),
    )
    return SUBNETS.found(aws, described, state, health=_readiness(described), zone=zone)


def _zone(aws: Cloud, index: int) -> str:
    zones = _zones(aws)
    if not 0 <= index < len(zones):
        raise Failure(
            f"the region {aws.region} has {len(zones)} availability zones for this account, zone {index} isn't one "
            "of them (counted from 0)",
            todo="use a region with more zones",
        )
    return zones[index]


def _zones(aws: Cloud) -> list[str]:
    """The names of the region's availability zones, without local and wavelength zones, in order.

    A zone that is impaired for the moment stays in: otherwise an outage would count the others anew, and every subnet
    would seem to stand in the wrong zone.
    """

    def read() -> list[str]:
        answer = aws.ec2.describe_availability_zones(
            Filters=[{"Name": "zone-type", "Values": ["availability-zone"]}],
        )
        return sorted(zone["ZoneName"] for zone in answer["AvailabilityZones"])

    return aws.shared("ec2.zones", read)


# --- internet gateways ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class InternetGateway(Resource):
    """The way between a VPC and the internet; being attached elsewhere or nowhere is drift of `vpc`."""

    vpc: Ref | str | None


def find_internet_gateway(aws: Cloud, want: InternetGateway) -> Found | None:
    """By tags."""
    described = GATEWAYS.pick(aws, want.key)
    return None if described is None else _found_gateway(aws, want.key, described)


def owned_internet_gateways(aws: Cloud) -> list[Found]:
    """By tags."""
    return [_found_gateway(aws, key, described) for key, described in GATEWAYS.left(aws)]


def remove_internet_gateway(aws: Cloud, have: Found) -> None:
    """Detaches it from whatever it is attached to now, and removes it."""
    identity = have.ids["id"]
    described = GATEWAYS.by_id(aws, identity)
    for vpc in _attached(described) if described else ():
        _detach(aws, identity, vpc)
    operation = "delete_internet_gateway"
    GATEWAYS.remove(aws, have, GATEWAY_GONE, ADDRESSES_UNMAPPED, operation, InternetGatewayId=identity)


@reconciles(InternetGateway, find=find_internet_gateway, remove=remove_internet_gateway, owned=owned_internet_gateways)
def ensure_internet_gateway(aws: Cloud, want: InternetGateway, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "ec2",
            "create_internet_gateway",
            look=lambda cloud: find_internet_gateway(cloud, want),
            TagSpecifications=tag_specifications(aws, want.key, "internet-gateway"),
        )
        changes = drift(aws, want, have)
    identity = have.ids["id"]
    if "vpc" in changes:
        assert isinstance(have.state, InternetGateway)
        if have.state.vpc is not None:
            _detach(aws, identity, str(have.state.vpc))
        _attach(aws, want, identity)
    if "tags" in changes:
        repair_tags(aws, want.key, identity)
    return await_match(find_internet_gateway, aws, want)


def _found_gateway(aws: Cloud, key: str, described: Described) -> Found:
    state = InternetGateway(key=key, vpc=next(iter(_attached(described)), None))
    return GATEWAYS.found(aws, described, state)


def _attached(described: Described) -> list[str]:
    """The VPCs that it is attached to; EC2 allows one."""
    gone = {"detaching", "detached"}
    return [entry["VpcId"] for entry in described.get("Attachments", []) if entry.get("State") not in gone]


def _attach(aws: Cloud, want: InternetGateway, identity: str) -> None:
    try:
        write(aws, "attach_internet_gateway", InternetGatewayId=identity, VpcId=want.vpc)
    except ClientError as error:
        # Either an earlier answer got lost, or another gateway holds our VPC: then the error says which.
        described = GATEWAYS.by_id(aws, identity)
        attached = _attached(described) if described is not None else []
        if error_code(error) != "Resource.AlreadyAssociated" or want.vpc not in attached:
            raise


def _detach(aws: Cloud, identity: str, vpc: str) -> None:
    params = {"InternetGatewayId": identity, "VpcId": vpc}
    call = aws.ec2.detach_internet_gateway
    unless_gone(GATEWAY_GONE, settle, wait=ADDRESSES_UNMAPPED, call=call, clock=aws.clock, **params)
