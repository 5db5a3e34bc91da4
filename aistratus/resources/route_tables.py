"""Route tables.

A route table is managed as a whole: its associations and routes are exactly the declared ones. Three kinds of routes
aren't managed: the local one, which belongs to the VPC, those of gateway endpoints, which belong to the
endpoint, and those that a virtual private gateway announces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Ref, Resource, reconciles, unordered
from aistratus.core.settle import Wait, settle
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

ROUTE_TABLES = Listing(
    operation="describe_route_tables",
    rows="RouteTables[]",
    id="RouteTableId",
    id_filter="route-table-id",
    arn="route-table",
)

TABLE_GONE = frozenset({"InvalidRouteTableID.NotFound", "InvalidRouteTableId.NotFound"})
ASSOCIATION_GONE = frozenset({"InvalidAssociationID.NotFound"})
ROUTE_GONE = frozenset({"InvalidRoute.NotFound"})

TABLE_UNUSED = Wait(
    what="nothing is tied to the route table any more", within=60, codes=frozenset({"DependencyViolation"})
)
"""A dissociation or an endpoint's deletion was answered but isn't seen everywhere yet."""

ASSOCIATIONS_MOVE = Wait(
    what="the subnets can be associated with their route table",
    within=60,
    codes=KNOWN.codes | ASSOCIATION_GONE | {"Resource.AlreadyAssociated"},
)
"""A call that was carried out although its answer got lost, or another table's repair, changes what there is to do.

