"""NAT on demand: made with the private routes, taken away again, and never twice. As the real stack declares it."""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from account_listing import Account, Thing
from lost_answers import lose_answers
from whole_stack import ALL_ON, Env, part

from aistratus.core.errors import Failure
from aistratus.core.graph import Stack
from aistratus.core.resource import Found, reconciler
from aistratus.package import Package, functions_zip, router_zip, worker_zip

PART = ("nat_gateway", "nat_address", "routes_private")
KINDS = ("NAT gateway", "address")


@pytest.fixture(scope="module")
def packages() -> tuple[Package, Package, Package]:
    return router_zip(), functions_zip(), worker_zip()


MakeEnv = Callable[..., Env]


@pytest.fixture
def make_env(endpoint: str, packages: tuple[Package, Package, Package], tmp_path: Path) -> MakeEnv:
    """Makes an env's network, with the NAT gateway or without."""

    def make(*keys: str, on: bool = True) -> Env:
        env = Env(f"n{secrets.token_hex(3)}", endpoint=endpoint, packages=packages, home=tmp_path)
        switch(env, *keys, on=on)
        return env

    return make


def switch(env: Env, *keys: str, on: bool) -> None:
    """Changes the setting."""
    env.stack = part(env.declared(ALL_ON if on else {}), *(keys or PART))


@pytest.fixture
def account(endpoint: str) -> Account:
    return Account(endpoint)


@pytest.fixture
def ask(endpoint: str) -> Iterator[Callable[[str, int], None]]:
    """Asks the strict cloud for a delay of so many calls, until the test ends."""

    def order(**order: Any) -> None:
        request = urllib.request.Request(f"{endpoint}/_aistratus/strict", json.dumps(order).encode(), method="POST")
        urllib.request.urlopen(request, timeout=20).close()

    yield lambda rule, calls: order(rule=rule, calls=calls)
    order(reset=True)


def nat_things(account: Account, env: Env) -> list[Thing]:
    return [thing for thing in account.of_env(env.name) if thing.kind in KINDS]


def found(env: Env, key: str) -> Found:
    return env.survey().found[key]


def way_out(env: Env) -> dict[str, str]:
    """Target and state of the private subnets' route to everywhere."""
    tables = env.cloud.ec2.describe_route_tables(RouteTableIds=[found(env, "routes_private").id])["RouteTables"]
    return {
        str(route.get("NatGatewayId") or route.get("GatewayId")): route["State"]
        for route in tables[0]["Routes"]
        if route.get("DestinationCidrBlock") == "0.0.0.0/0"
    }


def test_on_makes_gateway_address_and_route_and_up_again_changes_nothing(make_env: MakeEnv, account: Account) -> None:
    env = make_env()
    env.up()
    there = {thing.kind: thing for thing in nat_things(account, env)}
    assert sorted(there) == sorted(KINDS)
    gateway = env.cloud.ec2.describe_nat_gateways(NatGatewayIds=[there["NAT gateway"].id])["NatGateways"][0]
    assert gateway["SubnetId"] == found(env, "subnet_public").id
    assert [entry["AllocationId"] for entry in gateway["NatGatewayAddresses"]] == [there["address"].id]
    assert way_out(env) == {there["NAT gateway"].id: "active"}
    assert env.plan().empty
    assert env.ledger.read(["nat_gateway"])["nat_gateway"]["public_ip"] == gateway["NatGatewayAddresses"][0]["PublicIp"]


def test_on_off_on_leaves_no_address_behind_and_makes_nothing_twice(
    make_env: MakeEnv, account: Account, ask: Callable[[str, int], None]
) -> None:
    env = make_env()
    ask("nat-lingers", 1)
    env.up()
    first = found(env, "nat_gateway").id
    switch(env, on=False)
    planned = env.plan()
    changed = [(change.key, change.action) for change in planned.changes if change.action != "unchanged"]
    assert changed == [("routes_private", "update"), ("nat_gateway", "delete"), ("nat_address", "delete")]
    assert env.up(planned).ok
    assert nat_things(account, env) == []
    assert way_out(env) == {}
    assert not env.ledger.read(["nat_gateway", "nat_address"])
    assert env.plan().empty

    switch(env, on=True)
    assert env.up().ok
    assert sorted(thing.kind for thing in nat_things(account, env)) == sorted(KINDS)
    assert found(env, "nat_gateway").id != first
    assert list(way_out(env).values()) == ["active"]
    assert env.plan().empty


