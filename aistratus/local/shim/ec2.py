"""EC2: client tokens, instance attributes, and the images of public parameters.

Instances live in `ec2_instances`, NAT gateways in `ec2_nat`.

moto ignores `ClientToken`, by which AWS makes a repeated create harmless. A repeated call is answered with what
the first one was told, and one with other parameters is refused, as AWS does for every operation that takes one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Final

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import get_service_model
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociationBackend
from moto.ec2.models.vpcs import VPCBackend, VPCEndPoint
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.key_pairs import KeyPairs
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix

from aistratus.local.shim import ec2_instances, ec2_nat
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap

DEEP_LEARNING: Final = {
    "base-oss-nvidia-driver-gpu-amazon-linux-2023": "Deep Learning Base OSS Nvidia Driver GPU AMI (Amazon Linux 2023)",
    "base-oss-nvidia-driver-gpu-ubuntu-22.04": "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04)",
    "base-oss-nvidia-driver-gpu-ubuntu-24.04": "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04)",
}
"""Name in `/aws/service/deeplearning/ami/x86_64/<name>/latest/ami-id`, and the image's name."""


class IdempotentParameterMismatch(EC2ClientError):
    """400: a client token was used before with other parameters."""

    def __init__(self) -> None:
        super().__init__(
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        )


def patch(cloud: Cloud) -> None:
    ec2_instances.patch(cloud)
    ec2_nat.patch()
    _tags()
    _client_tokens()
    _instance_attributes()
    _user_data()
    _endpoints()
    _key_pairs()
    _profile_replacements()
    _deep_learning_images()


def _tags() -> None:
    """moto reads through all tags of the account for those of one thing, several times a filter and a thing."""

    @wrap(TaggedEC2Resource, "get_tags")
    def of_this_thing(original: Any, thing: Any) -> list[dict[str, str]]:
        kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(thing.id), "") if thing.id else ""
        tags = dict(thing.ec2_backend.tags.get(thing.id, {}))
        return [
            {"resource_id": thing.id, "key": key, "value": value, "resource_type": kind} for key, value in tags.items()
        ]


def deep_learning_image(region: str, name: str) -> str:
    """Id of the image that stands for a Deep Learning AMI; the same in every run."""
    return "ami-0" + hashlib.sha256(f"{region}/{name}".encode()).hexdigest()[:16]


def _client_tokens() -> None:
    """One answer for one token. Tokens are per account and region; AWS keeps them for at least a day."""
    answers: dict[tuple[str, str, str], tuple[str, Any]] = {}

    @wrap(EC2BaseResponse, "call_action")
    def call_action(original: Any, self: Any) -> Any:
        token = self.querystring.get("ClientToken", [""])[0]
        if not token or not _takes_token(self._get_action()):
            return original(self)
        key = (self.region, self._get_action(), token)
        given = {name: value for name, value in self.querystring.items() if name not in ("ClientToken", "DryRun")}
        fingerprint = hashlib.sha256(json.dumps(given, sort_keys=True, default=str).encode()).hexdigest()
        known = answers.get(key)
        if known is None:
            answer = original(self)
            if answer[0] == 200:
                answers[key] = (fingerprint, answer)
            return answer
        if known[0] != fingerprint:
            return refuse(self, IdempotentParameterMismatch())
        return known[1]


def refuse(response: Any, error: Exception) -> Any:
    """An error as moto itself would answer with it; for code that runs before moto's own `try`."""
    from moto.core.responses import ActionResult

    status, headers, body = response.serialized(ActionResult(error))
    return status, {**headers, "status": str(status)}, body


def _takes_token(action: str) -> bool:
    operation = get_service_model("ec2").operation_model(action)
    return operation.input_shape is not None and "ClientToken" in operation.input_shape.members


