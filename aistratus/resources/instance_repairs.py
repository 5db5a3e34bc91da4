"""Repairs an existing instance.

Everything but its user data can change while it runs. User data changes only while it is stopped: a running instance is
stopped, changed and started again, a stopped one stays stopped. If the run dies in between, the instance stays stopped,
with its old or its new user data; the next run sees which, and the next prompt wakes it as usual.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, error_code
from aistratus.core.resource import Found
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.ec2 import repair_tags, write
from aistratus.resources.instance_listing import INSTANCES, VOLUMES, root_volume, state_of

if TYPE_CHECKING:
    from aistratus.resources.instances import Instance

IN_TRANSIT = Wait(
    what="the instance gets out of a state in between",
    within=300,
    codes=frozenset({"IncorrectInstanceState"}),
)
"""`pending` can't be stopped and `stopping` can't be started. Source: EC2 user guide, "Instance lifecycle"."""

STOPPED = Wait(what="the instance has stopped", within=600)
"""Most take less than a minute; EC2 forces one that doesn't end its programs, after some minutes."""

PROFILE_TAKEN = Wait(
    what="EC2 takes the new instance profile, or ends another change of it",
    within=120,
    codes=frozenset({"InvalidParameterValue", "IncorrectState", "InvalidAssociationID.NotFound"}),
    saying=r"(?i)profile|association",
)
"""A new profile isn't known to EC2 for some ten seconds, and a replacement takes a moment."""


def repair(aws: Cloud, want: Instance, have: Found, changes: frozenset[str]) -> None:
    """Makes just these fields as wanted; a field that needs a stopped instance comes last."""
    identity = have.ids["id"]
    if "tags" in changes:
        repair_tags(aws, want.key, identity)
    if changes & {"http_tokens", "hop_limit"}:
        write(
            aws,
            "modify_instance_metadata_options",
            InstanceId=identity,
            HttpEndpoint="enabled",
            HttpTokens=want.http_tokens,
            HttpPutResponseHopLimit=want.hop_limit,
        )
    if "security_groups" in changes:
        groups = sorted({str(group) for group in want.security_groups})
        write(aws, "modify_instance_attribute", InstanceId=identity, Groups=groups)
    if "shutdown_behavior" in changes:
        behaviour = {"Value": want.shutdown_behavior}
        write(aws, "modify_instance_attribute", InstanceId=identity, InstanceInitiatedShutdownBehavior=behaviour)
    if "profile" in changes:
        _repair_profile(aws, identity, str(want.profile))
    if "volume_gib" in changes:
        _grow(aws, identity, want.volume_gib)
    if "user_data" in changes:
        _change_user_data(aws, identity, want.user_data or "")


def _repair_profile(aws: Cloud, identity: str, profile: str) -> None:
    """Gives the instance this profile, in place of another where it has one.

    It is replaced at a running instance only: one that is stopped gives up the other profile first. Sources:
    ReplaceIamInstanceProfileAssociation; aws-cli issue 5251, terraform-provider-aws issue 8262.
    """

    def change() -> None:
        # Looked up anew each time: a replacement that was carried out gives the association another id.
        filters = [
            {"Name": "instance-id", "Values": [identity]},
            {"Name": "state", "Values": ["associating", "associated"]},
        ]
        associations = aws.ec2.describe_iam_instance_profile_associations(Filters=filters)
        current = next(iter(associations["IamInstanceProfileAssociations"]), None)
        wanted = {"Name": profile}
        if current is None:
            aws.ec2.associate_iam_instance_profile(InstanceId=identity, IamInstanceProfile=wanted)
        elif current["IamInstanceProfile"]["Arn"].rsplit("/", 1)[-1] != profile:
            association = current["AssociationId"]
            described = INSTANCES.by_id(aws, identity)
            if described is not None and state_of(described) in ("stopping", "stopped"):
                aws.ec2.disassociate_iam_instance_profile(AssociationId=association)
                aws.ec2.associate_iam_instance_profile(InstanceId=identity, IamInstanceProfile=wanted)
                return
            aws.ec2.replace_iam_instance_profile_association(AssociationId=association, IamInstanceProfile=wanted)

    settle(PROFILE_TAKEN, change, clock=aws.clock)


def _grow(aws: Cloud, identity: str, gib: int) -> None:
    """Grows the root volume; Linux images take the new room into use at their next start.

    EC2 takes one change of a volume in six hours. Source: ModifyVolume.
    """
    described = INSTANCES.by_id(aws, identity)
    volume = root_volume(aws, described) if described else None
    if volume is None:
        return  # not attached yet: reading back waits for it
    try:
        write(aws, "modify_volume", VolumeId=volume["VolumeId"], Size=gib)
    except ClientError as error:
        # Refused because an earlier call, whose answer got lost, has done it: then the volume has the size.
        again = VOLUMES.by_id(aws, volume["VolumeId"])
        refused = error_code(error) in ("IncorrectModificationState", "VolumeModificationRateExceeded")
        if not refused or again is None or again["Size"] < gib:
            raise


def _change_user_data(aws: Cloud, identity: str, text: str) -> None:
    described = INSTANCES.by_id(aws, identity)
    was_up = described is not None and state_of(described) in ("pending", "running")
    if was_up:
        settle(IN_TRANSIT, aws.ec2.stop_instances, clock=aws.clock, InstanceIds=[identity])

    def stopped() -> bool | None:
        now = INSTANCES.by_id(aws, identity)
        if now is None or not INSTANCES.alive(now):
            raise Failure(f"the instance {identity} was terminated meanwhile", todo="run the command again")
        return True if state_of(now) == "stopped" else None

    until(STOPPED, stopped, clock=aws.clock)
    # Given as a plain attribute the value must be encoded here; in RunInstances the SDK does it.
    encoded = base64.b64encode(text.encode()).decode()
    change = {"InstanceId": identity, "Attribute": "userData", "Value": encoded}
    settle(IN_TRANSIT, aws.ec2.modify_instance_attribute, clock=aws.clock, **change)
    if was_up:
        settle(IN_TRANSIT, aws.ec2.start_instances, clock=aws.clock, InstanceIds=[identity])
