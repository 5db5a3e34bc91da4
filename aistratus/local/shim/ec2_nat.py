"""NAT gateways and Elastic IPs: what can be found, what exists, and what becomes of an address when its gateway ends.

moto finds gateways by four filters only, answers unknown ids with nothing or with a crash, keeps a deleted gateway's
address and interface taken for ever, and routes to gateways that don't exist.
"""

from __future__ import annotations

import inspect
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.nat_gateways import NatGateway, NatGatewayBackend
from moto.ec2.models.route_tables import Route, RouteBackend
from moto.ec2.utils import generic_filter

from aistratus.local.shim.patching import MotoChanged, wrap

OWN_FILTERS = ("nat-gateway-id", "vpc-id", "subnet-id", "state")


class NatGatewayNotFound(EC2ClientError):
    """400: DescribeNatGateways and DeleteNatGateway name what isn't there."""

    def __init__(self, identity: str) -> None:
        super().__init__("NatGatewayNotFound", f"The Nat Gateway {identity} was not found")


def patch() -> None:
    _listing()
    _creating()
    _deleting()
    _routes()


def known(backend: Any, identity: str) -> Any:
    """The gateway with this id, whatever its state."""
    gateway = backend.nat_gateways.get(identity)
    if gateway is None:
        raise NatGatewayNotFound(identity)
    return gateway


def let_go(backend: Any, gateway: Any, state: str) -> None:
    """The gateway has ended as `state` says: its address is free and its interface gone; it stays in the listing."""
    gateway.state = state
    for address in backend.addresses:
        if address.eni is gateway._eni:
            backend.disassociate_address(address=address.public_ip)
    backend.enis.pop(gateway._eni.id, None)


def _listing() -> None:
    @wrap(NatGatewayBackend, "describe_nat_gateways")
    def describe(original: Any, backend: Any, filters: Any, nat_gateway_ids: list[str] | None) -> Any:
        for identity in nat_gateway_ids or ():
            known(backend, identity)
        others = {name: values for name, values in (filters or {}).items() if name not in OWN_FILTERS}
        return generic_filter(others, original(backend, filters, nat_gateway_ids))


def _creating() -> None:
    @wrap(NatGatewayBackend, "create_nat_gateway")
    def create(
        original: Any,
        backend: Any,
        subnet_id: str,
        allocation_id: str | None,
        tags: Any = None,
        connectivity_type: str | None = None,
    ) -> Any:
        """What is named must exist before an interface is made."""
        backend.get_subnet(subnet_id)
        connectivity_type = connectivity_type or "public"
        if connectivity_type == "public" and not allocation_id:
            raise EC2ClientError("MissingParameter", "The request must contain the parameter AllocationId")
        if allocation_id and all(one.allocation_id != allocation_id for one in backend.addresses):
            raise EC2ClientError("InvalidElasticIpID.NotFound", f"The elasticIp ID '{allocation_id}' does not exist")
        gateway = original(backend, subnet_id, allocation_id, tags, connectivity_type)
        gateway._eni.interface_type = "nat_gateway"
        return gateway


def _deleting() -> None:
    @wrap(NatGatewayBackend, "delete_nat_gateway")
    def delete(original: Any, backend: Any, nat_gateway_id: str) -> Any:
        if known(backend, nat_gateway_id).state == "deleted":
            raise NatGatewayNotFound(nat_gateway_id)
        gateway = original(backend, nat_gateway_id)
        let_go(backend, gateway, "deleted")
        return gateway


def _routes() -> None:
    """A route leads to a gateway that is there; when that has ended, it leads nowhere."""

    def check(backend: Any, identity: str | None) -> None:
        gateway = backend.nat_gateways.get(identity)
        if identity and (gateway is None or gateway.state in ("deleted", "failed")):
            raise EC2ClientError("InvalidNatGatewayID.NotFound", f"The natGateway ID '{identity}' does not exist")

    for operation in ("create_route", "replace_route"):

        @wrap(RouteBackend, operation)
        def route(original: Any, *args: Any, **wanted: Any) -> Any:
            given = inspect.signature(original).bind(*args, **wanted).arguments
            check(given["self"], given.get("nat_gateway_id"))
            return original(*args, **wanted)

    if not isinstance(getattr(Route, "state", None), property):
        raise MotoChanged("a route's state isn't a property any more")

    def state(self: Route) -> str:
        gateway: NatGateway | None = self.nat_gateway
        return "blackhole" if gateway is not None and gateway.state not in ("pending", "available") else "active"

    setattr(Route, "state", property(state))  # noqa: B010 - moto declares it read-only
