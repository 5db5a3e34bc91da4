"""The network: VPC, subnets, gateway, routes, endpoints and security groups. Four rooms with one door."""

from __future__ import annotations

from aistratus.resources.gateway_endpoints import GatewayEndpoint
from aistratus.resources.route_tables import RouteTable
from aistratus.resources.security_groups import EVERYTHING_OUT, Rule, SecurityGroup
from aistratus.resources.vpc import InternetGateway, Subnet, Vpc

__all__ = [
    "EVERYTHING_OUT",
    "GatewayEndpoint",
    "InternetGateway",
    "RouteTable",
    "Rule",
    "SecurityGroup",
    "Subnet",
    "Vpc",
]
