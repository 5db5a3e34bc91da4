"""The network: the node is in the public subnet, in a security group without inbound rules (`node.ssh_cidr` opens SSH
for one address); S3 is reached through a free gateway endpoint.

With NAT a new node is created in a private subnet. An existing node stays in its subnet, because moving it means
replacing it: `plan` shows no change for it, and a replacement (`up --replace`) is created in the new place.
"""

from __future__ import annotations

from dataclasses import dataclass

from aistratus.core.resource import Ref
from aistratus.resources.network import (
    ElasticIp,
    GatewayEndpoint,
    InternetGateway,
    NatGateway,
    RouteTable,
    Rule,
    SecurityGroup,
    Subnet,
    Vpc,
)
from aistratus.settings import Settings
from aistratus.stack.group import Group

VPC_CIDR = "10.20.0.0/22"
ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, kw_only=True)
class Network(Group):
    """The node's possible subnets, and their routes to the internet."""

    public: Subnet
    private: Subnet
    public_routes: RouteTable
    private_routes: RouteTable
    s3_endpoint: GatewayEndpoint
    node_group: SecurityGroup


def declare_network(settings: Settings) -> Network:
    """Declares the env's network."""
    with_nat = settings.network.enable_nat_gw
    vpc = Vpc(key="vpc", cidr=VPC_CIDR)
    public = Subnet(key="subnet_public", vpc=Ref(vpc), cidr="10.20.0.0/24", zone_index=0, map_public_ip=True)
    private_a = Subnet(key="subnet_private_a", vpc=Ref(vpc), cidr="10.20.1.0/24", zone_index=0, map_public_ip=False)
    private_b = Subnet(key="subnet_private_b", vpc=Ref(vpc), cidr="10.20.2.0/24", zone_index=1, map_public_ip=False)
    gateway = InternetGateway(key="internet_gateway", vpc=Ref(vpc))
    public_routes = RouteTable(
        key="routes_public", vpc=Ref(vpc), subnets=(Ref(public),), routes={ANYWHERE: Ref(gateway)}
    )
    nat_address = ElasticIp(key="nat_address")
    # It fails for good if the gateway to the internet isn't attached yet, and keeps that one from being detached.
    nat_gateway = NatGateway(
        key="nat_gateway",
        subnet=Ref(public),
        address=Ref(nat_address),
        after=(Ref(gateway), Ref(public_routes)),
    )
    nat = (nat_address, nat_gateway)
    private_routes = RouteTable(
        key="routes_private",
        vpc=Ref(vpc),
        subnets=(Ref(private_a), Ref(private_b)),
        routes={ANYWHERE: Ref(nat_gateway)} if with_nat else {},
    )
    s3_endpoint = GatewayEndpoint(
        key="s3_endpoint", vpc=Ref(vpc), service="s3", route_tables=(Ref(public_routes), Ref(private_routes))
    )
    node_group = SecurityGroup(
        key="node_group",
        vpc=Ref(vpc),
        description="The node: no way in, every way out",  # a group keeps its first description for life
        ingress=_way_in(settings),
    )
    wanted = (
        vpc, public, private_a, private_b, gateway, public_routes, *(nat if with_nat else ()), private_routes,
        s3_endpoint, node_group,
    )  # fmt: skip
    return Network(
        wanted=wanted,
        unwanted=() if with_nat else nat,
        public=public,
        private=private_a,
        public_routes=public_routes,
        private_routes=private_routes,
        s3_endpoint=s3_endpoint,
        node_group=node_group,
    )


def _way_in(settings: Settings) -> tuple[Rule, ...]:
    """SSH from the one address that the settings allow, if any."""
    node = settings.node
    if node.ssh_cidr is None:
        return ()
    return (Rule("tcp", node.ssh_port, node.ssh_port, node.ssh_cidr, "SSH from node.ssh_cidr"),)
