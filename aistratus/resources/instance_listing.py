"""How EC2 lists instances and their volumes."""

from __future__ import annotations

from aistratus.cloud import Cloud
from aistratus.resources.ec2 import Described, Listing


def state_of(described: Described) -> str:
    """`pending`, `running`, `stopping`, `stopped`, `shutting-down` or `terminated`."""
    return str(described["State"]["Name"])


INSTANCES = Listing(
    operation="describe_instances",
    rows="Reservations[].Instances[]",
    id="InstanceId",
    id_filter="instance-id",
    arn="instance",
    since="LaunchTime",
    alive=lambda described: state_of(described) not in ("shutting-down", "terminated"),
    gone=lambda described: state_of(described) == "terminated",
)
VOLUMES = Listing(
    operation="describe_volumes",
    rows="Volumes[]",
    id="VolumeId",
    id_filter="volume-id",
    arn="volume",
    since="CreateTime",
    alive=lambda described: described["State"] not in ("deleting", "deleted"),
    gone=lambda described: described["State"] == "deleted",
)


def root_volume(aws: Cloud, described: Described) -> Described | None:
    """The volume that an instance starts from; `None` while EC2 hasn't attached it yet."""
    root = described.get("RootDeviceName")
    mapped = [entry for entry in described.get("BlockDeviceMappings", []) if "Ebs" in entry]
    identity = next((entry["Ebs"]["VolumeId"] for entry in mapped if entry["DeviceName"] == root), None)
    if identity is None:
        return None
    for volume in VOLUMES.ours(aws):
        if volume["VolumeId"] == identity:
            return volume
    return VOLUMES.by_id(aws, identity)
