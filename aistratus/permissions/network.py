"""Checks of EC2: a call may touch resources of several types, each checked alone; new ones are recognised by tags.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2".
"""

from __future__ import annotations

from aistratus.permissions import resource_types as t
from aistratus.permissions.check import Check, Params, Table, listing, pass_role
from aistratus.permissions.resource_types import ResourceType


def _made(operation: str, *made: ResourceType, there: tuple[Check, ...] = ()) -> Table:
    """An EC2 create call: checked for what it creates, for tagging that, and for existing resources that it uses."""
    action = f"ec2:{operation}"
    creation = (("ec2:CreateAction", operation),)
    return {
        action: (
            *(Check(action, resource, state="made") for resource in made),
            *(Check("ec2:CreateTags", resource, "'*'", "TagSpecifications", "made", creation) for resource in made),
            *there,
        )
    }


def _on(operation: str, *parts: tuple[ResourceType, str]) -> Table:
    """An EC2 call on existing resources."""
    action = f"ec2:{operation}"
    return {action: tuple(Check(action, resource, ids) for resource, ids in parts)}


def _tags_on() -> tuple[Check, ...]:
    """CreateTags on existing resources: each type is checked for the ids of that type."""
    return tuple(
        Check(
            "ec2:CreateTags",
            resource,
            f"Resources[?starts_with(@, '{begin}-')]",
            f"Resources[?starts_with(@, '{begin}-')]",
        )
        for begin, resource in t.TAGGABLE.items()
    )


def _role_of_profile(params: Params) -> list[str]:
    """The role of one of our instance profiles, which is named after the profile (`stack/`)."""
    given = params.get("IamInstanceProfile", {})
    name = given.get("Name") or str(given.get("Arn", "")).rpartition("/")[2]
    return [name.removesuffix("profile") + "role"]


