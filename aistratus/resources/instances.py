"""Instances: how one is found, made and ended.

What an instance is made of comes from four answers: the listing, its root volume's, and two attributes that the
listing leaves out. Its type isn't managed after the launch, because the node changes between CPU and GPU types;
whether it runs isn't managed at all, because it sleeps when it isn't used. `instance_start.py` launches it,
`instance_repairs.py` repairs it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Ref, Resource, at_create, at_least, one_of, reconciles, unordered
from aistratus.core.settle import Wait
from aistratus.resources.calls import at_once, unless_gone
from aistratus.resources.ec2 import Described, drift
from aistratus.resources.instance_listing import INSTANCES, VOLUMES, root_volume, state_of
from aistratus.resources.instance_repairs import repair
from aistratus.resources.instance_start import start_first

INSTANCE_GONE = frozenset({"InvalidInstanceID.NotFound"})

TERMINATED = Wait(what="the instance has terminated", within=600)
"""Seconds as a rule; an instance that is being stopped or has a GPU takes minutes. Only then its interface goes."""

VOLUMES_GONE = Wait(what="the terminated instance's volumes are gone", within=120)
"""They are deleted after the instance has terminated. Source: EC2 user guide, "Terminate Amazon EC2 instances"."""


@dataclass(frozen=True, kw_only=True)
class Instance(Resource):
    """An instance with one encrypted gp3 volume that ends with it.

    image: SSM public parameter that names the machine image, or an image's id; resolved at the first start.
    type: its shape at the first start; it changes in operation.
    subnets: where it may stand. A new one is made in the first, and stays there when another comes to be the first.
    security_groups: ids of all its groups.
    key_pair: name of the key pair.
    profile: name of the instance profile.
    user_data: text, at most 16 KB. Changing it stops a running instance for a minute, and starts it again.
    volume_gib: size of the root volume; one that is larger is left as it is, because volumes can't shrink.
    http_tokens: `required` makes the instance's metadata speak IMDSv2 only.
    hop_limit: how many hops a metadata answer may travel; 1 keeps it from containers.
    shutdown_behavior: what becomes of it when its operating system shuts down: `stop` or `terminate`.
    public_ip: it gets a public address whenever it runs.
    """

    image: str = at_create()
    type: str = at_create()
    subnets: tuple[Ref | str, ...] = one_of()
    security_groups: tuple[Ref | str, ...] = unordered()
    key_pair: Ref | str | None = None
    profile: Ref | str | None = None
    user_data: str | None = None
    volume_gib: int = at_least(default=20)
    http_tokens: str = "required"
    hop_limit: int = 1
    shutdown_behavior: str = "stop"
    public_ip: bool = at_create(default=False)

    replace_on: ClassVar[frozenset[str]] = frozenset({"subnets", "key_pair"})


def find_instance(aws: Cloud, want: Instance) -> Found | None:
    """By tags, among those that haven't been terminated."""
    described = INSTANCES.pick(aws, want.key)
    if described is None:
        return None
    user_data, behaviour, volume = at_once(
        lambda: _attribute(aws, described, "userData", "UserData"),
        lambda: _attribute(aws, described, "instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior"),
        lambda: root_volume(aws, described),
    )
    if user_data is None or behaviour is None:
        return None  # the listing knows it, the rest of EC2 not yet
    # While the instance is `pending`, its volume may not be known yet.
    found_gib = want.volume_gib if volume is None else int(volume["Size"])
    state = Instance(
        key=want.key,
        image=described["ImageId"],
        type=described["InstanceType"],
        subnets=(described["SubnetId"],),
        security_groups=tuple(sorted(group["GroupId"] for group in described["SecurityGroups"])),
        key_pair=described.get("KeyName"),
        profile=_profile(described),
        user_data=base64.b64decode(user_data).decode(errors="replace"),
        volume_gib=found_gib,
        http_tokens=described["MetadataOptions"]["HttpTokens"],
        hop_limit=int(described["MetadataOptions"]["HttpPutResponseHopLimit"]),
        shutdown_behavior=behaviour,
        public_ip=want.public_ip,
    )
    return _found(aws, described, state)


def owned_instances(aws: Cloud) -> list[Found]:
    """By tags; those that are shutting down too, so that their end is waited for."""
    return [
        _found(
            aws,
            described,
            Instance(
                key=key, image=described["ImageId"], type=described["InstanceType"], subnets=(), security_groups=()
            ),
        )
        for key, described in INSTANCES.left(aws)
    ]


def remove_instance(aws: Cloud, have: Found) -> None:
    """Terminates it, and waits until it and the volumes that end with it are gone."""
    identity = have.ids["id"]
    described = INSTANCES.by_id(aws, identity)
    volumes = _volumes_that_end_with(described) if described else []
    unless_gone(INSTANCE_GONE, aws.ec2.terminate_instances, InstanceIds=[identity])
    INSTANCES.await_gone(aws, identity, TERMINATED)
    for volume in volumes:
        VOLUMES.await_gone(aws, volume, VOLUMES_GONE)


@reconciles(Instance, find=find_instance, remove=remove_instance, owned=owned_instances)
def ensure_instance(aws: Cloud, want: Instance, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = start_first(aws, want, lambda cloud: find_instance(cloud, want))
        changes = drift(aws, want, have)
        if not changes:
            return have
    repair(aws, want, have, changes)
    return await_match(find_instance, aws, want)


# --- reading --------------------------------------------------------------------------------------------------------


def _found(aws: Cloud, described: Described, state: Instance) -> Found:
    health = "ok" if state_of(described) == "running" else state_of(described)
    zone = described["Placement"]["AvailabilityZone"]
    return INSTANCES.found(aws, described, state, health=health, type=described["InstanceType"], zone=zone)


def _attribute(aws: Cloud, described: Described, name: str, field: str) -> str | None:
    """An attribute's value, empty if it has none; `None` if the instance isn't known."""
    params = {"InstanceId": described["InstanceId"], "Attribute": name}
    answer = unless_gone(INSTANCE_GONE, aws.ec2.describe_instance_attribute, **params)
    return None if answer is None else str(answer.get(field, {}).get("Value", ""))


def _profile(described: Described) -> str | None:
    arn = described.get("IamInstanceProfile", {}).get("Arn")
    return str(arn).rsplit("/", 1)[-1] if arn else None


def _volumes_that_end_with(described: Described) -> list[str]:
    mapped = [entry["Ebs"] for entry in described.get("BlockDeviceMappings", []) if "Ebs" in entry]
    return [ebs["VolumeId"] for ebs in mapped if ebs.get("DeleteOnTermination")]
