"""The whole stack of one env, read top to bottom. Nothing else in the project lists resources.

`describe` assembles it from its groups, one after the other; each file here declares one group, or two that belong
together. A group depends only on those above it.

Resources that the settings switch off are declared too, as unwanted: `up` removes them where they exist. Four commands
share this description: `plan` compares it with the actual state, `up` reconciles it, `status` reads its health, `down`
removes it in reverse. The order follows from the `Ref`s. A prompt passes the groups from the bottom to the top: the API
calls the router, the router writes the jobs table and the queue, the node reads from both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from aistratus.core.graph import Stack
from aistratus.core.resource import Found
from aistratus.node.bootstrap import Model
from aistratus.policies import Names
from aistratus.resources.compute import Instance
from aistratus.settings import Settings
from aistratus.stack.api import declare_api
from aistratus.stack.data import declare_data
from aistratus.stack.delivery import declare_delivery
from aistratus.stack.guard import declare_guard
from aistratus.stack.money import declare_money
from aistratus.stack.network import declare_network
from aistratus.stack.node import UPLOADED, declare_node
from aistratus.stack.people import TOLD, declare_identity, declare_people
from aistratus.stack.router import declare_router
from aistratus.stack.watch import declare_watch


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """What is uploaded: programs by content hash, and the node's public key, generated when first needed."""

    router: Callable[[], bytes]
    router_sha256: str
    """Base64, as Lambda's CodeSha256."""
    functions: Callable[[], bytes]
    """All functions besides the router, in one zip."""
    functions_sha256: str
    """Base64, as Lambda's CodeSha256."""
    worker: Callable[[], bytes]
    worker_sha256: str
    """Hex."""
    model: Model
    model_content: Callable[[], BinaryIO] | None
    """The model's file, if this machine has it."""
    public_key: Callable[[], str]


def cut_off(stack: Stack, found: Mapping[str, Found], *, when_done: bool = False) -> bool:
    """Whether the node has no internet access: it is behind a NAT gateway that the settings have switched off since.

    Args:
        when_done: what will be so when `up` has taken away what is switched off.
    """
    node, public = found.get("node"), found.get("subnet_public")
    if node is None or public is None or "nat_gateway" in stack.by_key or not isinstance(node.state, Instance):
        return False
    return public.id not in node.state.subnets and (when_done or "nat_gateway" not in found)


def stays_public(stack: Stack, found: Mapping[str, Found]) -> bool:
    """Whether a NAT gateway is declared that the node doesn't use: the node was created with a public address."""
    node, public = found.get("node"), found.get("subnet_public")
    if node is None or public is None or "nat_gateway" not in stack.by_key or not isinstance(node.state, Instance):
        return False
    return public.id in node.state.subnets


STAYS_PUBLIC = (
    "the node stays in the public subnet, where the NAT gateway is of no use to it; `aistratus up --replace` "
    "recreates it behind the gateway"
)
WILL_BE_CUT_OFF = (
    "the node is in a private subnet and will have no internet access; `up --replace` recreates it elsewhere"
)
CUT_OFF = "the node is in a private subnet without internet access; `aistratus up --replace` recreates it elsewhere"


def describe(settings: Settings, names: Names, shipped: Shipped) -> Stack:
    """Every resource of the env."""
    network = declare_network(settings)
    data = declare_data(names)
    identity = declare_identity(settings, names)
    people = declare_people(settings, names)
    router = declare_router(settings, names, shipped, data, identity)
    api = declare_api(settings, names, router, identity)
    machine = declare_node(settings, names, shipped, network, data)
    guard = declare_guard(settings, names, shipped, data)
    money = declare_money(settings, names, shipped, data, people, guard)
    watch = declare_watch(settings, names, data, people, api, machine)
    stack = Stack(
        {
            "network": network.wanted,
            "data": data.wanted,
            "identity": identity.wanted,
            "people": people.wanted,
            "router": router.wanted,
            "API": api.wanted,
            "node": machine.wanted,
            "guard": guard.wanted,
            "money": money.wanted,
            "watch": watch.wanted,
        },
        unwanted={"network": network.unwanted, "watch": watch.unwanted},
    )
    # Last, because a workflow may read the ids of everything else, also of what only another machine declares.
    delivery = declare_delivery(settings, names, data, keys={*stack.whole.by_key, *UPLOADED, *TOLD})
    return stack.plus("delivery", delivery.wanted, delivery.unwanted)
