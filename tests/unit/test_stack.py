"""What the declared stack says of the places where a node may stand."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from aistratus.core.graph import Stack
from aistratus.core.resource import Found, Ref
from aistratus.node.bootstrap import Model
from aistratus.policies import Names
from aistratus.resources.compute import Instance
from aistratus.resources.network import SecurityGroup, Subnet
from aistratus.settings import AuthSettings, DeliverySettings, NetworkSettings, NodeSettings, Settings, WatchSettings
from aistratus.stack import Shipped, cut_off, describe, stays_public

NAMES = Names("aws", "123456789012", "eu-central-1", "t")
SHIPPED = Shipped(
    router=lambda: b"",
    router_sha256="",
    functions=lambda: b"",
    functions_sha256="",
    worker=lambda: b"",
    worker_sha256="",
    model=Model(name="none", sha256="0" * 64, context_tokens=64, key="models/none.gguf"),
    model_content=lambda: io.BytesIO(b""),
    public_key=lambda: "",
)


def stack(*, nat: bool) -> Stack:
    settings = Settings(network=NetworkSettings(enable_nat_gw=nat))
    return describe(settings, NAMES, SHIPPED)


@pytest.mark.parametrize("nat", [True, False])
def test_a_new_node_stands_behind_nat_or_has_an_address_of_its_own(nat: bool) -> None:
    node = stack(nat=nat).by_key["node"]
    assert isinstance(node, Instance)
    first = node.subnets[0]
    assert isinstance(first, Ref) and isinstance(first.to, Subnet)
    assert first.to.map_public_ip is not nat
    assert node.public_ip is not nat
    assert ("routes_private" if nat else "routes_public") in {ref.to.key for ref in node.after}


@pytest.mark.parametrize("address", [None, "none", "203.0.113.7", "203.0.113.7/32"])
def test_ssh_is_open_for_one_address_or_for_none(address: str | None) -> None:
    group = describe(Settings(node=NodeSettings(ssh_cidr=address)), NAMES, SHIPPED).by_key["node_group"]
    assert isinstance(group, SecurityGroup)
    assert [rule.match for rule in group.ingress] == (
        [("tcp", 22, 22, "203.0.113.7/32")] if address not in (None, "none") else []
    )


def test_what_nat_adds_is_what_is_unwanted_without_it() -> None:
    on, off = stack(nat=True), stack(nat=False)
    switched_off = {resource.key for resource in off.unwanted} - {resource.key for resource in on.unwanted}
    assert set(on.by_key) - set(off.by_key) == switched_off == {"nat_address", "nat_gateway"}
    assert set(off.whole.by_key) == set(on.whole.by_key)


def test_a_dashboard_that_settings_switch_off_is_unwanted_and_nothing_stands_on_it() -> None:
    on, off = stack(nat=False), describe(Settings(watch=WatchSettings(dashboard=False)), NAMES, SHIPPED)
    assert set(on.by_key) - set(off.by_key) == {resource.key for resource in off.unwanted} - {
        resource.key for resource in on.unwanted
    }
    assert set(on.by_key) - set(off.by_key) == {"dashboard"}
    assert set(off.whole.by_key) == set(on.whole.by_key)


def test_what_a_workflow_may_read_depends_on_no_machine() -> None:
    """A laptop has the model's file and the operator's address in its settings; a workflow may have neither."""
    delivery = DeliverySettings(repository="owner/name")
    here = Settings(delivery=delivery, auth=AuthSettings(operator_email="operator@example.com"))
    roles = [
        describe(settings, NAMES, shipped).by_key["github_role"]
        for settings, shipped in ((here, SHIPPED), (Settings(delivery=delivery), replace(SHIPPED, model_content=None)))
    ]
    assert roles[0] == roles[1]


def test_without_the_node_goes_only_what_stands_on_it() -> None:
    whole = stack(nat=False)
    part = whole.without(["node"])
    assert whole.by_key.keys() - part.by_key.keys() == {"node", "alarm_heartbeat", "dashboard"}
    assert all(part.by_key[key] == whole.by_key[key] for key in part.by_key)
    assert part.unwanted == whole.unwanted


@pytest.mark.parametrize(
    ("place", "nat", "gateway", "cut"),
    [
        ("private", False, False, True),
        ("private", False, True, False),  # not gone yet
        ("private", True, True, False),
        ("public", False, False, False),
        ("public", True, True, False),
    ],
)
def test_a_private_node_without_a_gateway_is_cut_off(place: str, nat: bool, gateway: bool, cut: bool) -> None:
    described = stack(nat=nat)
    node: Any = described.by_key["node"]
    found = {
        "node": Found(state=replace(node, subnets=(place,)), ids={"id": "i-1"}),
        "subnet_public": Found(state=described.by_key["subnet_public"], ids={"id": "public"}),
    }
    if gateway:
        found["nat_gateway"] = Found(state=described.whole.by_key["nat_gateway"], ids={"id": "nat-1"})
    assert cut_off(described, found) is cut
    assert cut_off(described, found, when_done=True) is (place == "private" and not nat)
    assert stays_public(described, found) is (place == "public" and nat)