def _instance_attributes() -> None:
    """Attributes that moto takes for a change of security groups, which then removes all of them."""

    @wrap(InstanceResponse, "_security_grp_instance_attribute_handler")
    def change(original: Any, self: Any) -> bool:
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        behaviour = self._get_param("InstanceInitiatedShutdownBehavior.Value")
        if behaviour is not None:
            instance.instance_initiated_shutdown_behavior = behaviour
            return True
        groups = self._get_param("Groups", [])
        if not groups:
            return False  # nothing that we know is asked for: moto answers that it isn't implemented
        original(self)
        for interface in instance.nics.values():
            interface._group_set = list(instance.security_groups)
        return True


def _user_data() -> None:
    """`UserData={"Value": …}` arrives decoded, and moto then looks for base64 in it."""

    @wrap(InstanceResponse, "_dot_value_instance_attribute_handler")
    def change(original: Any, self: Any) -> bool:
        value = self._get_param("UserData.Value")
        if value is None:
            changed: bool = original(self)
            return changed
        raw = value if isinstance(value, bytes) else str(value).encode()
        encoded = Base64EncodedString.from_encoded_bytes(base64.b64encode(raw))
        self.ec2_backend.modify_instance_attribute(self._get_param("InstanceId"), "user_data", encoded)
        return True


def _endpoints() -> None:
    """An endpoint is a gateway unless told otherwise; moto leaves the type out and then can't delete it."""

    @wrap(VPCBackend, "create_vpc_endpoint")
    def create(original: Any, backend: Any, **wanted: Any) -> Any:
        return original(backend, **{**wanted, "endpoint_type": wanted.get("endpoint_type") or "Gateway"})

    @wrap(VPCEndPoint, "get_filter_value")
    def filtered(original: Any, endpoint: Any, name: str, method: str | None = None) -> Any:
        """moto filters endpoints by everything but their id."""
        return endpoint.id if name == "vpc-endpoint-id" else original(endpoint, name, method)


def _profile_replacements() -> None:
    """A replaced profile shows in the instance; moto changes the association only."""

    @wrap(IamInstanceProfileAssociationBackend, "replace_iam_instance_profile_association")
    def replace(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        association = original(backend, *args, **kwargs)
        profile = {"Arn": association.iam_instance_profile.arn, "Id": association.association_id}
        backend.modify_instance_attribute(association.instance_id, "iam_instance_profile", profile)
        return association


def _key_pairs() -> None:
    """Key pairs can be named by id; moto knows them by name only and ignores the rest."""

    @wrap(KeyPairs, "delete_key_pair")
    def delete(original: Any, self: Any) -> Any:
        identity = self._get_param("KeyPairId")
        if identity and not self._get_param("KeyName"):
            pairs = self.ec2_backend.describe_key_pairs([])
            name = next((pair.key_name for pair in pairs if pair.id == identity), None)
            if name is None:
                return ActionResult({"Return": True})
            self.ec2_backend.delete_key_pair(name)
            return ActionResult({"Return": True, "KeyPairId": identity})
        return original(self)

    @wrap(KeyPairs, "describe_key_pairs")
    def describe_by_id(original: Any, self: Any) -> Any:
        wanted = self._get_param("KeyPairIds", [])
        if not wanted:
            return original(self)
        known = {pair.id: pair for pair in self.ec2_backend.describe_key_pairs([])}
        for identity in wanted:
            if identity not in known:
                raise EC2ClientError("InvalidKeyPair.NotFound", f"The key pair ID '{identity}' does not exist")
        return ActionResult({"KeyPairs": [known[identity] for identity in wanted]})


def _deep_learning_images() -> None:
    """The GPU node's image exists, so that the public parameter that names it can be used."""

    @wrap(AmiBackend, "_load_amis")
    def load(original: Any, backend: Any) -> None:
        original(backend)
        for name, title in DEEP_LEARNING.items():
            image_id = deep_learning_image(backend.region_name, name)
            backend.amis[image_id] = Ami(
                backend,
                image_id,
                name=f"{title} 20260901",
                description=title,
                owner_alias="amazon",
                public=True,
                virtualization_type="hvm",
                architecture="x86_64",
                image_type="machine",
                hypervisor="xen",
                root_device_type="ebs",
                root_device_name="/dev/xvda" if "amazon-linux" in name else "/dev/sda1",
                region_name=backend.region_name,
            )
