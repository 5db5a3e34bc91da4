"""The network: made, repaired, removed, and told apart from strangers'."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from converge_engine import Engine, cloud, key_of
from lost_answers import lose_answers
from perturb_network import ELSEWHERE, PERTURB

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, Occupied, Stranger
from aistratus.core.resource import Ref, Resource, reconciler
from aistratus.core.settle import RealClock
from aistratus.resources.network import (
    EVERYTHING_OUT,
    GatewayEndpoint,
    InternetGateway,
    RouteTable,
    Rule,
    SecurityGroup,
    Subnet,
    Vpc,
)

POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}],
}
HTTPS = Rule("tcp", 443, 443, "203.0.113.0/24", "the office")


def network() -> dict[str, Any]:
    vpc = Vpc(key="vpc", cidr="10.20.0.0/22")
    public = Subnet(key="public", vpc=Ref(vpc), cidr="10.20.0.0/24", zone_index=0, map_public_ip=True)
    private = Subnet(key="private", vpc=Ref(vpc), cidr="10.20.1.0/24", zone_index=1, map_public_ip=False)
    gateway = InternetGateway(key="gateway", vpc=Ref(vpc))
    out = RouteTable(key="out", vpc=Ref(vpc), subnets=(Ref(public),), routes={"0.0.0.0/0": Ref(gateway)})
    inner = RouteTable(key="inner", vpc=Ref(vpc), subnets=(Ref(private),))
    tables = (Ref(out), Ref(inner))
    endpoint = GatewayEndpoint(key="s3", vpc=Ref(vpc), service="s3", route_tables=tables, policy=POLICY)
    group = SecurityGroup(key="group", vpc=Ref(vpc), description="The node", ingress=(HTTPS,))
    return {entry.key: entry for entry in (vpc, public, private, gateway, out, inner, endpoint, group)}


def stack(**changed: Resource) -> list[Resource]:
    return list({**network(), **changed}.values())


def ids(engine: Engine) -> dict[str, str]:
    return {change.key: change.found.id for change in engine.plan(*stack()).changes if change.found}


def test_up_makes_the_network_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    there = ids(engine)
    ours = [{"Name": "vpc-id", "Values": [there["vpc"]]}]
    vpc = aws.ec2.describe_vpcs(VpcIds=[there["vpc"]])["Vpcs"][0]
    assert vpc["CidrBlock"] == "10.20.0.0/22"
    assert {tag["Key"]: tag["Value"] for tag in vpc["Tags"]} == aws.tags("vpc")
    for field in ("EnableDnsSupport", "EnableDnsHostnames"):
        answer = aws.ec2.describe_vpc_attribute(VpcId=there["vpc"], Attribute=f"e{field[1:]}")
        assert answer[field]["Value"] is True
    subnets = {entry["CidrBlock"]: entry for entry in aws.ec2.describe_subnets(Filters=ours)["Subnets"]}
    public, private = subnets["10.20.0.0/24"], subnets["10.20.1.0/24"]
    assert (public["MapPublicIpOnLaunch"], private["MapPublicIpOnLaunch"]) == (True, False)
    assert (public["AvailabilityZone"], private["AvailabilityZone"]) == ("eu-central-1a", "eu-central-1b")
    tables = {entry["RouteTableId"]: entry for entry in aws.ec2.describe_route_tables(Filters=ours)["RouteTables"]}
    routes = {entry.get("DestinationCidrBlock"): entry.get("GatewayId") for entry in tables[there["out"]]["Routes"]}
    assert routes["0.0.0.0/0"] == there["gateway"]
    assert [entry["SubnetId"] for entry in tables[there["inner"]]["Associations"]] == [there["private"]]
    endpoint = aws.ec2.describe_vpc_endpoints(VpcEndpointIds=[there["s3"]])["VpcEndpoints"][0]
    assert set(endpoint["RouteTableIds"]) == {there["out"], there["inner"]}
    assert endpoint["ServiceName"] == "com.amazonaws.eu-central-1.s3"
    group = aws.ec2.describe_security_groups(GroupIds=[there["group"]])["SecurityGroups"][0]
    assert group["GroupName"] == aws.name("group")
    assert [entry["FromPort"] for entry in group["IpPermissions"]] == [443]
    assert engine.plan(*stack()).empty


def test_a_run_with_nothing_to_do_takes_fewer_than_two_calls_for_each_resource(engine: Engine) -> None:
    engine.up(*stack())
    assert engine.calls(lambda: engine.plan(*stack())) <= 1.5 * len(stack())


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs(stack(), key_of(stack(), kind), field, PERTURB[kind, field])


def test_every_mutable_field_has_a_change_from_outside() -> None:
    for kind in {type(entry) for entry in stack()}:
        fields = {entry.name for entry in dataclasses.fields(kind) if entry.metadata.get("compare") != "at-create"}
        assert {field for theirs, field in PERTURB if theirs is kind} == fields - {"key"} - kind.replace_on | {"tags"}


def test_a_gateway_that_hangs_on_another_vpc_is_brought_back(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    there = ids(engine)
    other = aws.ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    aws.ec2.detach_internet_gateway(InternetGatewayId=there["gateway"], VpcId=there["vpc"])
    aws.ec2.attach_internet_gateway(InternetGatewayId=there["gateway"], VpcId=other)
    assert engine.differences(*stack()) == {"gateway": {"vpc"}}
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_a_subnet_that_was_tied_to_another_table_comes_back(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    there = ids(engine)
    foreign = aws.ec2.create_route_table(VpcId=there["vpc"])["RouteTable"]["RouteTableId"]
    table = aws.ec2.describe_route_tables(RouteTableIds=[there["inner"]])["RouteTables"][0]
    association = table["Associations"][0]["RouteTableAssociationId"]
    aws.ec2.replace_route_table_association(AssociationId=association, RouteTableId=foreign)
    assert engine.differences(*stack()) == {"inner": {"subnets"}}
    engine.up(*stack())
    assert engine.plan(*stack()).empty
    assert aws.ec2.describe_route_tables(RouteTableIds=[foreign])["RouteTables"][0]["Associations"] == []


def test_two_tables_whose_subnets_were_swapped_get_them_back(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    there = ids(engine)
    tables = aws.ec2.describe_route_tables(RouteTableIds=[there["out"], there["inner"]])["RouteTables"]
    theirs = {table["RouteTableId"]: table["Associations"][0]["RouteTableAssociationId"] for table in tables}
    for here, to in ((there["out"], there["inner"]), (there["inner"], there["out"])):
        aws.ec2.replace_route_table_association(AssociationId=theirs[here], RouteTableId=to)
    assert engine.differences(*stack()) == {"out": {"subnets"}, "inner": {"subnets"}}
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_a_route_to_the_wrong_gateway_is_replaced_and_an_ipv6_route_removed(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    there = ids(engine)
    peer = aws.ec2.create_vpc(CidrBlock="10.98.0.0/16")["Vpc"]["VpcId"]
    peering = aws.ec2.create_vpc_peering_connection(VpcId=there["vpc"], PeerVpcId=peer)["VpcPeeringConnection"]
    connection = peering["VpcPeeringConnectionId"]
    table = there["out"]
    aws.ec2.replace_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", VpcPeeringConnectionId=connection)
    aws.ec2.create_route(RouteTableId=table, DestinationIpv6CidrBlock="::/0", GatewayId=there["gateway"])
    (change,) = next(line.changes for line in engine.plan(*stack()).changes if line.key == "out")
    assert (change.old, change.new) == (
        {"0.0.0.0/0": connection, "::/0": there["gateway"]}, {"0.0.0.0/0": there["gateway"], "::/0": None}
    )  # fmt: skip
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_every_kind_of_rule_that_was_opened_outside_is_closed(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    group = ids(engine)["group"]
    aws.ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "198.51.100.0/24"}]},
            {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]},
        ],
    )
    assert engine.differences(*stack()) == {"group": {"ingress"}}
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_a_rule_is_added_changed_and_taken_away_as_the_description_says(engine: Engine) -> None:
    engine.up(*stack())
    renamed = dataclasses.replace(HTTPS, description="somewhere else")
    added = Rule("tcp", 22, 22, "203.0.113.7/32")
    group = dataclasses.replace(network()["group"], ingress=(added, renamed), egress=())
    engine.up(*stack(group=group))
    assert engine.plan(*stack(group=group)).empty
    back = dataclasses.replace(network()["group"], ingress=(), egress=EVERYTHING_OUT)
    engine.up(*stack(group=back))
    assert engine.plan(*stack(group=back)).empty


def test_a_rule_is_the_same_however_it_is_written() -> None:
    assert Rule("6", 1, 2, "10.0.0.7/24") == Rule("TCP", 1, 2, "10.0.0.0/24")
    assert Rule("all", 0, 65535, "::/0") == Rule("-1", -1, -1, "::/0")


def test_what_a_death_right_after_its_creation_left_bare_is_completed(aws: Cloud, engine: Engine) -> None:
    def spec(kind: str, key: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": [{"Key": k, "Value": v} for k, v in aws.tags(key).items()]}]

    vpc = aws.ec2.create_vpc(CidrBlock="10.20.0.0/22", TagSpecifications=spec("vpc", "vpc"))["Vpc"]["VpcId"]
    aws.ec2.create_internet_gateway(TagSpecifications=spec("internet-gateway", "gateway"))
    aws.ec2.create_route_table(VpcId=vpc, TagSpecifications=spec("route-table", "out"))
    aws.ec2.create_security_group(
        VpcId=vpc, GroupName=aws.name("group"), Description="The node",
        TagSpecifications=spec("security-group", "group"),
    )  # fmt: skip
    engine.up(*stack())
    assert ids(engine)["vpc"] == vpc
    assert engine.plan(*stack()).empty
    assert engine.down(*stack()).ok


def test_lost_answers_make_nothing_twice_and_stop_nothing(
    aws: Cloud, engine: Engine, another_env: Callable[[str], Cloud]
) -> None:
    lost, outside = lose_answers(aws), another_env(aws.env)
    engine.up(*stack())
    assert {"CreateVpc", "CreateSubnet", "AttachInternetGateway", "AssociateRouteTable", "CreateRoute"} <= set(lost)
    assert engine.plan(*stack()).empty
    assert all(change.found and change.found.health == "ok" for change in engine.plan(*stack()).changes)
    for (kind, _), perturb in PERTURB.items():
        perturb(outside, next(c.found for c in engine.plan(*stack()).changes if c.found and type(c.resource) is kind))
        engine.up(*stack())
        assert engine.plan(*stack()).empty
    outcome = engine.down(*stack())
    assert outcome.ok and not outcome.left


def test_a_create_for_which_no_connection_comes_about_is_sent_again(aws: Cloud, engine: Engine) -> None:
    asked: list[str] = []

    def no_route(request: Any, **_: Any) -> None:
        asked.append(request.url)
        if len(asked) < 3:
            raise EndpointConnectionError(endpoint_url=request.url)

    aws._clients.get("ec2", retries=False).meta.events.register("before-send.ec2.CreateVpc", no_route)
    engine.up(network()["vpc"])
    assert len(asked) == 3
    assert engine.plan(network()["vpc"]).empty


def test_down_leaves_nothing_and_down_again_is_fine(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    vpc = ids(engine)["vpc"]
    outcome = engine.down(*stack())
    assert outcome.ok and not outcome.left
    assert engine.down(*stack()).ok
    assert aws.ec2.describe_vpcs(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Vpcs"] == []


@pytest.mark.parametrize("key", list(network()))
def test_removing_what_is_gone_already_is_fine(engine: Engine, key: str) -> None:
    engine.up(*stack())
    found = next(change.found for change in engine.plan(*stack()).changes if change.key == key)
    assert found is not None
    engine.down(*stack())
    reconciler(network()[key]).remove(engine.aws.fresh(), found)


class Hurried(RealClock):
    """A clock on which a wait's cap passes with its first pause."""

    passed = 0.0

    def now(self) -> float:
        return super().now() + self.passed

    def wait(self, seconds: float) -> None:
        self.passed += 3600