Source: error lists of AssociateRouteTable and ReplaceRouteTableAssociation; EC2's eventual consistency.
"""


@dataclass(frozen=True, kw_only=True)
class RouteTable(Resource):
    """A route table of a VPC.

    subnets: all that it is associated with.
    routes: where each destination (a CIDR) goes: the id of a gateway.
    """

    vpc: Ref | str
    subnets: tuple[Ref | str, ...] = unordered()
    routes: Mapping[str, Ref | str] = field(default_factory=dict)

    replace_on: ClassVar[frozenset[str]] = frozenset({"vpc"})


def find_route_table(aws: Cloud, want: RouteTable) -> Found | None:
    """By tags."""
    described = ROUTE_TABLES.pick(aws, want.key)
    return None if described is None else _found_table(aws, want.key, described)


def owned_route_tables(aws: Cloud) -> list[Found]:
    """By tags."""
    return [_found_table(aws, key, described) for key, described in ROUTE_TABLES.left(aws)]


def remove_route_table(aws: Cloud, have: Found) -> None:
    """Takes all associations off, as they are now, and removes it."""
    identity = have.ids["id"]
    described = ROUTE_TABLES.by_id(aws, identity)
    for association in _associations(described).values() if described else ():
        unless_gone(ASSOCIATION_GONE, aws.ec2.disassociate_route_table, AssociationId=association)
    ROUTE_TABLES.remove(aws, have, TABLE_GONE, TABLE_UNUSED, "delete_route_table", RouteTableId=identity)


@reconciles(RouteTable, find=find_route_table, remove=remove_route_table, owned=owned_route_tables)
def ensure_route_table(aws: Cloud, want: RouteTable, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "ec2",
            "create_route_table",
            look=lambda cloud: find_route_table(cloud, want),
            settling=KNOWN,
            VpcId=want.vpc,
            TagSpecifications=tag_specifications(aws, want.key, "route-table"),
        )
        changes = drift(aws, want, have)
        if not changes:
            return have
    identity = have.ids["id"]
    if "routes" in changes:
        assert isinstance(have.state, RouteTable)
        _repair_routes(aws, identity, want.routes, have.state.routes)
    if "subnets" in changes:
        _repair_associations(aws, identity, {str(subnet) for subnet in want.subnets})
    if "tags" in changes:
        repair_tags(aws, want.key, identity)
    return await_match(find_route_table, aws, want)


def _found_table(aws: Cloud, key: str, described: Described) -> Found:
    routes = list(_routes(described))
    state = RouteTable(
        key=key,
        vpc=described["VpcId"],
        subnets=tuple(sorted(_associations(described))),
        routes={destination: target for destination, target, _ in routes},
    )
    # A route to nowhere isn't drift of the table: its gateway is detached or gone, and that is drift of the gateway.
    health = "blackhole" if any(state == "blackhole" for _, _, state in routes) else "ok"
    return ROUTE_TABLES.found(aws, described, state, health=health)


def _associations(described: Described) -> dict[str, str]:
    """Association ids by subnet (or gateway); being the VPC's main table isn't one that can be taken off."""
    over = {"disassociating", "disassociated", "failed"}
    return {
        entry.get("SubnetId") or entry["GatewayId"]: entry["RouteTableAssociationId"]
        for entry in described.get("Associations", [])
        if not entry.get("Main") and entry.get("AssociationState", {}).get("State") not in over
    }


_DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
_TARGETS = (
    "GatewayId", "NatGatewayId", "EgressOnlyInternetGatewayId", "NetworkInterfaceId", "InstanceId", "TransitGatewayId",
    "VpcPeeringConnectionId", "LocalGatewayId", "CarrierGatewayId", "CoreNetworkArn", "OdbNetworkArn",
)  # fmt: skip


def _routes(described: Described) -> Iterator[tuple[str, str, str]]:
    """Destination, target and state of the routes that are ours to judge."""
    for route in described.get("Routes", []):
        destination = next((route[name] for name in _DESTINATIONS if route.get(name)), "")
        target = next((route[name] for name in _TARGETS if route.get(name)), "")
        of_endpoint = route.get("DestinationPrefixListId") and target.startswith("vpce-")
        announced = route.get("Origin") == "EnableVgwRoutePropagation"
        if target != "local" and not of_endpoint and not announced:
            yield destination, target, route.get("State", "active")


def _repair_routes(aws: Cloud, table: str, want: Mapping[str, Any], have: Mapping[str, Any]) -> None:
    for destination in have.keys() - want.keys():
        params = {"RouteTableId": table, **_destination(destination)}
        unless_gone(ROUTE_GONE, aws.ec2.delete_route, **params)
    for destination, target in want.items():
        params = {"RouteTableId": table, **_destination(destination), **_target(target)}
        if destination not in have:
            # RouteAlreadyExists: it is there since a lost answer, or somebody was faster; then it is replaced.
            made = write_unless(frozenset({"RouteAlreadyExists"}), aws, "create_route", **params)
            if made is not None:
                continue
        if have.get(destination) != target:
            write(aws, "replace_route", **params)


def _destination(destination: str) -> dict[str, str]:
    if destination.startswith("pl-"):
        return {"DestinationPrefixListId": destination}
    return {"DestinationIpv6CidrBlock" if ":" in destination else "DestinationCidrBlock": destination}


def _target(target: str) -> dict[str, str]:
    kinds = {"nat-": "NatGatewayId", "eigw-": "EgressOnlyInternetGatewayId", "eni-": "NetworkInterfaceId"}
    return {next((name for prefix, name in kinds.items() if target.startswith(prefix)), "GatewayId"): target}


def _repair_associations(aws: Cloud, table: str, want: set[str]) -> None:
    """Brings the wanted subnets to this table, from another table where they have one, and takes the others off."""

    def change() -> None:
        # Looked up anew each time: the other table may be under repair too, and moving gives an association another id.
        described = ROUTE_TABLES.by_id(aws, table)
        have = _associations(described) if described else {}
        elsewhere = _explicit_associations(aws, want - have.keys())
        for subnet in sorted(want - have.keys()):
            if subnet in elsewhere:
                params = {"AssociationId": elsewhere[subnet], "RouteTableId": table}
                aws.ec2.replace_route_table_association(**params)
            else:
                aws.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        for extra in have.keys() - want:
            unless_gone(ASSOCIATION_GONE, aws.ec2.disassociate_route_table, AssociationId=have[extra])

    settle(ASSOCIATIONS_MOVE, change, clock=aws.clock)


def _explicit_associations(aws: Cloud, subnets: set[str]) -> dict[str, str]:
    """Association ids of these subnets with any table of anybody, by subnet."""
    if not subnets:
        return {}
    filters = [{"Name": "association.subnet-id", "Values": sorted(subnets)}]
    pages = aws.ec2.get_paginator("describe_route_tables").paginate(Filters=filters)
    return {
        subnet: association
        for described in pages.search("RouteTables[]")
        for subnet, association in _associations(described).items()
        if subnet in subnets
    }
