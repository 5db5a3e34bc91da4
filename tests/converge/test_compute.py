"""Key pairs and instances: made, repaired, removed, and told apart from strangers'."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from converge_engine import Engine, key_of
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lost_answers import lose_answers
from perturb_compute import NOT_FROM_OUTSIDE, PERTURB, await_state, state, stop

from aistratus import policies
from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, Stranger
from aistratus.core.resource import Ref, Resource, reconciler
from aistratus.resources.compute import Instance, KeyPair, NetworkInterface, Volume
from aistratus.resources.iam import InstanceProfile, Role
from aistratus.resources.leftovers import owned_interfaces, owned_volumes
from aistratus.resources.network import SecurityGroup, Subnet, Vpc

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
USER_DATA = "#!/bin/bash\n# grüß dich\n"


def public_key() -> str:
    key = Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def node_stack() -> dict[str, Any]:
    vpc = Vpc(key="vpc", cidr="10.20.0.0/22")
    subnet = Subnet(key="subnet", vpc=Ref(vpc), cidr="10.20.0.0/24", zone_index=0, map_public_ip=True)
    group = SecurityGroup(key="group", vpc=Ref(vpc), description="The node")
    role = Role(key="node_role", trust=policies.trust("ec2.amazonaws.com"))
    profile = InstanceProfile(key="node_profile", role=Ref(role))
    pair = KeyPair(key="node_key", public_key=public_key)
    node = Instance(
        key="node",
        image=IMAGE,
        type="t3.small",
        subnets=(Ref(subnet),),
        security_groups=(Ref(group),),
        key_pair=Ref(pair, "name"),
        profile=Ref(profile, "name"),
        user_data=USER_DATA,
        public_ip=True,
    )
    return {entry.key: entry for entry in (vpc, subnet, group, role, profile, pair, node)}


def stack(**changed: Resource) -> list[Resource]:
    return list({**node_stack(), **changed}.values())


def bare(**changed: Any) -> list[Resource]:
    """The network and an instance, without key and profile."""
    parts = node_stack()
    node = dataclasses.replace(parts["node"], key_pair=None, profile=None, **changed)
    return [parts["vpc"], parts["subnet"], parts["group"], node]


def node_id(engine: Engine, *resources: Resource) -> str:
    return next(c.found.id for c in engine.plan(*resources).changes if c.key == "node" and c.found)


def instances(aws: Cloud, *states: str) -> list[dict[str, Any]]:
    filters = [{"Name": "tag:Env", "Values": [aws.env]}]
    pages = aws.ec2.get_paginator("describe_instances").paginate(Filters=filters)
    found = pages.search("Reservations[].Instances[]")
    return [entry for entry in found if not states or entry["State"]["Name"] in states]


def volumes(aws: Cloud) -> list[dict[str, Any]]:
    filters = [{"Name": "tag:Env", "Values": [aws.env]}]
    found: list[dict[str, Any]] = aws.ec2.describe_volumes(Filters=filters)["Volumes"]
    return found


def test_up_makes_the_node_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    (node,) = instances(aws)
    assert (node["InstanceType"], node["KeyName"]) == ("t3.small", aws.name("node_key"))
    assert node["IamInstanceProfile"]["Arn"].endswith(f"/{aws.name('node_profile')}")
    assert node["MetadataOptions"]["HttpTokens"] == "required"
    assert node["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert node["PublicIpAddress"]
    assert {tag["Key"]: tag["Value"] for tag in node["Tags"]} == aws.tags("node")
    data = aws.ec2.describe_instance_attribute(InstanceId=node["InstanceId"], Attribute="userData")
    assert base64.b64decode(data["UserData"]["Value"]).decode() == USER_DATA
    (volume,) = volumes(aws)
    assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (20, "gp3", True)
    assert [entry["Ebs"]["DeleteOnTermination"] for entry in node["BlockDeviceMappings"]] == [True]
    assert {tag["Key"]: tag["Value"] for tag in volume["Tags"]} == aws.tags("node")
    (pair,) = aws.ec2.describe_key_pairs(KeyNames=[aws.name("node_key")])["KeyPairs"]
    assert {tag["Key"]: tag["Value"] for tag in pair["Tags"]} == aws.tags("node_key")
    assert engine.plan(*stack()).empty


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs(stack(), key_of(stack(), kind), field, PERTURB[kind, field])


def test_every_mutable_field_has_a_change_from_outside() -> None:
    for kind in (KeyPair, Instance):
        fields = {entry.name for entry in dataclasses.fields(kind) if entry.metadata.get("compare") != "at-create"}
        covered = {field for theirs, field in {**PERTURB, **NOT_FROM_OUTSIDE} if theirs is kind}
        assert covered == fields - {"key"} - kind.replace_on | {"tags"}


def test_new_user_data_reaches_a_running_node_which_runs_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*bare())
    identity = node_id(engine, *bare())
    await_state(aws, identity, "running")
    changed = bare(user_data="#!/bin/bash\n# new\n")
    engine.up(*changed)
    await_state(aws, identity, "running")
    assert engine.plan(*changed).empty


def test_new_user_data_leaves_a_sleeping_node_asleep(aws: Cloud, engine: Engine) -> None:
    engine.up(*bare())
    identity = node_id(engine, *bare())
    stop(aws, identity)
    changed = bare(user_data="#!/bin/bash\n# new\n")
    engine.up(*changed)
    assert state(aws, identity) == "stopped"
    assert engine.plan(*changed).empty


def test_whether_it_runs_and_on_which_type_is_no_drift_and_shows_in_its_health(aws: Cloud, engine: Engine) -> None:
    engine.up(*bare())
    identity = node_id(engine, *bare())
    await_state(aws, identity, "running")
    stop(aws, identity)
    aws.ec2.modify_instance_attribute(InstanceId=identity, InstanceType={"Value": "g4dn.xlarge"})
    plan = engine.plan(*bare())
    assert plan.empty
    found = next(change.found for change in plan.changes if change.key == "node")
    assert found is not None
    assert (found.health, found.ids["type"], found.ids["zone"]) == ("stopped", "g4dn.xlarge", "eu-central-1a")


def test_a_volume_grows_as_wanted_and_a_larger_one_is_left_alone(aws: Cloud, engine: Engine) -> None:
    engine.up(*bare())
    assert engine.differences(*bare(volume_gib=40)) == {"node": {"volume_gib"}}
    engine.up(*bare(volume_gib=40))
    (volume,) = volumes(aws)
    assert volume["Size"] == 40
    smaller = engine.plan(*bare(volume_gib=30))
    assert smaller.empty
    found = next(change.found for change in smaller.changes if change.key == "node")
    assert found is not None and isinstance(found.state, Instance)
    assert found.state.volume_gib == 40, "it is paid for as it is"


def test_a_terminated_node_is_made_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*bare())
    first = node_id(engine, *bare())
    aws.ec2.terminate_instances(InstanceIds=[first])
    assert {c.key: c.action for c in engine.plan(*bare()).changes}["node"] == "create"
    engine.up(*bare())
    assert node_id(engine, *bare()) != first
    assert len(instances(aws, "pending", "running")) == 1


def test_a_start_keeps_its_client_token_until_an_instance_has_ended_with_it(aws: Cloud, engine: Engine) -> None:
    engine.up(*bare()[:3])
    tokens: list[str] = []
    answers = iter(["UnauthorizedOperation", "IdempotentInstanceTerminated"])

    def refuse(params: Any, **_: Any) -> Any:
        tokens.append(params["body"]["ClientToken"])
        code = next(answers, None)
        return code and (AWSResponse("", 400, {}, None), {"Error": {"Code": code, "Message": code}})

    aws._clients.get("ec2", retries=False).meta.events.register("before-call.ec2.RunInstances", refuse)
    assert engine.try_up(*bare()).failures
    engine.up(*bare())
    first, again, fresh = tokens
    assert first == again != fresh
    assert len(fresh) <= 64
    assert len(instances(aws)) == 1


def test_no_capacity_is_told_at_once_and_not_taken_for_a_lost_answer(aws: Cloud, engine: Engine) -> None:
    asked: list[str] = []

    def refuse(params: Any, **_: Any) -> Any:
        # EC2's own status for this code, which otherwise says that nobody knows whether the call was carried out.
        asked.append(params["body"]["ClientToken"])
        error = {"Code": "InsufficientInstanceCapacity", "Message": "We currently do not have sufficient capacity"}
        return AWSResponse("", 500, {}, None), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 500}}

    aws._clients.get("ec2", retries=False).meta.events.register("before-call.ec2.RunInstances", refuse)
    (failure,) = engine.try_up(*bare()).failures
    assert "sufficient capacity" in str(failure.error)
    assert len(asked) == 1


@pytest.mark.parametrize("asleep", [False, True], ids=["running", "stopped"])
def test_a_node_whose_wrong_profile_was_put_on_gets_the_right_one(aws: Cloud, engine: Engine, *, asleep: bool) -> None:
    engine.up(*stack())
    identity, wrong = node_id(engine, *stack()), aws.name("wrong")
    if asleep:
        stop(aws, identity)
    aws.iam.create_instance_profile(InstanceProfileName=wrong)
    filters = [{"Name": "instance-id", "Values": [identity]}]
    for entry in aws.ec2.describe_iam_instance_profile_associations(Filters=filters)["IamInstanceProfileAssociations"]:
        aws.ec2.disassociate_iam_instance_profile(AssociationId=entry["AssociationId"])
    aws.ec2.associate_iam_instance_profile(InstanceId=identity, IamInstanceProfile={"Name": wrong})
    assert engine.differences(*stack()) == {"node": {"profile"}}
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_lost_answers_make_nothing_twice_and_stop_nothing(aws: Cloud, engine: Engine) -> None:
    lost = lose_answers(aws)
    engine.up(*stack())
    assert {"RunInstances", "ImportKeyPair"} <= set(lost)
    assert engine.plan(*stack()).empty
    assert len(instances(aws)) == len(volumes(aws)) == 1
    engine.up(*stack(node=dataclasses.replace(node_stack()["node"], user_data="#!/bin/bash\n# new\n", volume_gib=40)))
    assert {"StopInstances", "ModifyInstanceAttribute", "StartInstances", "ModifyVolume"} <= set(lost)
    assert engine.down(*stack()).ok
    assert instances(aws, "pending", "running", "stopping", "stopped", "shutting-down") == []


def test_down_leaves_no_instance_volume_or_interface(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    outcome = engine.down(*stack())
    assert outcome.ok and not outcome.left
    assert instances(aws, "pending", "running", "stopping", "stopped", "shutting-down") == []
    assert volumes(aws) == []
    assert engine.down(*stack()).ok


def test_removing_what_is_gone_already_is_fine(engine: Engine) -> None:
    engine.up(*stack())
    found = {change.key: change.found for change in engine.plan(*stack()).changes}
    engine.down(*stack())
    for key in ("node", "node_key"):
        have = found[key]
        assert have is not None
        reconciler(node_stack()[key]).remove(engine.aws.fresh(), have)


def test_a_second_node_with_our_key_is_told_and_swept(aws: Cloud, engine: Engine) -> None:
    engine.up(*bare())
    first = node_id(engine, *bare())
    await_state(aws, first, "running")
    tags = [{"Key": name, "Value": value} for name, value in aws.tags("node").items()]
    (node,) = instances(aws)
    aws.ec2.run_instances(
        ImageId=node["ImageId"], InstanceType="t3.small", MinCount=1, MaxCount=1, SubnetId=node["SubnetId"],
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )  # fmt: skip
    recording = _recording(aws, node=first)
    found = reconciler(bare()[-1]).find(recording, bare()[-1])
    assert found is not None and (found.id, found.health) == (first, "duplicated")
    assert engine.down(*bare()).ok
    assert instances(aws, "pending", "running", "stopping", "stopped", "shutting-down") == []


def test_a_volume_that_outlived_its_node_is_swept(aws: Cloud, engine: Engine) -> None:
    engine.up(*bare())
    identity = node_id(engine, *bare())
    (node,) = instances(aws)
    kept = {"DeviceName": node["RootDeviceName"], "Ebs": {"DeleteOnTermination": False}}
    aws.ec2.modify_instance_attribute(InstanceId=identity, BlockDeviceMappings=[kept])
    assert owned_volumes(aws.fresh()) == []
    engine.remove(bare()[-1])
    (left,) = owned_volumes(aws.fresh())
    assert isinstance(left.state, Volume)
    assert engine.down(*bare()).ok
    assert volumes(aws) == []


def test_an_interface_that_nobody_uses_is_swept_and_strangers_stay(aws: Cloud, engine: Engine) -> None:
    engine.up(*bare())
    subnet = instances(aws)[0]["SubnetId"]
    tags = [{"Key": name, "Value": value} for name, value in aws.tags("node").items()]
    spec = [{"ResourceType": "network-interface", "Tags": tags}]
    aws.ec2.create_network_interface(SubnetId=subnet, TagSpecifications=spec)
    foreign = aws.ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1)["VolumeId"]
    (left,) = owned_interfaces(aws.fresh())
    assert isinstance(left.state, NetworkInterface)
    assert engine.down(*bare()).ok
    assert owned_interfaces(aws.fresh()) == []
    assert len(aws.ec2.describe_volumes(VolumeIds=[foreign])["Volumes"]) == 1


def test_what_is_only_swept_can_not_be_made(aws: Cloud) -> None:
    with pytest.raises(Failure, match="comes with its instance"):
        reconciler(Volume(key="v")).ensure(aws, Volume(key="v"), None, frozenset())


def test_a_strangers_key_pair_with_our_name_is_refused(aws: Cloud, engine: Engine) -> None:
    name = aws.name("node_key")
    aws.ec2.import_key_pair(KeyName=name, PublicKeyMaterial=public_key().encode())
    with pytest.raises(Stranger, match=name):
        engine.up(node_stack()["node_key"])
    assert engine.try_up(node_stack()["node_key"]).failures
    assert len(aws.ec2.describe_key_pairs(KeyNames=[name])["KeyPairs"]) == 1


def test_other_envs_keys_are_not_ours(engine: Engine, aws: Cloud, another_env: Callable[[str], Cloud]) -> None:
    theirs = Engine(another_env(f"{aws.env}-x"), engine.meter)
    theirs.up(node_stack()["node_key"])
    engine.up(node_stack()["node_key"])
    assert engine.down(node_stack()["node_key"]).ok
    assert theirs.plan(node_stack()["node_key"]).empty


def test_the_key_is_asked_for_only_when_the_pair_is_made(engine: Engine) -> None:
    asked = []

    def key() -> str:
        asked.append(1)
        return public_key()

    pair = KeyPair(key="node_key", public_key=key)
    engine.plan(pair)
    assert asked == []
    engine.up(pair)
    engine.up(pair)
    assert asked == [1]


def test_an_image_that_nobody_names_is_told_in_a_sentence(engine: Engine) -> None:
    with pytest.raises(Failure, match="no SSM parameter '/aws/service/nothing' names a machine image"):
        engine.up(*bare(image="/aws/service/nothing"))


def _recording(aws: Cloud, **recorded: str) -> Cloud:
    """The same env with a ledger that holds these ids."""
    records = {key: {"id": identity} for key, identity in recorded.items()}
    return Cloud(env=aws.env, identity=aws.identity, clients=aws._clients, clock=aws.clock, recorded=lambda: records)
