"""The network: re-exports the kinds of VPC, subnets, gateways, routes, endpoints and security groups."""

from __future__ import annotations

from aistratus.resources.gateway_endpoints import GatewayEndpoint
from aistratus.resources.nat import ElasticIp, NatGateway
from aistratus.resources.route_tables import RouteTable
from aistratus.resources.security_groups import EVERYTHING_OUT, Rule, SecurityGroup
from aistratus.resources.vpc import InternetGateway, Subnet, Vpc

__all__ = [
    "EVERYTHING_OUT",
    "ElasticIp",
    "GatewayEndpoint",
    "InternetGateway",
    "NatGateway",
    "RouteTable",
    "Rule",
    "SecurityGroup",
    "Subnet",
    "Vpc",
]
