"""What somebody may do to NAT gateways and addresses from outside: their tags are all that `up` repairs in place."""

from __future__ import annotations

from collections.abc import Callable

from perturb_network import tags

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.network import ElasticIp, NatGateway

PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (ElasticIp, "tags"): tags,
    (NatGateway, "tags"): tags,
}

NOT_FROM_OUTSIDE: dict[tuple[type, str], str] = {
    (NatGateway, "state"): "nobody can make it pending again; one that a killed run left so has a test of its own",
}
"""Mutable fields that nobody can make differ from outside, with the reason."""
