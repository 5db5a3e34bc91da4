"""Launches an instance.

The call carries a client token, so that a call repeated after a lost answer, in this run or in the next one, returns
the instance that the first call created. EC2 remembers a token for a day and longer after the instance has ended, so
the token is derived from everything that makes this launch a different one: all parameters, and the earlier instances.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, error_code
from aistratus.core.resource import Found
from aistratus.core.settle import Wait
from aistratus.resources.calls import unless_gone
from aistratus.resources.ec2 import KNOWN, Described, tag_specifications, tags_of
from aistratus.resources.instance_listing import INSTANCES

if TYPE_CHECKING:
    from aistratus.resources.instances import Instance

STARTABLE = Wait(
    what="EC2 takes the new instance profile, subnet, security group and key for an instance",
    within=120,
    codes=KNOWN.codes | {"InvalidParameterValue"},
    saying=r"(?i)instance profile|does not exist|not found|invalid id",
)
"""A new instance profile isn't known to EC2 for some ten seconds: InvalidParameterValue, "Invalid IAM Instance Profile
name". Source: EC2 error codes; IAM user guide, "Changes that I make are not always immediately visible".
"""

TOKENS = 4
"""Client tokens tried in turn when EC2 says that one belongs to an instance that has ended."""

VOLUME_TYPE = "gp3"


def start_first(aws: Cloud, want: Instance, look: Callable[[Cloud], Found | None]) -> Found:
    """Makes the instance.

    Args:
        look: finds it by its tags.
    """
    params = _request(aws, want)
    former = sorted({aws.recorded(want.key).get("id", ""), *_ended(aws, want.key)})
    for attempt in range(TOKENS):
        try:
            return aws.create_once(
                "ec2",
                "run_instances",
                look=look,
                settling=STARTABLE,
                ClientToken=_token(aws, want.key, params, [*former, str(attempt)]),
                **params,
            )
        except ClientError as error:
            # The record of the instance that went before is lost, and EC2 still remembers its token.
            if error_code(error) != "IdempotentInstanceTerminated":
                raise
    raise Failure(f"EC2 remembers {TOKENS} ended instances of {want.key}", todo="run the command again tomorrow")


def _ended(aws: Cloud, key: str) -> list[str]:
    """Ids of this resource's ended instances, as long as EC2 lists them."""
    mine = [described for described in INSTANCES.ours(aws) if aws.owns(tags_of(described), key)]
    return [described["InstanceId"] for described in mine if not INSTANCES.alive(described)]


def _token(aws: Cloud, key: str, params: Mapping[str, Any], former: list[str]) -> str:
    """The same for the same start; EC2 takes 64 characters."""
    said = json.dumps([aws.env, key, former, params], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _request(aws: Cloud, want: Instance) -> dict[str, Any]:
    image = _image(aws, want)
    root = image["RootDeviceName"]
    interface = {
        "DeviceIndex": 0,
        "SubnetId": want.subnets[0],
        "Groups": sorted({str(group) for group in want.security_groups}),
        "AssociatePublicIpAddress": want.public_ip,
        "DeleteOnTermination": True,
    }
    volume = {
        "VolumeSize": max(want.volume_gib, _snapshot_gib(image, root)),
        "VolumeType": VOLUME_TYPE,
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    return {
        "ImageId": image["ImageId"],
        "InstanceType": want.type,
        "MinCount": 1,
        "MaxCount": 1,
        "NetworkInterfaces": [interface],
        "BlockDeviceMappings": [{"DeviceName": root, "Ebs": volume}],
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": want.http_tokens,
            "HttpPutResponseHopLimit": want.hop_limit,
        },
        "InstanceInitiatedShutdownBehavior": want.shutdown_behavior,
        "TagSpecifications": tag_specifications(aws, want.key, "instance", "volume", "network-interface"),
        **({"KeyName": want.key_pair} if want.key_pair else {}),
        **({"IamInstanceProfile": {"Name": want.profile}} if want.profile else {}),
        **({"UserData": want.user_data} if want.user_data else {}),  # the SDK encodes it for this one call
    }


def _image(aws: Cloud, want: Instance) -> Described:
    """The machine image: its root device must be named exactly, or EC2 attaches a second volume."""
    image_id = want.image
    if not image_id.startswith("ami-"):
        answer = unless_gone({"ParameterNotFound"}, aws.ssm.get_parameter, Name=want.image)
        if answer is None:
            raise Failure(
                f"no SSM parameter {want.image!r} names a machine image in {aws.region}",
                todo="set node.image to one that does",
            )
        image_id = answer["Parameter"]["Value"]
    images: list[Described] = aws.ec2.describe_images(ImageIds=[image_id])["Images"]
    if not images:
        raise Failure(f"the machine image {image_id} isn't there in {aws.region}", todo="set node.image to another one")
    return images[0]


def _snapshot_gib(image: Described, root: str) -> int:
    """The size that the image's root volume has at least."""
    mapped = [entry for entry in image.get("BlockDeviceMappings", []) if entry.get("DeviceName") == root]
    return max((int(entry.get("Ebs", {}).get("VolumeSize", 0)) for entry in mapped), default=0)
