"""How tests drive the strict cloud: clients that see each answer, and the control path for the rules about time."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from embedded_cloud_parts import await_state, connected_to, unique

from aistratus.local.process import Running


class Judge:
    """Clients of the strict cloud, and its control path."""

    def __init__(self, cloud: Running) -> None:
        self.connect = connected_to(cloud)
        self.gateway = cloud.gateway
        self.address = f"{cloud.endpoint}/_aistratus/strict"

    def __call__(self, service: str) -> Any:
        return self.connect(service)

    def order(self, **order: Any) -> None:
        """Sends an order to the control path."""
        request = urllib.request.Request(self.address, json.dumps(order).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200

    def delay(self, rule: str, calls: int) -> None:
        """The first `calls` calls on each new thing meet the rule."""
        self.order(rule=rule, calls=calls)

    def throttle(self, rule: str, every: int) -> None:
        """Every `every`-th call meets the rule."""
        self.order(rule=rule, every=every)


def subnet(judge: Judge, vpc: str) -> str:
    identifier: str = judge("ec2").create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
    return identifier


def group(judge: Judge, vpc: str) -> str:
    answer = judge("ec2").create_security_group(GroupName=unique(), Description="d", VpcId=vpc)
    identifier: str = answer["GroupId"]
    return identifier


def attached_gateway(judge: Judge, vpc: str) -> str:
    """An internet gateway, without which no NAT gateway works."""
    identifier: str = judge("ec2").create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    judge("ec2").attach_internet_gateway(InternetGatewayId=identifier, VpcId=vpc)
    return identifier


def end(judge: Judge, instance: str) -> None:
    judge("ec2").terminate_instances(InstanceIds=[instance])
    await_state(judge.connect, instance, "terminated")