@pytest.mark.parametrize("within", ["vpc", "private"])
def test_what_others_have_put_into_the_network_is_named_where_it_keeps_down_from_ending(
    endpoint: str, aws: Cloud, engine: Engine, within: str
) -> None:
    engine.up(*stack())
    there = ids(engine)
    group = aws.ec2.create_security_group(
        GroupName="GuardDutyManagedSecurityGroup", Description="by another service", VpcId=there["vpc"]
    )["GroupId"]
    held = f"security group {group} (GuardDutyManagedSecurityGroup)"
    interface = None
    if within == "private":
        made = aws.ec2.create_network_interface(SubnetId=there["private"], Description="an endpoint's", Groups=[group])
        interface = made["NetworkInterface"]["NetworkInterfaceId"]
        held = f"network interface {interface} (an endpoint's)"
    hurried = cloud(endpoint, env=aws.env, clock=Hurried())
    outcome = Engine(hurried, engine.meter).down(*stack())
    [error] = [change.error for change in outcome.changes if change.found and change.found.id == there[within]]
    assert isinstance(error, Occupied)
    assert error.what == f"{there[within]} can't be deleted while it contains what isn't this env's: {held}"
    if interface:
        aws.ec2.delete_network_interface(NetworkInterfaceId=interface)
    aws.ec2.delete_security_group(GroupId=group)
    assert engine.down(*stack()).ok


