"""The node: the instance, and the manifest, named in its user data, that says what it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aistratus import policies
from aistratus.core.resource import Ref
from aistratus.node.bootstrap import MANIFEST_KEY, manifest, user_data
from aistratus.policies import Names
from aistratus.resources.compute import Instance, KeyPair
from aistratus.resources.iam import InstanceProfile, Role
from aistratus.resources.logs import LogGroup
from aistratus.resources.storage import Artifact, JsonObject
from aistratus.settings import Settings
from aistratus.stack.data import Data
from aistratus.stack.group import Group
from aistratus.stack.network import Network

if TYPE_CHECKING:
    from aistratus.stack import Shipped


MODEL = "model"
UPLOADED = (MODEL,)
"""Keys that are declared only where this machine has the file."""


@dataclass(frozen=True, kw_only=True)
class Node(Group):
    """The instance, and its worker's log group."""

    log: LogGroup
    instance: Instance


def declare_node(settings: Settings, names: Names, shipped: Shipped, network: Network, data: Data) -> Node:
    """Declares the node, and everything that its boot needs."""
    with_nat = settings.network.enable_nat_gw
    public, private = Ref(network.public), Ref(network.private)
    node_log = LogGroup(key="node_log", name=f"/tinyllama/{names.env}/node", retention_days=settings.api.log_days)
    node_role = Role(
        key="node_role",
        description="The node: takes jobs, writes replies",
        trust=policies.trust("ec2.amazonaws.com"),
        inline={
            "node": policies.node(names, bucket=data.bucket_full_name, log_group=node_log.name),
            "managed-node": policies.managed_node(),
        },
    )
    profile = InstanceProfile(key="node_profile", role=Ref(node_role))
    bundle = Artifact(
        key="worker_bundle",
        bucket=Ref(data.bucket),
        path=f"node/worker-{shipped.worker_sha256}.zip",
        sha256=shipped.worker_sha256,
        content=shipped.worker,
        content_type="application/zip",
    )
    models = _models(shipped, data)
    node_manifest = _manifest(settings, shipped, data, node_log, bundle, models)
    key_pair = KeyPair(key="node_key", public_key=shipped.public_key)
    way_out = network.private_routes if with_nat else network.public_routes
    instance = Instance(
        key="node",
        image=settings.node.image,
        type=settings.node.cpu_type,
        subnets=(private, public) if with_nat else (public, private),
        security_groups=(Ref(network.node_group),),
        key_pair=Ref(key_pair, "name"),
        profile=Ref(profile, "name"),
        user_data=user_data(bucket=data.bucket_full_name, region=names.region),
        volume_gib=settings.node.volume_gib,
        public_ip=not with_nat,
        # Its first boot reads the manifest, and needs a way out to do so.
        after=(Ref(node_manifest), Ref(way_out), Ref(network.s3_endpoint)),
    )
    return Node(
        wanted=(node_log, node_role, profile, bundle, *models, node_manifest, key_pair, instance),
        log=node_log,
        instance=instance,
    )


def _models(shipped: Shipped, data: Data) -> tuple[Artifact, ...]:
    """The model's file in the bucket, unless the node fetches the model from its public address."""
    if shipped.model_content is None or shipped.model.key is None:
        return ()
    model = Artifact(
        key=MODEL,
        bucket=Ref(data.bucket),
        path=shipped.model.key,
        sha256=shipped.model.sha256,
        content=shipped.model_content,
        content_type="application/octet-stream",
    )
    return (model,)


def _manifest(
    settings: Settings, shipped: Shipped, data: Data, log: LogGroup, bundle: Artifact, models: tuple[Artifact, ...]
) -> JsonObject:
    """What the node runs: bundle, model and the worker's environment variables (`aistratus/worker/settings.py`)."""
    return JsonObject(
        key="node_manifest",
        bucket=Ref(data.bucket),
        path=MANIFEST_KEY,
        body=manifest(
            bundle_key=bundle.path,
            bundle_sha256=bundle.sha256,
            model=shipped.model,
            environment={
                "WORKER_QUEUE_URL": Ref(data.queue, "url"),
                "WORKER_DEAD_LETTER_URL": Ref(data.dead_letters, "url"),
                "WORKER_JOBS_TABLE": Ref(data.jobs, "name"),
                "WORKER_BUCKET": Ref(data.bucket),
                "WORKER_LOG_GROUP": Ref(log, "name"),
                "WORKER_IDLE_SECONDS": settings.node.idle_minutes * 60,
                "WORKER_RUN_SECONDS": settings.node.max_hours * 3600,
            },
        ),
        after=(Ref(bundle), *(Ref(model) for model in models)),
    )
