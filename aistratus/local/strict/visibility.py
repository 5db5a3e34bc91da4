"""EC2's eventual consistency: a new resource isn't visible everywhere yet.

A new resource is unknown to the first n calls that list its kind or name it: a call that names it fails with the kind's
"not found", a listing leaves it out. Its tags may take longer: until then, filters by tag don't find it.

A resource is hidden by removing it from moto's store while a describe call runs, so that moto itself filters, paginates
and raises the errors; all this happens under EC2's lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses._base_response import EC2BaseResponse

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.ec2 import refuse
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

_CONSISTENCY: Final = "https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html"
UNKNOWN: Final = "not-found-yet"
UNFILTERED: Final = "tags-not-indexed-yet"

book = Book()

Stores = Callable[[Any], list[MutableMapping[str, Any]]]


@dataclass(frozen=True)
class Kind:
    """One kind of EC2 thing: who lists it, how its absence is worded, and where moto keeps it.

    `ids` gives the ids that an entry of a store stands for. `code` is the listing's; where other calls have a code and
    words of their own for it, these are `elsewhere`.
    """

    listing: str
    code: str
    words: str
    stores: Stores
    ids: Callable[[str, Any], tuple[str, ...]] = lambda key, entry: (key,)
    elsewhere: tuple[str, str] | None = None


class ByAllocation(MutableMapping[str, Any]):
    """moto's list of addresses, by allocation id."""

    def __init__(self, addresses: list[Any]) -> None:
        self._addresses = addresses

    def __iter__(self) -> Iterator[str]:
        return iter([one.allocation_id for one in self._addresses])

    def __len__(self) -> int:
        return len(self._addresses)

    def __getitem__(self, key: str) -> Any:
        return next(one for one in self._addresses if one.allocation_id == key)

    def __setitem__(self, key: str, address: Any) -> None:
        self._addresses.append(address)

    def __delitem__(self, key: str) -> None:
        self._addresses.remove(self[key])


KINDS: Final = (
    Kind("DescribeVpcs", "InvalidVpcID.NotFound", "The vpc ID '{}' does not exist", lambda b: [b.vpcs]),
    Kind(
        "DescribeSubnets",
        "InvalidSubnetID.NotFound",
        "The subnet ID '{}' does not exist",
        lambda b: list(b.subnets.values()),
    ),
    Kind(
        "DescribeInternetGateways",
        "InvalidInternetGatewayID.NotFound",
        "The internetGateway ID '{}' does not exist",
        lambda b: [b.internet_gateways],
    ),
    Kind(
        "DescribeRouteTables",
        "InvalidRouteTableID.NotFound",
        "The routeTable ID '{}' does not exist",
        lambda b: [b.route_tables],
    ),
    Kind(
        "DescribeSecurityGroups",
        "InvalidGroup.NotFound",
        "The security group '{}' does not exist",
        lambda b: list(b.groups.values()),
    ),
    Kind(
        "DescribeVpcEndpoints",
        "InvalidVpcEndpointId.NotFound",
        "The Vpc Endpoint Id '{}' does not exist",
        lambda b: [b.vpc_end_points],
    ),
    Kind(
        "DescribeKeyPairs",
        "InvalidKeyPair.NotFound",
        "The key pair '{}' does not exist",
        lambda b: [b.key_pairs],
        lambda key, entry: (entry.id,),
    ),
    # A reservation of ours holds one instance; of several, all are new together.
    Kind(
        "DescribeInstances",
        "InvalidInstanceID.NotFound",
        "The instance ID '{}' does not exist",
        lambda b: [b.reservations],
        lambda key, entry: tuple(one.id for one in entry.instances),
    ),
    Kind("DescribeVolumes", "InvalidVolume.NotFound", "The volume '{}' does not exist.", lambda b: [b.volumes]),
    Kind(
        "DescribeAddresses",
        "InvalidAllocationID.NotFound",
        "The allocation ID '{}' does not exist",
        lambda b: [ByAllocation(b.addresses)],
        elsewhere=("InvalidElasticIpID.NotFound", "The elasticIp ID '{}' does not exist"),
    ),
    Kind(
        "DescribeNatGateways",
        "NatGatewayNotFound",
        "The Nat Gateway {} was not found",
        lambda b: [b.nat_gateways],
        elsewhere=("InvalidNatGatewayID.NotFound", "The natGateway ID '{}' does not exist"),
    ),
)


