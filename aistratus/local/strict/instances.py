"""EC2 instances: what changes only while they are stopped, what a start needs, and what may be lacking for it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociationBackend
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.ec2.responses.iam_instance_profiles import IamInstanceProfiles
from moto.ec2.responses.instances import InstanceResponse
from moto.iam.models import IAMBackend, iam_backends
from moto.ssm.exceptions import SSMException
from moto.ssm.responses import SimpleSystemManagerResponse

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.ec2_instances import IncorrectInstanceState
from aistratus.local.shim.iam import policies_of
from aistratus.local.shim.patching import wrap
from aistratus.local.shim.policy_evaluation import ALLOWED, Request, decide
from aistratus.local.shim.ssm import targets_of
from aistratus.local.strict.rule import Book, Delays, Rule, refuse_with

_ERRORS: Final = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"
_USER_DATA: Final = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html"
USER_DATA_BYTES: Final = 16_384
STOPPED_ONLY: Final = {
    "instance_type": "instanceType",
    "user_data": "userData",
    "kernel": "kernel",
    "ebs_optimized": "ebsOptimized",
}
QUOTA_OF_G: Final = re.compile(r"(g|vt)\d")
"""Instance families that share the quota L-DB2E81BA."""

book = Book()


@book.rule("shape-needs-stopped", code="IncorrectInstanceState", source=_ERRORS)
def shape_needs_stopped(cloud: Cloud, delays: Delays) -> None:
    @wrap(InstanceBackend, "modify_instance_attribute")
    def modify(original: Any, backend: Any, instance_id: str, key: str, value: Any) -> Any:
        instance = backend.get_instance(instance_id)
        if key in STOPPED_ONLY and instance.state != "stopped":
            raise IncorrectInstanceState(f"The instance '{instance_id}' is not in the 'stopped' state.")
        return original(backend, instance_id, key, value)


@book.rule(
    "profile-replaced-running",
    code="IncorrectState",
    source="https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReplaceIamInstanceProfileAssociation.html",
)
def profile_replaced_running(cloud: Cloud, delays: Delays) -> None:
    @wrap(IamInstanceProfileAssociationBackend, "replace_iam_instance_profile_association")
    def replace(original: Any, backend: Any, association_id: str, *args: Any, **wanted: Any) -> Any:
        there = backend.iam_instance_profile_associations.items()
        subject = next((instance for instance, one in there if one.association_id == association_id), None)
        if subject is not None and backend.get_instance(subject).state in ("stopping", "stopped"):
            raise EC2ClientError("IncorrectState", f"The association {association_id} is not the active association")
        return original(backend, association_id, *args, **wanted)


@book.rule("launch-time", source="https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html")
def launch_time(cloud: Cloud, delays: Delays) -> None:
    """A start sets it anew; here it goes by the clock that a test moves, like the events that rules send."""

    def clocked(instance: Any) -> None:
        instance.launch_time += timedelta(seconds=delays.ahead())

    @wrap(InstanceBackend, "run_instances")
    def run(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        reservation = original(backend, *args, **kwargs)
        for instance in reservation.instances:
            clocked(instance)
        return reservation

    @wrap(InstanceBackend, "start_instances")
    def start(original: Any, backend: Any, instance_ids: list[str]) -> Any:
        asleep = {one.id for one in backend.get_multi_instances_by_id(instance_ids) if one.state == "stopped"}
        started = original(backend, instance_ids)
        for instance, _ in started:
            if instance.id in asleep:
                clocked(instance)
        return started


@book.rule("user-data-size", code="InvalidParameterValue", source=_USER_DATA)
def user_data_size(cloud: Cloud, delays: Delays) -> None:
    def check(data: Any) -> None:
        if data is not None and len(base64.b64decode(str(data))) > USER_DATA_BYTES:
            raise EC2ClientError("InvalidParameterValue", f"User data is limited to {USER_DATA_BYTES} bytes")

    @wrap(InstanceBackend, "run_instances")
    def run(original: Any, backend: Any, image_id: str, count: int, user_data: Any, *args: Any, **kwargs: Any) -> Any:
        check(user_data)
        return original(backend, image_id, count, user_data, *args, **kwargs)

    @wrap(InstanceBackend, "modify_instance_attribute")
    def modify(original: Any, backend: Any, instance_id: str, key: str, value: Any) -> Any:
        if key == "user_data":
            check(value)
        return original(backend, instance_id, key, value)


@book.rule(
    "spot-not-stopped",
    code="UnsupportedOperation",
    source="https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-instances-request.html",
)
def spot_not_stopped(cloud: Cloud, delays: Delays) -> None:
    """A spot instance of a one-time request can be ended, not stopped."""

    @wrap(InstanceBackend, "stop_instances")
    def stop(original: Any, backend: Any, instance_ids: list[str]) -> Any:
        for instance in backend.get_multi_instances_by_id(instance_ids):
            if instance.lifecycle == "spot":
                raise EC2ClientError(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{instance.id}' "
                    "because it is associated with a one-time Spot Instance request. You can only "
                    "stop Spot Instances associated with persistent Spot Instance requests.",
                )
        return original(backend, instance_ids)


@book.rule(
    "profile-not-propagated",
    code="InvalidParameterValue",
    asked="calls",
    source="https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency",
)
def profile_not_propagated(cloud: Cloud, delays: Delays) -> None:
    """A new instance profile is unknown to EC2 for a while."""

    @wrap(IAMBackend, "create_instance_profile")
    def create(original: Any, backend: Any, name: str, *args: Any, **wanted: Any) -> Any:
        profile = original(backend, name, *args, **wanted)
        delays.born("profile-not-propagated", name)
        return profile

    for owner, operation in (
        (InstanceResponse, "run_instances"),
        (IamInstanceProfiles, "associate_iam_instance_profile"),
        (IamInstanceProfiles, "replace_iam_instance_profile_association"),
    ):

        @wrap(owner, operation)
        def use(original: Any, self: Any) -> Any:
            given = self._get_param("IamInstanceProfile.Name") or self._get_param("IamInstanceProfile.Arn") or ""
            if delays.take("profile-not-propagated", given.rsplit("/", 1)[-1]):
                raise EC2ClientError(
                    "InvalidParameterValue",
                    f"Value ({given}) for parameter iamInstanceProfile.name "
                    "is invalid. Invalid IAM Instance Profile name",
                )
            return original(self)


@book.rule("no-capacity", code="InsufficientInstanceCapacity", source=_ERRORS, asked="calls")
def no_capacity(cloud: Cloud, delays: Delays) -> None:
    """Any start may find none: the first n starts of each instance do. EC2 counts it among its server errors: a 500."""

    @wrap(EC2BaseResponse, "call_action")
    def call_action(original: Any, self: Any) -> Any:
        starts = {
            "RunInstances": [self._get_param("ClientToken") or ""],
            "StartInstances": self._get_param("InstanceIds", []),
        }.get(self._get_action(), [])
        if any(delays.meets("no-capacity", subject) for subject in starts):
            return refuse_with(
                self,
                "ec2",
                500,
                "InsufficientInstanceCapacity",
                "We currently do not have sufficient "
                "capacity in the Availability Zone you requested. Our system will be working on "
                "provisioning additional capacity.",
            )
        return original(self)


@book.rule(
    "gpu-quota",
    code="VcpuLimitExceeded",
    asked="calls",
    source="https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-quotas.html",
)
def gpu_quota(cloud: Cloud, delays: Delays) -> None:
    """Many accounts have a quota of 0 for G and VT instances: the first n starts of each such instance are refused."""

    def check(subject: str, instance_type: str) -> None:
        if QUOTA_OF_G.match(instance_type) and delays.meets("gpu-quota", subject):
            raise EC2ClientError(
                "VcpuLimitExceeded",
                "You have requested more vCPU capacity than your current vCPU "
                "limit of 0 allows for the instance bucket that the specified instance type belongs "
                "to.",
            )

    @wrap(InstanceResponse, "run_instances")
    def run(original: Any, self: Any) -> Any:
        check(self._get_param("ClientToken") or "", self._get_param("InstanceType") or "")
        return original(self)

    @wrap(InstanceResponse, "start_instances")
    def start(original: Any, self: Any) -> Any:
        for identity in self._get_param("InstanceIds", []):
            check(identity, self.ec2_backend.get_instance(identity).instance_type)
        return original(self)


@book.rule(
    "agent-needs-role-and-way-out",
    code="InvalidInstanceId",
    source="https://docs.aws.amazon.com/systems-manager/latest/userguide/managed-instances-prerequisites.html",
)
def agent_needs_role_and_way_out(cloud: Cloud, delays: Delays) -> None:
    """An instance is managed if its role lets the agent report and its subnet leads out of the VPC."""

    @wrap(SimpleSystemManagerResponse, "describe_instance_information")
    def describe(original: Any, self: Any) -> Any:
        answer = original(self)
        listed = answer.result["InstanceInformationList"]
        answer.result["InstanceInformationList"] = [
            one for one in listed if not list(_lacking(cloud, self.region, one["InstanceId"]))
        ]
        return answer

    @wrap(SimpleSystemManagerResponse, "send_command")
    def send(original: Any, self: Any) -> Any:
        mute = [one for one in targets_of(self, cloud) if list(_lacking(cloud, self.region, one))]
        if mute:
            raise SSMException(
                "InvalidInstanceId", f"Instances [[{', '.join(mute)}]] not in a valid state for account {cloud.account}"
            )
        return original(self)


def _lacking(cloud: Cloud, region: str, identity: str) -> Iterator[str]:
    """What keeps an instance's agent from reporting."""
    backend = ec2_backends[cloud.account][region]
    association = backend.iam_instance_profile_associations.get(identity)
    roles = association.iam_instance_profile.roles if association else []
    request = Request(action="ssm:UpdateInstanceInformation", resource="*")
    iam = iam_backends[cloud.account]["aws"]
    if not any(decide(list(policies_of(iam, role.arn)), request) == ALLOWED for role in roles):
        yield "a role"
    instance = backend.get_instance(identity)
    tables = [one for one in backend.route_tables.values() if one.vpc_id == instance.vpc_id]
    own = [one for one in tables if any(entry.get("SubnetId") == instance.subnet_id for entry in one.associations)]
    routes = [
        route
        for table in own or [one for one in tables if one.main_association_id]
        for route in table.routes
        if route.destination_cidr_block == "0.0.0.0/0"
    ]
    through_nat = [route for route in routes if route.nat_gateway and route.nat_gateway.state == "available"]
    if not through_nat and not any(route.gateway and instance.public_ip for route in routes):
        yield "a way out"


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
