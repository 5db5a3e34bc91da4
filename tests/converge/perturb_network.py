"""What somebody may do to the network from outside: one change for each field that `up` repairs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.network import GatewayEndpoint, InternetGateway, RouteTable, SecurityGroup, Subnet, Vpc

ELSEWHERE = "198.51.100.0/24"
SSH_FOR_ALL = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
FOREIGN_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*"}],
}
STOPPED_WITHIN_S = 60


def tags(aws: Cloud, found: Found) -> None:
    """For every kind of EC2."""
    aws.ec2.create_tags(Resources=[found.id], Tags=[{"Key": "ManagedBy", "Value": "somebody"}])


def _dns_support(aws: Cloud, found: Found) -> None:
    aws.ec2.modify_vpc_attribute(VpcId=found.id, EnableDnsSupport={"Value": False})


def _dns_hostnames(aws: Cloud, found: Found) -> None:
    aws.ec2.modify_vpc_attribute(VpcId=found.id, EnableDnsHostnames={"Value": False})


def _map_public_ip(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, Subnet)
    turned = {"Value": not found.state.map_public_ip}
    aws.ec2.modify_subnet_attribute(SubnetId=found.id, MapPublicIpOnLaunch=turned)


def _detach(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, InternetGateway)
    vpc = str(found.state.vpc)
    _stop_instances(aws, vpc)  # a gateway can't be detached while a public address is mapped
    aws.ec2.detach_internet_gateway(InternetGatewayId=found.id, VpcId=vpc)


def _stop_instances(aws: Cloud, vpc: str) -> None:
    filters = [
        {"Name": "vpc-id", "Values": [vpc]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping"]},
    ]
    end = time.monotonic() + STOPPED_WITHIN_S
    while True:
        pages = aws.ec2.get_paginator("describe_instances").paginate(Filters=filters)
        up = list(pages.search("Reservations[].Instances[].[InstanceId, State.Name]"))
        if not up:
            return
        assert time.monotonic() < end, f"the instances {up} don't stop"
        running = [identity for identity, state in up if state == "running"]
        if running:
            aws.ec2.stop_instances(InstanceIds=running)
        time.sleep(0.05)


def _subnets(aws: Cloud, found: Found) -> None:
    """One subnet is taken off; a table without any gets the first of its VPC that has none."""
    assert isinstance(found.state, RouteTable)
    table = aws.ec2.describe_route_tables(RouteTableIds=[found.id])["RouteTables"][0]
    associations = [entry["RouteTableAssociationId"] for entry in table["Associations"] if not entry.get("Main")]
    if associations:
        aws.ec2.disassociate_route_table(AssociationId=associations[0])
        return
    in_vpc = [{"Name": "vpc-id", "Values": [found.state.vpc]}]
    subnets = {entry["SubnetId"] for entry in aws.ec2.describe_subnets(Filters=in_vpc)["Subnets"]}
    tables = aws.ec2.describe_route_tables(Filters=in_vpc)["RouteTables"]
    free = subnets - {entry.get("SubnetId") for table in tables for entry in table["Associations"]}
    aws.ec2.associate_route_table(RouteTableId=found.id, SubnetId=min(free))


def _routes(aws: Cloud, found: Found) -> None:
    """A route too much, through the VPC's own gateway, and the first of ours is gone."""
    assert isinstance(found.state, RouteTable)
    attached = [{"Name": "attachment.vpc-id", "Values": [found.state.vpc]}]
    gateway = aws.ec2.describe_internet_gateways(Filters=attached)["InternetGateways"][0]["InternetGatewayId"]
    aws.ec2.create_route(RouteTableId=found.id, DestinationCidrBlock=ELSEWHERE, GatewayId=gateway)
    for destination in [*found.state.routes][:1]:
        aws.ec2.delete_route(RouteTableId=found.id, DestinationCidrBlock=destination)


def _route_tables(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, GatewayEndpoint)
    first = str(found.state.route_tables[0])
    aws.ec2.modify_vpc_endpoint(VpcEndpointId=found.id, RemoveRouteTableIds=[first])


def _policy(aws: Cloud, found: Found) -> None:
    aws.ec2.modify_vpc_endpoint(VpcEndpointId=found.id, PolicyDocument=json.dumps(FOREIGN_POLICY))


def _ingress(aws: Cloud, found: Found) -> None:
    aws.ec2.authorize_security_group_ingress(GroupId=found.id, IpPermissions=[SSH_FOR_ALL])


def _egress(aws: Cloud, found: Found) -> None:
    """Everything that may go out is shut, and something else is opened."""
    group = aws.ec2.describe_security_groups(GroupIds=[found.id])["SecurityGroups"][0]
    aws.ec2.revoke_security_group_egress(GroupId=found.id, IpPermissions=group["IpPermissionsEgress"])
    aws.ec2.authorize_security_group_egress(GroupId=found.id, IpPermissions=[SSH_FOR_ALL])


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (Vpc, "dns_support"): _dns_support,
    (Vpc, "dns_hostnames"): _dns_hostnames,
    (Vpc, "tags"): tags,
    (Subnet, "map_public_ip"): _map_public_ip,
    (Subnet, "tags"): tags,
    (InternetGateway, "vpc"): _detach,
    (InternetGateway, "tags"): tags,
    (RouteTable, "subnets"): _subnets,
    (RouteTable, "routes"): _routes,
    (RouteTable, "tags"): tags,
    (GatewayEndpoint, "route_tables"): _route_tables,
    (GatewayEndpoint, "policy"): _policy,
    (GatewayEndpoint, "tags"): tags,
    (SecurityGroup, "ingress"): _ingress,
    (SecurityGroup, "egress"): _egress,
    (SecurityGroup, "tags"): tags,
}