@book.rule(UNKNOWN, code="Invalid….NotFound", source=_CONSISTENCY, asked="calls")
def not_found_yet(cloud: Cloud, delays: Delays) -> None:
    def as_asked(original: Any, self: Any, action: str) -> Any:
        waiting = delays.waiting(UNKNOWN)
        named = sorted(waiting & _named(self, action))
        if named:
            for one in named:
                delays.take(UNKNOWN, one)
            return refuse(self, _absent(self.ec2_backend, action, named[0]))
        return _leaving_out(original, self, action, waiting, lambda one: delays.take(UNKNOWN, one))

    _around_calls(delays, UNKNOWN, as_asked)


@book.rule(UNFILTERED, source=_CONSISTENCY, asked="calls")
def tags_not_indexed_yet(cloud: Cloud, delays: Delays) -> None:
    def as_asked(original: Any, self: Any, action: str) -> Any:
        by_tag = any(
            str(_first(values)).startswith("tag")
            for name, values in self.querystring.items()
            if name.startswith("Filter.") and name.endswith(".Name")
        )
        waiting = delays.waiting(UNFILTERED) if by_tag else frozenset()
        return _leaving_out(original, self, action, waiting, lambda one: delays.take(UNFILTERED, one))

    _around_calls(delays, UNFILTERED, as_asked)


def _around_calls(delays: Delays, rule: str, as_asked: Callable[[Any, Any, str], Any]) -> None:
    @wrap(EC2BaseResponse, "call_action")
    def call_action(original: Any, self: Any) -> Any:
        if not delays.asked(rule):
            return original(self)
        before = _all_ids(self.ec2_backend)
        answer = as_asked(original, self, self._get_action())
        for new in _all_ids(self.ec2_backend) - before:
            delays.born(rule, new)
        return answer


def _leaving_out(original: Any, self: Any, action: str, waiting: frozenset[str], seen: Callable[[str], object]) -> Any:
    """The call's answer as if the waiting things of the kind that it lists weren't there."""
    kind = next((one for one in KINDS if one.listing == action), None)
    if kind is None or not waiting:
        return original(self)
    with _taken_out(self.ec2_backend, kind, waiting) as hidden:
        answer = original(self)
    for one in hidden:
        seen(one)
    return answer


@contextlib.contextmanager
def _taken_out(backend: Any, kind: Kind, waiting: frozenset[str]) -> Iterator[set[str]]:
    hidden: set[str] = set()
    stores = kind.stores(backend)
    whole = [dict(store) for store in stores]
    for store in stores:
        for key, entry in list(store.items()):
            if waiting.intersection(kind.ids(key, entry)):
                hidden.update(kind.ids(key, entry))
                del store[key]
    try:
        yield hidden
    finally:
        for store, content in zip(stores, whole, strict=True):
            store.clear()
            store.update(content)


def _all_ids(backend: Any) -> set[str]:
    return {
        one
        for kind in KINDS
        for store in kind.stores(backend)
        for key, entry in store.items()
        for one in kind.ids(key, entry)
    }


def _named(self: Any, action: str) -> set[str]:
    """Everything that the call names, filters left out: they answer nothing instead of an error."""
    named = {
        str(value)
        for name, values in self.querystring.items()
        if not name.startswith("Filter.")
        for value in (values if isinstance(values, list) else [values])
    }
    if action not in ("CreateKeyPair", "ImportKeyPair"):  # to these a name that exists is a duplicate
        named |= {pair.id for name, pair in self.ec2_backend.key_pairs.items() if name in named}
    return named


def _absent(backend: Any, action: str, identity: str) -> EC2ClientError:
    for kind in KINDS:
        for store in kind.stores(backend):
            if any(identity in kind.ids(key, entry) for key, entry in store.items()):
                here = kind.elsewhere is None or action == kind.listing
                code, words = (kind.code, kind.words) if here else kind.elsewhere or ("", "")
                return EC2ClientError(code, words.format(identity))
    raise LookupError(identity)


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) else values


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
