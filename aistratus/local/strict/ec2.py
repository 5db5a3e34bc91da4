"""EC2: what is in use can't be deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models.elastic_ip_addresses import ElasticAddressBackend
from moto.ec2.models.instances import Instance
from moto.ec2.models.internet_gateways import InternetGatewayBackend
from moto.ec2.models.nat_gateways import NatGatewayBackend
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.ec2.models.subnets import SubnetBackend
from moto.ec2.models.vpcs import VPCBackend

from aistratus.local.shim import ec2_nat
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

_ERRORS: Final = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"
_NAT_STATES: Final = "https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-working-with.html"
_NAT_FAILURES: Final = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_NatGateway.html"
LINGERS: Final = "interface-lingers"

book = Book()


@dataclass(frozen=True)
class Hold:
    """A network interface, by what it keeps from being deleted."""

    identity: str
    subnet: str
    vpc: str
    groups: frozenset[str]
    public: bool
    instance: Any


def _hold(interface: Any) -> Hold:
    return Hold(
        identity=interface.id,
        subnet=interface.subnet.id,
        vpc=interface.subnet.vpc_id,
        groups=frozenset(group.id for group in interface.group_set),
        public=bool(interface.public_ip),
        instance=interface.instance,
    )


def _holds(backend: Any, delays: Delays, where: Callable[[Hold], bool]) -> list[Hold]:
    """What holds something there: interfaces, also those of instances that are ending, and for a while after."""
    of_gateways = {one._eni.id for one in backend.nat_gateways.values()}  # these are counted with their gateways
    holds = [_hold(one) for one in backend.enis.values() if one.id not in of_gateways]
    holds += backend.__dict__.get("ending_interfaces", [])

    def gone(hold: Hold) -> bool:
        ended = hold.instance is not None and hold.instance.state == "terminated"
        return ended and not delays.meets(LINGERS, hold.identity)

    return [one for one in holds if where(one) and not gone(one)]


def _gateways(backend: Any, delays: Delays, where: Callable[[Any], bool]) -> list[Any]:
    """The NAT gateways that hold something there; a call that meets one that is going looks at it."""
    _look_at_going(backend, delays, where)
    ended = ("deleted", "failed")
    return [one for one in backend.nat_gateways.values() if one.state not in ended and where(one)]


def _look_at_going(backend: Any, delays: Delays, where: Callable[[Any], bool]) -> None:
    for one in backend.nat_gateways.values():
        if one.state == "deleting" and where(one) and not delays.take("nat-lingers", one.id):
            ec2_nat.let_go(backend, one, "deleted")


@book.rule(LINGERS, code="DependencyViolation", source=_ERRORS, asked="calls")
def interface_lingers(cloud: Cloud, delays: Delays) -> None:
    """An instance's interface holds subnet, groups and address until the instance is `terminated`, then n calls more.

    moto lets go of it when the instance is asked to end.
    """

    @wrap(Instance, "terminate")
    def terminate(original: Any, instance: Any) -> Any:
        holds = [_hold(one) for one in instance.nics.values() if one.delete_on_termination]
        answer = original(instance)
        instance.ec2_backend.__dict__.setdefault("ending_interfaces", []).extend(holds)
        return answer


@book.rule(
    "nat-lingers",
    asked="calls",
    source=_NAT_STATES,
)
def nat_lingers(cloud: Cloud, delays: Delays) -> None:
    """A NAT gateway is `deleting` for n calls that look at it, and holds its address, subnet and VPC for as long."""

    @wrap(NatGatewayBackend, "delete_nat_gateway")
    def delete(original: Any, backend: Any, nat_gateway_id: str) -> Any:
        gateway = ec2_nat.known(backend, nat_gateway_id)
        if gateway.state in ("deleted", "failed") or not delays.asked("nat-lingers"):
            return original(backend, nat_gateway_id)
        if gateway.state != "deleting":
            gateway.state = "deleting"
            delays.born("nat-lingers", nat_gateway_id)
        return gateway

    @wrap(NatGatewayBackend, "describe_nat_gateways")
    def describe(original: Any, backend: Any, *args: Any, **wanted: Any) -> Any:
        _look_at_going(backend, delays, lambda one: True)
        return original(backend, *args, **wanted)


@book.rule("nat-fails", code="Gateway.NotAttached", source=_NAT_FAILURES)
def nat_fails(cloud: Cloud, delays: Delays) -> None:
    """A gateway that can't work is made all the same, and says `failed` with its reason."""

    @wrap(NatGatewayBackend, "create_nat_gateway")
    def create(original: Any, backend: Any, subnet_id: str, allocation_id: str, *args: Any, **wanted: Any) -> Any:
        vpc = backend.get_subnet(subnet_id).vpc_id
        taken = [one for one in backend.addresses if one.allocation_id == allocation_id and one.association_id]
        reason: tuple[str, str] | None = None
        if not any(one.vpc and one.vpc.id == vpc for one in backend.internet_gateways.values()):
            reason = ("Gateway.NotAttached", f"Network {vpc} has no Internet gateway attached")
        elif taken:
            reason = ("Resource.AlreadyAssociated", f"Elastic IP address [{allocation_id}] is already associated")
        if reason is None:
            return original(backend, subnet_id, allocation_id, *args, **wanted)
        associate, backend.associate_address = backend.associate_address, lambda **_: None
        try:
            gateway = original(backend, subnet_id, allocation_id, *args, **wanted)
        finally:
            backend.associate_address = associate
        ec2_nat.let_go(backend, gateway, "failed")
        gateway.failure_code, gateway.failure_message = reason
        return gateway