def test_an_address_that_somebody_gave_to_an_interface_is_taken_back_and_released(
    make_env: MakeEnv, account: Account, ask: Callable[[str, int], None]
) -> None:
    env = make_env("nat_address", "subnet_public")
    env.up()
    ec2, address = env.cloud.ec2, found(env, "nat_address").id
    interface = ec2.create_network_interface(SubnetId=found(env, "subnet_public").id)["NetworkInterface"]
    ec2.associate_address(AllocationId=address, NetworkInterfaceId=interface["NetworkInterfaceId"])
    env.stack = env.declared({}).only(["nat_address"])
    assert env.up().ok
    assert nat_things(account, env) == []
    ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])
    assert env.down().ok


def test_off_costs_two_reads(make_env: MakeEnv) -> None:
    env = make_env(on=False)
    env.up()

    def reads() -> int:
        before = env.calls()[0]
        assert env.plan().empty
        return env.calls()[0] - before

    looking = reads()
    env.stack = Stack(env.stack.resources)
    assert looking - reads() <= 2


def test_what_a_run_left_that_died_between_address_and_gateway_is_used(make_env: MakeEnv, account: Account) -> None:
    env = make_env()
    tags = [{"Key": name, "Value": value} for name, value in env.cloud.tags("nat_address").items()]
    wanted = [{"ResourceType": "elastic-ip", "Tags": tags}]
    address = env.cloud.ec2.allocate_address(Domain="vpc", TagSpecifications=wanted)["AllocationId"]
    env.up()
    assert found(env, "nat_address").id == address
    assert len(nat_things(account, env)) == 2


def test_a_gateway_that_a_dead_run_left_pending_is_waited_for(
    make_env: MakeEnv, ask: Callable[[str, int], None]
) -> None:
    env = make_env()
    env.up()
    gateway = found(env, "nat_gateway")
    env.cloud.ec2.delete_nat_gateway(NatGatewayId=gateway.id)
    ask("nat-pending", 3)
    tags = [{"Key": name, "Value": value} for name, value in env.cloud.tags("nat_gateway").items()]
    again = env.cloud.ec2.create_nat_gateway(
        SubnetId=found(env, "subnet_public").id,
        AllocationId=found(env, "nat_address").id,
        TagSpecifications=[{"ResourceType": "natgateway", "Tags": tags}],
    )["NatGateway"]["NatGatewayId"]
    planned = env.plan()
    assert env.differences(planned)["nat_gateway"] == {"state"}
    env.up(planned)
    assert found(env, "nat_gateway").id == again
    assert way_out(env) == {again: "active"}


def test_what_a_run_left_that_died_while_switching_off_goes(
    make_env: MakeEnv, account: Account, ask: Callable[[str, int], None]
) -> None:
    """The gateway is being deleted and holds its address: off waits for it, and so does on."""
    for on in (False, True):
        env = make_env()
        env.up()
        ask("nat-lingers", 2)
        env.cloud.ec2.delete_nat_gateway(NatGatewayId=found(env, "nat_gateway").id)
        switch(env, on=on)
        env.up()
        assert len(nat_things(account, env)) == (2 if on else 0)
        assert env.plan().empty


def test_a_gateway_that_failed_is_told_with_its_reason_and_replaced(make_env: MakeEnv, account: Account) -> None:
    """The internet gateway is taken off just before: AWS makes a NAT gateway all the same, which fails."""
    env = make_env()
    env.up()
    ec2, there = env.cloud.ec2, env.survey().found
    ec2.delete_nat_gateway(NatGatewayId=there["nat_gateway"].id)
    way = {"InternetGatewayId": there["internet_gateway"].id, "VpcId": there["vpc"].id}
    ec2.detach_internet_gateway(**way)
    gateway = env.stack.by_key["nat_gateway"]
    with pytest.raises(Failure, match=r"has no Internet gateway attached \(Gateway.NotAttached\)"):
        want = gateway.resolve(env.survey().outputs)
        reconciler(gateway).ensure(env.cloud.fresh(), want, None, frozenset())
    assert env.differences(env.plan()).keys() == {"internet_gateway", "nat_gateway", "routes_private"}
    env.up()
    assert env.plan().empty
    assert sorted(thing.kind for thing in nat_things(account, env)) == sorted(KINDS)


