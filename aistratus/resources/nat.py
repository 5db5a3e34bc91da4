"""NAT gateways and Elastic IPs: the internet access of private subnets.

Both are billed by the hour while they exist, used or not. A gateway takes one or two minutes to create and about a
minute to delete, and holds its address until it is gone. A gateway that can't work is created all the same and then
becomes `failed`, with a reason; it can't be repaired, only replaced. Deleted and failed gateways are listed for about
another hour.

Source: VPC user guide, "Work with NAT gateways"; CreateNatGateway, DeleteNatGateway, the data type NatGateway.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from aistratus.cloud import Cloud, await_match
from aistratus.core.errors import Failure, Unsettled, error_code
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import unless_gone
from aistratus.resources.ec2 import KNOWN, PAGE, Described, Listing, repair_tags, tag_specifications, tags_of

ADDRESSES = Listing(
    operation="describe_addresses",
    rows="Addresses[]",
    id="AllocationId",
    id_filter="allocation-id",
    arn="elastic-ip",
    paged=False,
)
NATS = Listing(
    operation="describe_nat_gateways",
    rows="NatGateways[]",
    id="NatGatewayId",
    id_filter="nat-gateway-id",
    arn="natgateway",
    since="CreateTime",
    alive=lambda described: described["State"] in ("pending", "available"),
    gone=lambda described: described["State"] == "deleted",
    filters="Filter",
)

ADDRESS_GONE = frozenset({"InvalidAllocationID.NotFound", "InvalidAddress.NotFound"})
ASSOCIATION_GONE = frozenset({"InvalidAssociationID.NotFound"})
NAT_GONE = frozenset({"NatGatewayNotFound", "InvalidNatGatewayID.NotFound"})

NAT_AVAILABLE = Wait(what="the NAT gateway is available", within=600, first=1.0)
"""A minute or two as a rule; terraform-provider-aws waits ten minutes."""

NAT_DELETED = Wait(what="the NAT gateway is gone", within=900, first=1.0)
"""About a minute as a rule. Until then it holds its address and its subnet."""

ADDRESS_FREE = Wait(
    what="the address is let go by what it was associated with",
    within=900,
    codes=frozenset({"InvalidIPAddress.InUse", "AddressInUse", "AuthFailure", "InvalidNetworkInterfaceID.NotFound"}),
    saying=r"(?i)in use|do not have permission to access the specified resource|does not exist",
)
"""As long as its gateway is going, and some seconds after it is gone.

Source: EC2 error codes; AuthFailure and InvalidNetworkInterfaceID.NotFound just after the end of a gateway are seen by
others (kops issue 1604, terraform-provider-aws issue 49299).
"""

TOKENS = 3
"""Client tokens tried in turn when EC2 says that one belongs to a gateway that has ended."""


# --- addresses ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ElasticIp(Resource):
    """A public IPv4 address that stays the same; all there is to say about it are its tags."""


def find_address(aws: Cloud, want: ElasticIp) -> Found | None:
    """By tags."""
    described = ADDRESSES.pick(aws, want.key)
    return None if described is None else _found_address(aws, want.key, described)


def owned_addresses(aws: Cloud) -> list[Found]:
    """By tags."""
    return [_found_address(aws, key, described) for key, described in ADDRESSES.left(aws)]


def remove_address(aws: Cloud, have: Found) -> None:
    """Releases it once its gateway is gone; an instance or interface that somebody gave it to loses it."""
    identity = have.ids["id"]
    described = ADDRESSES.by_id(aws, identity)
    association = described.get("AssociationId") if described is not None else None
    if described is not None and association and described.get("NetworkInterfaceId", "") not in _interfaces(aws):
        free = aws.ec2.disassociate_address
        unless_gone(ASSOCIATION_GONE, settle, wait=ADDRESS_FREE, call=free, clock=aws.clock, AssociationId=association)
    ADDRESSES.remove(aws, have, ADDRESS_GONE, ADDRESS_FREE, "release_address", AllocationId=identity)


def _interfaces(aws: Cloud) -> set[str]:
    """The network interfaces of all gateways, also of those that are just going: EC2 lets nobody else free these."""
    pages = aws.ec2.get_paginator("describe_nat_gateways").paginate(PaginationConfig={"PageSize": PAGE})
    addresses = pages.search("NatGateways[].NatGatewayAddresses[]")
    return {address.get("NetworkInterfaceId", "") for address in addresses if address is not None} - {""}


@reconciles(ElasticIp, find=find_address, remove=remove_address, owned=owned_addresses)
def ensure_address(aws: Cloud, want: ElasticIp, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        # This call takes no client token: the tags that it sets itself lead back to what a lost answer has made.
        try:
            have = aws.create_once(
                "ec2",
                "allocate_address",
                look=lambda cloud: find_address(cloud, want),
                Domain="vpc",
                TagSpecifications=tag_specifications(aws, want.key, "elastic-ip"),
            )
        except ClientError as error:
            if error_code(error) != "AddressLimitExceeded":
                raise
            raise Failure(
                f"{want.key}: the account holds as many Elastic IP addresses in {aws.region} as it may",
                todo="release one that isn't used, or ask for a higher quota (EC2-VPC Elastic IPs, L-0263D0A3)",
            ) from error
    if "tags" in changes:
        repair_tags(aws, want.key, have.ids["id"])
    return await_match(find_address, aws, want)


def _found_address(aws: Cloud, key: str, described: Described) -> Found:
    return ADDRESSES.found(aws, described, ElasticIp(key=key), public_ip=described["PublicIp"])


# --- NAT gateways ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NatGateway(Resource):
    """A public NAT gateway.

    subnet: where it stands; a public one, whose VPC has an internet gateway already.
    address: allocation id of the address that it sends from.
    state: what it has to get to; one that a run has left `pending` is waited for by the next.
    """

    subnet: Ref | str
    address: Ref | str
    state: str = "available"

    replace_on: ClassVar[frozenset[str]] = frozenset({"subnet", "address"})


def find_nat(aws: Cloud, want: NatGateway) -> Found | None:
    """By tags, among those that work or will; one that has failed is as good as none."""
    described = NATS.pick(aws, want.key)
    return None if described is None else _found_nat(aws, want.key, described)


def owned_nats(aws: Cloud) -> list[Found]:
    """By tags; those that have failed or are just going, too."""
    return [_found_nat(aws, key, described) for key, described in NATS.left(aws)]


def remove_nat(aws: Cloud, have: Found) -> None:
    """Deletes it and waits until it is gone: until then it holds its address, its subnet and its VPC's gateway."""
    _delete_nat(aws, have.ids["id"])


