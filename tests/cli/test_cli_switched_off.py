"""What a person sees of something that is paid for by the hour and that a setting switches off."""

from __future__ import annotations

import pytest
from cli_parts import client
from conftest import Built

pytestmark = pytest.mark.xdist_group("cli")


def test_a_nat_gateway_that_is_switched_off_goes_and_its_price_is_told(built: Built) -> None:
    person = built.person.with_variables(
        AWS_ENDPOINT_URL=built.endpoint, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AISTRATUS_ENV="nat"
    )
    on = person.with_variables(AISTRATUS_NETWORK__ENABLE_NAT_GW="true")
    made = on.run("up", "--only", "nat_gateway", "-o", "json").document["resources"]
    assert {entry["key"]: entry["action"] for entry in made}["nat_address"] == "create"
    assert person.run("up", "--only", "vpc", "-o", "json").code == 0  # leaves the rest alone

    ec2 = client(built.endpoint, "ec2")
    ours = [{"Name": "tag:Env", "Values": ["nat"]}]
    (vpc,) = ec2.describe_vpcs(Filters=ours)["Vpcs"]
    ec2.create_tags(Resources=[vpc["VpcId"]], Tags=[{"Key": "ManagedBy", "Value": "somebody"}])
    alone = on.run("up", "--only", "nat_gateway")
    assert (alone.code, "left as they are, though not as declared: vpc" in alone.out) == (0, True)
    assert on.run("up", "--only", "vpc", "--plan").code == 2

    dark = on.with_variables(AISTRATUS_WATCH__DASHBOARD="false")
    told = "no dashboard: `watch.dashboard` is off; set it to true and run `aistratus up` (AWS gives an account three"
    assert told in dark.run("status", "--open").words

    planned = person.run("plan", "--output", "json")
    leaving = [entry for entry in planned.document["resources"] if entry["action"] == "delete"]
    assert (planned.code, [entry["key"] for entry in leaving]) == (2, ["nat_gateway", "nat_address"])
    shown = {entry["key"]: entry["health"] for entry in person.run("status", "-o", "json").document["resources"]}
    assert (shown["nat_gateway"], shown["nat_address"]) == ("drifted", "drifted")

    off = person.run("up", "--only", "nat_gateway")
    assert off.code == 0
    assert f"\n{len(made) - 2} resources, 2 changed, " in off.out, "what is gone doesn't count as there"
    assert "nat_address and nat_gateway: gone; an hour of it cost €0.0485 (" in off.out
    assert ec2.describe_addresses(Filters=ours)["Addresses"] == []
    assert "nat_" not in person.run("env", "show").out
    assert person.run("down").code == 0
