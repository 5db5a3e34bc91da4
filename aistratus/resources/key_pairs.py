"""The public half of the operator's SSH key, kept by EC2 for the nodes that it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Resource, at_create, reconciles
from aistratus.core.settle import until
from aistratus.resources.calls import unless_gone
from aistratus.resources.ec2 import NO_LONGER_LISTED, Described, repair_tags, tag_specifications, tags_of

KEY_GONE = frozenset({"InvalidKeyPair.NotFound"})


@dataclass(frozen=True, kw_only=True)
class KeyPair(Resource):
    """A key pair named `tinyllama-<env>-<key>`.

    public_key: gives the public key in OpenSSH's form; asked only when the pair is created.
    """

    public_key: Callable[[], str] | None = at_create(default=None)


def find_key_pair(aws: Cloud, want: KeyPair) -> Found | None:
    """By name: key pairs are named things."""
    name = aws.name(want.key)
    described = _key_pairs(aws).get(name)
    if described is None:
        return None
    if described["KeyPairId"] != aws.recorded(want.key).get("id"):
        aws.require_ours("key pair", name, tags_of(described), want.key)
    return _found(aws, want.key, described)


def owned_key_pairs(aws: Cloud) -> list[Found]:
    """By tags, among the pairs with our name."""
    tagged = [(described, tags_of(described)) for described in _key_pairs(aws).values()]
    return [_found(aws, tags["aistratus:key"], described) for described, tags in tagged if aws.owns(tags)]


def remove_key_pair(aws: Cloud, have: Found) -> None:
    """Removes it by its id: a pair that somebody made under the same name since then stays."""
    identity = have.ids["id"]
    unless_gone(KEY_GONE, aws.ec2.delete_key_pair, KeyPairId=identity)

    def gone() -> bool | None:
        answer = unless_gone(KEY_GONE, aws.ec2.describe_key_pairs, KeyPairIds=[identity])
        return True if answer is None or not answer["KeyPairs"] else None

    until(NO_LONGER_LISTED, gone, clock=aws.clock)


@reconciles(KeyPair, find=find_key_pair, remove=remove_key_pair, owned=owned_key_pairs)
def ensure_key_pair(aws: Cloud, want: KeyPair, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        assert want.public_key is not None
        return aws.create_once(
            "ec2",
            "import_key_pair",
            look=lambda cloud: find_key_pair(cloud, want),
            taken={"InvalidKeyPair.Duplicate"},
            KeyName=aws.name(want.key),
            PublicKeyMaterial=want.public_key().encode(),
            TagSpecifications=tag_specifications(aws, want.key, "key-pair"),
        )
    if "tags" in changes:
        repair_tags(aws, want.key, have.ids["id"])
    return await_match(find_key_pair, aws, want)


def _found(aws: Cloud, key: str, described: Described) -> Found:
    identity = described["KeyPairId"]
    ids = {"id": identity, "arn": aws.arn("ec2", f"key-pair/{identity}"), "name": described["KeyName"]}
    return Found(state=KeyPair(key=key), ids=ids, tags=tags_of(described))


def _key_pairs(aws: Cloud) -> dict[str, Described]:
    """Every key pair whose name starts like ours, by name; this call has no pages."""

    def read() -> dict[str, Described]:
        answer = aws.ec2.describe_key_pairs(Filters=[{"Name": "key-name", "Values": [f"{aws.prefix}*"]}])
        return {described["KeyName"]: described for described in answer["KeyPairs"]}

    return aws.shared("ec2.key pairs", read)