def test_the_last_of_a_nat_gateway_is_not_taken_for_somebody_elses(endpoint: str, aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    private = ids(engine)["private"]
    made = aws.ec2.create_network_interface(SubnetId=private, Description="Interface for NAT Gateway nat-0123456789")
    hurried = cloud(endpoint, env=aws.env, clock=Hurried())
    errors = [change.error for change in Engine(hurried, engine.meter).down(*stack()).changes if change.error]
    assert errors and not any(isinstance(error, Occupied) for error in errors)
    aws.ec2.delete_network_interface(NetworkInterfaceId=made["NetworkInterface"]["NetworkInterfaceId"])
    assert engine.down(*stack()).ok


def test_a_second_vpc_with_our_key_is_told_and_swept(aws: Cloud, engine: Engine) -> None:
    tags = [{"Key": name, "Value": value} for name, value in aws.tags("vpc").items()]
    engine.up(network()["vpc"])
    first = ids(engine)["vpc"]
    aws.ec2.create_vpc(CidrBlock="10.20.0.0/22", TagSpecifications=[{"ResourceType": "vpc", "Tags": tags}])
    found = reconciler(network()["vpc"]).find(_recording(aws, vpc=first), network()["vpc"])
    assert found is not None and (found.id, found.health) == (first, "duplicated")
    assert engine.down(network()["vpc"]).ok
    ours = [{"Name": "tag:Env", "Values": [aws.env]}]
    assert aws.ec2.describe_vpcs(Filters=ours)["Vpcs"] == []


def test_what_lost_its_tags_is_known_by_the_ledger_and_tagged_again(aws: Cloud, engine: Engine) -> None:
    vpc = network()["vpc"]
    engine.up(vpc)
    there = ids(engine)["vpc"]
    aws.ec2.delete_tags(Resources=[there], Tags=[{"Key": "Project"}, {"Key": "aistratus:key"}])
    assert engine.plan(vpc).changes[0].action == "create"
    recording = _recording(aws, vpc=there)
    remembering = Engine(recording, engine.meter)
    assert remembering.differences(vpc) == {"vpc": {"tags"}}
    remembering.up(vpc)
    assert engine.plan(vpc).empty and ids(engine)["vpc"] == there


def test_a_recorded_id_that_belongs_to_another_env_is_not_taken(
    aws: Cloud, engine: Engine, another_env: Callable[[str], Cloud]
) -> None:
    vpc = network()["vpc"]
    theirs = Engine(another_env(f"{aws.env}x"), engine.meter)
    theirs.up(vpc)
    recording = Engine(_recording(aws, vpc=ids(theirs)["vpc"]), engine.meter)
    assert recording.plan(vpc).changes[0].action == "create"
    assert recording.down(vpc).ok
    assert theirs.plan(vpc).empty


def test_strangers_stay_untouched(aws: Cloud, engine: Engine) -> None:
    stranger = aws.ec2.create_vpc(CidrBlock="10.20.0.0/22")["Vpc"]["VpcId"]
    name = [{"Key": "Name", "Value": aws.name("vpc")}, {"Key": "Project", "Value": "tinyllama"}]
    aws.ec2.create_tags(Resources=[stranger], Tags=name)
    engine.up(*stack())
    assert engine.down(*stack()).ok
    assert len(aws.ec2.describe_vpcs(VpcIds=[stranger])["Vpcs"]) == 1


def test_a_strangers_security_group_with_our_name_is_refused(aws: Cloud, engine: Engine) -> None:
    engine.up(network()["vpc"])
    vpc = ids(engine)["vpc"]
    theirs = aws.ec2.create_security_group(VpcId=vpc, GroupName=aws.name("group"), Description="theirs")["GroupId"]
    with pytest.raises(Stranger, match="group"):
        engine.up(network()["vpc"], network()["group"])
    assert len(aws.ec2.describe_security_groups(GroupIds=[theirs])["SecurityGroups"]) == 1


def test_a_zone_that_the_region_lacks_is_told_in_a_sentence(engine: Engine) -> None:
    subnet = dataclasses.replace(network()["public"], zone_index=9)
    with pytest.raises(Failure, match="eu-central-1 has 3 availability zones"):
        engine.up(network()["vpc"], subnet)


def test_what_can_not_change_is_planned_as_a_replacement(engine: Engine) -> None:
    engine.up(*stack())
    other = dataclasses.replace(network()["private"], cidr="10.20.3.0/24")
    changes = {change.key: change.action for change in engine.plan(*stack(private=other)).changes}
    assert changes["private"] == "replace"
    assert changes["public"] == "unchanged"


def test_routes_through_the_s3_endpoint_and_to_the_vpc_itself_are_no_drift(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    table = aws.ec2.describe_route_tables(RouteTableIds=[ids(engine)["inner"]])["RouteTables"][0]
    targets = {route["GatewayId"][:5] for route in table["Routes"]}
    assert targets == {"local", "vpce-"}
    assert ELSEWHERE not in {route.get("DestinationCidrBlock") for route in table["Routes"]}
    assert engine.plan(*stack()).empty


def _recording(aws: Cloud, **recorded: str) -> Cloud:
    """The same env with a ledger that holds these ids."""
    records = {key: {"id": identity} for key, identity in recorded.items()}
    return Cloud(env=aws.env, identity=aws.identity, clients=aws._clients, clock=aws.clock, recorded=lambda: records)
