"""What an instance may leave behind: volumes and network interfaces that carry our tags and belong to no instance.

No stack declares these kinds. An instance brings its own volume and interface, tagged in the same call, and they end
with it; but a run that dies at the wrong moment, or somebody who unticks "delete on termination", leaves a volume that
costs money every month. The sweep of `down` asks every kind what is ours, so it finds them here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure
from aistratus.core.resource import Found, Resource, reconciles
from aistratus.core.settle import Wait
from aistratus.resources.ec2 import Listing
from aistratus.resources.instance_listing import INSTANCES, VOLUMES

INTERFACES = Listing(
    operation="describe_network_interfaces",
    rows="NetworkInterfaces[]",
    id="NetworkInterfaceId",
    id_filter="network-interface-id",
    arn="network-interface",
)

VOLUME_GONE = frozenset({"InvalidVolume.NotFound"})
INTERFACE_GONE = frozenset({"InvalidNetworkInterfaceID.NotFound"})

DETACHED = Wait(
    what="the volume or interface is let go by the instance that ended",
    within=120,
    codes=frozenset({"VolumeInUse", "IncorrectState", "InvalidParameterValue", "InvalidNetworkInterface.InUse"}),
    saying=r"(?i)in use|in-use|attached|state",
)
"""Detaching follows the termination by some seconds. Source: DeleteVolume, DeleteNetworkInterface."""


@dataclass(frozen=True, kw_only=True)
class Volume(Resource):
    """A volume without an instance; only ever swept."""


@dataclass(frozen=True, kw_only=True)
class NetworkInterface(Resource):
    """A network interface without an instance; only ever swept."""


def find_nothing(aws: Cloud, want: Resource) -> None:
    """No stack declares these kinds, so there is nothing to find by key."""


def owned_volumes(aws: Cloud) -> list[Found]:
    """By tags, without those of instances that are still there: they end with them."""
    return [
        VOLUMES.found(aws, described, Volume(key=key), health=described["State"])
        for key, described in VOLUMES.left(aws)
        if not _held(aws, [entry.get("InstanceId") for entry in described.get("Attachments", [])])
    ]


def owned_interfaces(aws: Cloud) -> list[Found]:
    """By tags, without those of instances that are still there."""
    return [
        INTERFACES.found(aws, described, NetworkInterface(key=key), health=described["Status"])
        for key, described in INTERFACES.left(aws)
        if not _held(aws, [described.get("Attachment", {}).get("InstanceId")])
    ]


def remove_volume(aws: Cloud, have: Found) -> None:
    """Deletes it once it is detached."""
    VOLUMES.remove(aws, have, VOLUME_GONE, DETACHED, "delete_volume", VolumeId=have.ids["id"])


def remove_interface(aws: Cloud, have: Found) -> None:
    """Deletes it once it is detached."""
    operation, identity = "delete_network_interface", have.ids["id"]
    INTERFACES.remove(aws, have, INTERFACE_GONE, DETACHED, operation, NetworkInterfaceId=identity)


@reconciles(Volume, find=find_nothing, remove=remove_volume, owned=owned_volumes)
@reconciles(NetworkInterface, find=find_nothing, remove=remove_interface, owned=owned_interfaces)
def ensure_nothing(aws: Cloud, want: Any, have: Found | None, changes: frozenset[str]) -> Found:
    raise Failure(f"a {want.kind} is never made on its own: it comes with its instance")


def _held(aws: Cloud, instances: list[str | None]) -> bool:
    """Is one of these an instance of ours that hasn't ended?"""
    there = {described["InstanceId"] for _, described in INSTANCES.left(aws)}
    return any(instance in there for instance in instances)