EC2: Table = {
    **listing(
        "ec2",
        "DescribeVpcs DescribeSubnets DescribeInternetGateways DescribeNatGateways DescribeAddresses "
        "DescribeRouteTables DescribeVpcEndpoints DescribeSecurityGroups DescribeKeyPairs DescribeInstances "
        "DescribeVolumes DescribeImages DescribeNetworkInterfaces DescribeAvailabilityZones "
        "DescribeIamInstanceProfileAssociations DescribeInstanceTypeOfferings "
        "DescribeInstanceTypes",
    ),
    **_on("DescribeVpcAttribute", (t.VPC, "VpcId")),
    **_on("DescribeInstanceAttribute", (t.INSTANCE, "InstanceId")),
    **_on("GetConsoleOutput", (t.INSTANCE, "InstanceId")),
    **_made("CreateVpc", t.VPC),
    **_made("CreateSubnet", t.SUBNET, there=(Check("ec2:CreateSubnet", t.VPC, "VpcId"),)),
    **_made("CreateInternetGateway", t.INTERNET_GATEWAY),
    **_made("CreateRouteTable", t.ROUTE_TABLE, there=(Check("ec2:CreateRouteTable", t.VPC, "VpcId"),)),
    **_made(
        "CreateVpcEndpoint",
        t.ENDPOINT,
        there=(
            Check("ec2:CreateVpcEndpoint", t.VPC, "VpcId"),
            Check("ec2:CreateVpcEndpoint", t.ROUTE_TABLE, "RouteTableIds", "RouteTableIds"),
        ),
    ),
    **_made("CreateSecurityGroup", t.SECURITY_GROUP, there=(Check("ec2:CreateSecurityGroup", t.VPC, "VpcId"),)),
    **_made("AllocateAddress", t.ADDRESS),
    **_made(
        "CreateNatGateway",
        t.NAT_GATEWAY,
        there=(
            Check("ec2:CreateNatGateway", t.SUBNET, "SubnetId"),
            Check("ec2:CreateNatGateway", t.ADDRESS, "AllocationId", "AllocationId"),
        ),
    ),
    **_made("ImportKeyPair", t.KEY_PAIR),
    **_made(
        "RunInstances",
        t.INSTANCE,
        t.VOLUME,
        t.INTERFACE,
        there=(
            Check("ec2:RunInstances", t.IMAGE, "ImageId"),
            Check("ec2:RunInstances", t.SUBNET, "SubnetId || NetworkInterfaces[].SubnetId"),
            Check("ec2:RunInstances", t.SECURITY_GROUP, "SecurityGroupIds || NetworkInterfaces[].Groups[]"),
            Check("ec2:RunInstances", t.KEY_PAIR, "KeyName", "KeyName"),
            pass_role(_role_of_profile, "ec2.amazonaws.com", "IamInstanceProfile"),
        ),
    ),
    "ec2:CreateTags": _tags_on(),
    **_on("DisassociateAddress", (t.ADDRESS, "'*'")),
    **_on("ModifyVpcAttribute", (t.VPC, "VpcId")),
    **_on("DeleteVpc", (t.VPC, "VpcId")),
    **_on("ModifySubnetAttribute", (t.SUBNET, "SubnetId")),
    **_on("DeleteSubnet", (t.SUBNET, "SubnetId")),
    **_on("AttachInternetGateway", (t.INTERNET_GATEWAY, "InternetGatewayId"), (t.VPC, "VpcId")),
    **_on("DetachInternetGateway", (t.INTERNET_GATEWAY, "InternetGatewayId"), (t.VPC, "VpcId")),
    **_on("DeleteInternetGateway", (t.INTERNET_GATEWAY, "InternetGatewayId")),
    **_on("DeleteNatGateway", (t.NAT_GATEWAY, "NatGatewayId")),
    **_on("ReleaseAddress", (t.ADDRESS, "AllocationId")),
    **_on("CreateRoute", (t.ROUTE_TABLE, "RouteTableId")),
    **_on("ReplaceRoute", (t.ROUTE_TABLE, "RouteTableId")),
    **_on("DeleteRoute", (t.ROUTE_TABLE, "RouteTableId")),
    **_on("DeleteRouteTable", (t.ROUTE_TABLE, "RouteTableId")),
    **_on("AssociateRouteTable", (t.ROUTE_TABLE, "RouteTableId"), (t.SUBNET, "SubnetId")),
    # An association's id says neither table nor subnet; IAM looks at both.
    **_on("DisassociateRouteTable", (t.ROUTE_TABLE, "'*'"), (t.SUBNET, "'*'")),
    **_on("ReplaceRouteTableAssociation", (t.ROUTE_TABLE, "RouteTableId"), (t.SUBNET, "'*'")),
    **_on(
        "ModifyVpcEndpoint", (t.ENDPOINT, "VpcEndpointId"), (t.ROUTE_TABLE, "AddRouteTableIds || RemoveRouteTableIds")
    ),
    **_on("DeleteVpcEndpoints", (t.ENDPOINT, "VpcEndpointIds")),
    **_on("AuthorizeSecurityGroupIngress", (t.SECURITY_GROUP, "GroupId")),
    **_on("AuthorizeSecurityGroupEgress", (t.SECURITY_GROUP, "GroupId")),
    **_on("RevokeSecurityGroupIngress", (t.SECURITY_GROUP, "GroupId")),
    **_on("RevokeSecurityGroupEgress", (t.SECURITY_GROUP, "GroupId")),
    **_on("UpdateSecurityGroupRuleDescriptionsIngress", (t.SECURITY_GROUP, "GroupId")),
    **_on("UpdateSecurityGroupRuleDescriptionsEgress", (t.SECURITY_GROUP, "GroupId")),
    **_on("DeleteSecurityGroup", (t.SECURITY_GROUP, "GroupId")),
    # IAM's ARN of a key pair has its name, also where the call gives its id.
    **_on("DeleteKeyPair", (t.KEY_PAIR, "KeyName || '*'")),
    **_on("StartInstances", (t.INSTANCE, "InstanceIds")),
    **_on("StopInstances", (t.INSTANCE, "InstanceIds")),
    **_on("TerminateInstances", (t.INSTANCE, "InstanceIds")),
    "ec2:ModifyInstanceAttribute": (
        Check("ec2:ModifyInstanceAttribute", t.INSTANCE, "InstanceId"),
        Check("ec2:ModifyInstanceAttribute", t.SECURITY_GROUP, "Groups", "Groups"),
    ),
    **_on("ModifyInstanceMetadataOptions", (t.INSTANCE, "InstanceId")),
    **_on("ModifyVolume", (t.VOLUME, "VolumeId")),
    **_on("DeleteVolume", (t.VOLUME, "VolumeId")),
    **_on("DeleteNetworkInterface", (t.INTERFACE, "NetworkInterfaceId")),
    "ec2:AssociateIamInstanceProfile": (
        Check("ec2:AssociateIamInstanceProfile", t.INSTANCE, "InstanceId"),
        pass_role(_role_of_profile, "ec2.amazonaws.com"),
    ),
    "ec2:DisassociateIamInstanceProfile": (Check("ec2:DisassociateIamInstanceProfile", t.INSTANCE),),
    "ec2:ReplaceIamInstanceProfileAssociation": (
        Check("ec2:ReplaceIamInstanceProfileAssociation", t.INSTANCE),
        pass_role(_role_of_profile, "ec2.amazonaws.com"),
    ),
}