@book.rule("nat-pending", source=_NAT_STATES, asked="calls")
def nat_pending(cloud: Cloud, delays: Delays) -> None:
    """A new gateway is `pending` for n calls that look at it."""

    @wrap(NatGatewayBackend, "create_nat_gateway")
    def create(original: Any, backend: Any, *args: Any, **wanted: Any) -> Any:
        gateway = original(backend, *args, **wanted)
        if delays.asked("nat-pending") and gateway.state == "available":
            gateway.state = "pending"
            delays.born("nat-pending", gateway.id)
        return gateway

    @wrap(NatGatewayBackend, "describe_nat_gateways")
    def describe(original: Any, backend: Any, *args: Any, **wanted: Any) -> Any:
        for one in backend.nat_gateways.values():
            if one.state == "pending" and not delays.take("nat-pending", one.id):
                one.state = "available"
        return original(backend, *args, **wanted)


@book.rule("subnet-in-use", code="DependencyViolation", source=_ERRORS)
def subnet_in_use(cloud: Cloud, delays: Delays) -> None:
    @wrap(SubnetBackend, "delete_subnet")
    def delete_subnet(original: Any, backend: Any, subnet_id: str) -> Any:
        used = _holds(backend, delays, lambda one: one.subnet == subnet_id)
        if used or _gateways(backend, delays, lambda one: one.subnet_id == subnet_id):
            raise DependencyViolationError(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
        return original(backend, subnet_id)


@book.rule("security-group-in-use", code="DependencyViolation", source=_ERRORS)
def security_group_in_use(cloud: Cloud, delays: Delays) -> None:
    @wrap(SecurityGroupBackend, "_delete_security_group")
    def delete(original: Any, backend: Any, vpc_id: str | None, group_id: str) -> Any:
        holders = _holds(backend, delays, lambda one: group_id in one.groups)
        groups = [group for groups in backend.groups.values() for group in groups.values() if group.id != group_id]
        named = [
            group.id
            for group in groups
            for rule in (*group.ingress_rules, *group.egress_rules)
            if (rule.source_group or {}).get("GroupId") == group_id
        ]
        if holders or named:
            raise DependencyViolationError(f"resource {group_id} has a dependent object")
        return original(backend, vpc_id, group_id)


@book.rule("public-address-mapped", code="DependencyViolation", source=_ERRORS)
def public_address_mapped(cloud: Cloud, delays: Delays) -> None:
    @wrap(InternetGatewayBackend, "detach_internet_gateway")
    def detach(original: Any, backend: Any, internet_gateway_id: str, vpc_id: str) -> Any:
        mapped = _holds(backend, delays, lambda one: one.vpc == vpc_id and one.public)
        if mapped or _gateways(backend, delays, lambda one: one.vpc_id == vpc_id):
            raise DependencyViolationError(
                f"Network {vpc_id} has some mapped public address(es). Please unmap those "
                "public address(es) before detaching the gateway."
            )
        return original(backend, internet_gateway_id, vpc_id)


@book.rule("vpc-in-use", code="DependencyViolation", source=_ERRORS)
def vpc_in_use(cloud: Cloud, delays: Delays) -> None:
    @wrap(VPCBackend, "delete_vpc")
    def delete_vpc(original: Any, backend: Any, vpc_id: str) -> Any:
        backend.get_vpc(vpc_id)
        held = [one.id for one in backend.internet_gateways.values() if one.vpc and one.vpc.id == vpc_id]
        held += [one.id for one in backend.vpc_end_points.values() if one.vpc_id == vpc_id and one.state != "deleted"]
        held += [one.id for one in backend.groups.get(vpc_id, {}).values() if one.name != "default"]
        held += [one.id for one in _gateways(backend, delays, lambda one: one.vpc_id == vpc_id)]
        held += [one.id for zone in backend.subnets.values() for one in zone.values() if one.vpc_id == vpc_id]
        held += [
            one.id for one in backend.route_tables.values() if one.vpc_id == vpc_id and one.main_association_id is None
        ]
        if held:
            raise DependencyViolationError(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")
        return original(backend, vpc_id)


@book.rule("address-in-use", code="InvalidIPAddress.InUse", source=_ERRORS)
def address_in_use(cloud: Cloud, delays: Delays) -> None:
    @wrap(ElasticAddressBackend, "release_address")
    def release(original: Any, backend: Any, address: str | None = None, allocation_id: str | None = None) -> Any:
        found = backend.address_by_ip([address]) if address else backend.address_by_allocation([allocation_id])
        held = _gateways(
            backend,
            delays,
            lambda one: any(entry.get("allocationId") == found[0].allocation_id for entry in one.address_set),
        )
        if found[0].association_id or held:
            raise EC2ClientError(
                "InvalidIPAddress.InUse",
                f"The address {found[0].public_ip} is in use. Please disassociate it before it is released.",
            )
        return original(backend, address, allocation_id)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