def test_lost_answers_make_nothing_twice(make_env: MakeEnv, account: Account) -> None:
    env = make_env()
    lost = lose_answers(env.cloud)
    env.up()
    assert {"AllocateAddress", "CreateNatGateway"} <= set(lost)
    assert sorted(thing.kind for thing in nat_things(account, env)) == sorted(KINDS)
    switch(env, on=False)
    env.up()
    assert {"DeleteNatGateway", "ReleaseAddress"} <= set(lost)
    assert nat_things(account, env) == []


def test_what_is_there_twice_is_told_and_goes_altogether(make_env: MakeEnv, account: Account) -> None:
    env = make_env()
    env.up()
    tags = [{"Key": name, "Value": value} for name, value in env.cloud.tags("nat_address").items()]
    wanted = [{"ResourceType": "elastic-ip", "Tags": tags}]
    env.cloud.ec2.allocate_address(Domain="vpc", TagSpecifications=wanted)
    assert found(env, "nat_address").health == "duplicated"
    assert env.plan().empty
    switch(env, on=False)
    env.up()
    assert nat_things(account, env) == []


def test_a_lost_route_and_a_lost_gateway_come_back(make_env: MakeEnv, account: Account) -> None:
    env = make_env()
    env.up()
    table = found(env, "routes_private").id
    env.cloud.ec2.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    assert env.differences(env.plan()) == {"routes_private": {"routes"}}
    env.up()
    gone = found(env, "nat_gateway").id
    env.cloud.ec2.delete_nat_gateway(NatGatewayId=gone)
    assert way_out(env) == {gone: "blackhole"}
    assert env.differences(env.plan()).keys() == {"nat_gateway", "routes_private"}
    env.up()
    assert way_out(env) == {found(env, "nat_gateway").id: "active"}
    assert env.plan().empty and len(nat_things(account, env)) == 2


def test_an_address_that_lost_its_tags_is_known_by_the_ledger(make_env: MakeEnv, account: Account) -> None:
    env = make_env()
    env.up()
    address = found(env, "nat_address").id
    env.cloud.ec2.delete_tags(Resources=[address], Tags=[{"Key": "Project"}, {"Key": "aistratus:key"}])
    assert env.differences(env.plan()) == {"nat_address": {"tags"}}
    env.up()
    assert found(env, "nat_address").id == address


@pytest.mark.parametrize("on", [True, False])
def test_down_leaves_nothing_whatever_the_setting_says(make_env: MakeEnv, account: Account, on: bool) -> None:
    env = make_env()
    env.up()
    switch(env, on=on)
    assert env.down().ok
    assert account.of_env(env.name) == []
    assert env.down().ok


def test_strangers_stay_untouched(make_env: MakeEnv, account: Account) -> None:
    env = make_env()
    theirs = env.cloud.ec2.allocate_address(Domain="vpc")["AllocationId"]
    env.up()
    env.down()
    assert ("address", theirs) in account.identities()
    env.cloud.ec2.release_address(AllocationId=theirs)


def test_a_node_stays_where_it_was_made_until_it_is_to_be_made_anew(make_env: MakeEnv) -> None:
    env = make_env("node", on=False)
    env.up()
    first, subnets = found(env, "node"), {key: found(env, key).id for key in ("subnet_public", "subnet_private_a")}

    def place() -> tuple[str, bool]:
        thing = env.cloud.ec2.describe_instances(InstanceIds=[found(env, "node").id])["Reservations"][0]["Instances"][0]
        return thing["SubnetId"], bool(thing.get("PublicIpAddress"))

    assert place() == (subnets["subnet_public"], True)
    switch(env, "node", on=True)
    planned = env.plan()
    assert env.differences(planned).keys() == {"nat_address", "nat_gateway", "routes_private"}
    env.up(planned)
    assert found(env, "node").id == first.id and env.plan().empty

    env.try_up(anew=True)
    assert place() == (subnets["subnet_private_a"], False)
    assert env.plan(anew=True).empty
    second = found(env, "node").id

    switch(env, "node", "nat_gateway", on=False)
    env.up()
    assert found(env, "node").id == second and env.plan().empty
    assert env.differences(env.plan(anew=True)) == {"node": {"subnets"}}
    env.try_up(anew=True)
    assert place() == (subnets["subnet_public"], True)
    assert env.down().ok
