"""Gateway endpoints: free routes from a VPC to an AWS service, by which the node reaches S3 without leaving AWS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.errors import Failure
from aistratus.core.resource import Found, Ref, Resource, policy_document, reconciles, unordered
from aistratus.core.settle import Wait
from aistratus.resources.calls import unless_gone
from aistratus.resources.ec2 import (
    KNOWN,
    Described,
    Listing,
    drift,
    repair_tags,
    tag_specifications,
    write,
    write_unless,
)
from aistratus.resources.route_tables import TABLE_GONE


def _endpoint_state(described: Described) -> str:
    return str(described.get("State", "")).lower()


ENDPOINTS = Listing(
    operation="describe_vpc_endpoints",
    rows="VpcEndpoints[]",
    id="VpcEndpointId",
    id_filter="vpc-endpoint-id",
    arn="vpc-endpoint",
    since="CreationTimestamp",
    alive=lambda described: _endpoint_state(described) not in ("deleting", "deleted"),
    gone=lambda described: _endpoint_state(described) == "deleted",
)

ENDPOINT_GONE = frozenset({"InvalidVpcEndpointId.NotFound", "InvalidVpcEndpoint.NotFound"})

ENDPOINT_DELETED = Wait(what="the gateway endpoint and its routes are gone", within=120)
"""It stays in `deleting` for some seconds, and its VPC can't go before. Source: DeleteVpcEndpoints."""


@dataclass(frozen=True, kw_only=True)
class GatewayEndpoint(Resource):
    """A free way from a VPC to a service of AWS.

    service: `s3` or `dynamodb`.
    route_tables: all the tables that lead through it.
    policy: what may pass.
    """

    vpc: Ref | str
    service: str
    route_tables: tuple[Ref | str, ...] = unordered()
    policy: Mapping[str, Any] | None = policy_document(default=None)

    replace_on: ClassVar[frozenset[str]] = frozenset({"vpc", "service"})


def find_gateway_endpoint(aws: Cloud, want: GatewayEndpoint) -> Found | None:
    """By tags."""
    described = ENDPOINTS.pick(aws, want.key)
    return None if described is None else _found_endpoint(aws, want.key, described)


def owned_gateway_endpoints(aws: Cloud) -> list[Found]:
    """By tags; also those that are just being deleted, so that their end is waited for."""
    return [_found_endpoint(aws, key, described) for key, described in ENDPOINTS.left(aws)]


def remove_gateway_endpoint(aws: Cloud, have: Found) -> None:
    """Removes it, and waits until its routes are gone too."""
    identity = have.ids["id"]
    described = ENDPOINTS.by_id(aws, identity)
    if described is None or ENDPOINTS.gone(described):
        return
    # This call answers its errors in a list instead of raising them.
    answer = unless_gone(ENDPOINT_GONE, aws.ec2.delete_vpc_endpoints, VpcEndpointIds=[identity])
    for entry in answer.get("Unsuccessful", []) if answer else ():
        if entry["Error"]["Code"] not in ENDPOINT_GONE:
            raise Failure(f"the endpoint {identity} can't be deleted: {entry['Error']['Message']}")
    ENDPOINTS.await_gone(aws, identity, ENDPOINT_DELETED)


@reconciles(GatewayEndpoint, find=find_gateway_endpoint, remove=remove_gateway_endpoint, owned=owned_gateway_endpoints)
def ensure_gateway_endpoint(aws: Cloud, want: GatewayEndpoint, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        policy: dict[str, Any] = {} if want.policy is None else {"PolicyDocument": json.dumps(want.policy)}
        # No client token: one that is derived would give the deleted endpoint back. A second endpoint can't be made by
        # mistake, because a route table takes one route to a service.
        have = aws.create_once(
            "ec2",
            "create_vpc_endpoint",
            look=lambda cloud: find_gateway_endpoint(cloud, want),
            taken={"RouteAlreadyExists"},
            settling=KNOWN,
            VpcEndpointType="Gateway",
            VpcId=want.vpc,
            ServiceName=_service_name(aws, want.service),
            RouteTableIds=sorted({str(table) for table in want.route_tables}),
            TagSpecifications=tag_specifications(aws, want.key, "vpc-endpoint"),
            **policy,
        )
        changes = drift(aws, want, have)
        if not changes:
            return have
    identity = have.ids["id"]
    if "route_tables" in changes:
        assert isinstance(have.state, GatewayEndpoint)
        _repair_tables(aws, identity, want, have.state)
    if "policy" in changes:
        write(aws, "modify_vpc_endpoint", VpcEndpointId=identity, PolicyDocument=json.dumps(want.policy))
    if "tags" in changes:
        repair_tags(aws, want.key, identity)
    return await_match(find_gateway_endpoint, aws, want)


def _found_endpoint(aws: Cloud, key: str, described: Described) -> Found:
    state = GatewayEndpoint(
        key=key,
        vpc=described["VpcId"],
        service=described["ServiceName"].removeprefix(_service_name(aws, "")),
        route_tables=tuple(sorted(described.get("RouteTableIds", []))),
        policy=json.loads(described["PolicyDocument"]) if described.get("PolicyDocument") else None,
    )
    health = _endpoint_state(described)
    return ENDPOINTS.found(aws, described, state, health="ok" if health == "available" else health)


def _repair_tables(aws: Cloud, identity: str, want: GatewayEndpoint, have: GatewayEndpoint) -> None:
    wanted, there = ({str(table) for table in state.route_tables} for state in (want, have))
    for table in sorted(wanted - there):
        done = frozenset({"RouteAlreadyExists"})
        write_unless(done, aws, "modify_vpc_endpoint", VpcEndpointId=identity, AddRouteTableIds=[table])
    for table in sorted(there - wanted):
        # A table that has been deleted meanwhile has taken its route along.
        call = aws.ec2.modify_vpc_endpoint
        unless_gone(TABLE_GONE, call, VpcEndpointId=identity, RemoveRouteTableIds=[table])


def _service_name(aws: Cloud, service: str) -> str:
    return f"com.amazonaws.{aws.region}.{service}"