@reconciles(NatGateway, find=find_nat, remove=remove_nat, owned=owned_nats)
def ensure_nat(aws: Cloud, want: NatGateway, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = _create_nat(aws, want)
        changes = frozenset({"state"})
    if "state" in changes:
        _await_available(aws, want.key, have.ids["id"])
    if "tags" in changes:
        repair_tags(aws, want.key, have.ids["id"])
    return await_match(find_nat, aws, want)


def _create_nat(aws: Cloud, want: NatGateway) -> Found:
    """Makes it. What went before is ended first, because it may still hold the address."""
    former = [described for described in NATS.ours(aws) if aws.owns(tags_of(described), want.key)]
    for described in former:
        if not NATS.gone(described):
            _delete_nat(aws, described["NatGatewayId"])
    known = sorted({aws.recorded(want.key).get("id", ""), *(described["NatGatewayId"] for described in former)})

    def look(cloud: Cloud) -> Found | None:
        """What this very run has made, in whatever state."""
        new = [described for described in NATS.ours(cloud) if cloud.owns(tags_of(described), want.key)]
        new = [described for described in new if described["NatGatewayId"] not in known]
        return _found_nat(cloud, want.key, new[0]) if new else None

    params: dict[str, Any] = {
        "SubnetId": want.subnet,
        "AllocationId": want.address,
        "ConnectivityType": "public",
        "TagSpecifications": tag_specifications(aws, want.key, "natgateway"),
    }
    for attempt in range(1, TOKENS + 1):
        token = _token(aws, want.key, params, [*known, str(attempt)])
        try:
            return aws.create_once("ec2", "create_nat_gateway", look=look, settling=KNOWN, ClientToken=token, **params)
        except Unsettled:
            # Answered, but never listed: the token is that of a gateway that ended so long ago that it isn't listed.
            if attempt == TOKENS:
                raise
    raise AssertionError("unreachable")


def _token(aws: Cloud, key: str, params: Mapping[str, Any], former: list[str]) -> str:
    """The same for the same gateway; EC2 takes 64 characters."""
    said = json.dumps([aws.env, key, former, params], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _await_available(aws: Cloud, key: str, identity: str) -> None:
    def probe() -> bool | None:
        described = NATS.by_id(aws, identity)
        state = "pending" if described is None else described["State"]
        if described is not None and state == "failed":
            message, code = described.get("FailureMessage", "no reason given"), described.get("FailureCode", "")
            why = f"{message.rstrip('.')} ({code})"
            raise Failure(f"{key}: the NAT gateway {identity} failed: {why}", todo="`aistratus up` makes another one")
        if state in ("deleting", "deleted"):
            raise Failure(f"{key}: the NAT gateway {identity} was deleted meanwhile", todo="run the command again")
        return True if state == "available" else None

    until(NAT_AVAILABLE, probe, clock=aws.clock)


def _delete_nat(aws: Cloud, identity: str) -> None:
    unless_gone(NAT_GONE, aws.ec2.delete_nat_gateway, NatGatewayId=identity)
    NATS.await_gone(aws, identity, NAT_DELETED)


def _found_nat(aws: Cloud, key: str, described: Described) -> Found:
    address: Mapping[str, Any] = next(iter(described.get("NatGatewayAddresses", [])), {})
    allocation = address.get("AllocationId", "")
    state = NatGateway(key=key, subnet=described["SubnetId"], address=allocation, state=described["State"])
    health = {"available": "ok", "pending": "starting"}.get(state.state, state.state)
    return NATS.found(aws, described, state, health=health, public_ip=address.get("PublicIp", ""))
