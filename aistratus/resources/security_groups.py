"""Security groups, with all their rules.

A group's rules are exactly the declared ones, in both directions: any other rule is drift and is removed. Rules are
added before others are removed, so that a repair never interrupts allowed traffic.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Ref, Resource, reconciles, unordered
from aistratus.core.settle import Wait
from aistratus.resources.calls import unless_gone
from aistratus.resources.ec2 import (
    KNOWN,
    Described,
    Listing,
    drift,
    repair_tags,
    tag_specifications,
    tags_of,
    write,
    write_unless,
)

GROUPS = Listing(
    operation="describe_security_groups",
    rows="SecurityGroups[]",
    id="GroupId",
    id_filter="group-id",
    arn="security-group",
)

GROUP_GONE = frozenset({"InvalidGroup.NotFound", "InvalidGroupId.Malformed"})
RULE_GONE = frozenset({"InvalidPermission.NotFound", "InvalidSecurityGroupRuleId.NotFound"})
RULE_THERE = frozenset({"InvalidPermission.Duplicate"})

INTERFACES_RELEASED = Wait(
    what="the last network interface lets go of the security group",
    within=180,
    codes=frozenset({"DependencyViolation"}),
)
"""An instance's interface goes when it has terminated, some seconds after it says so. Source: DeleteSecurityGroup."""

ALL = "-1"
_NUMBERS = {"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6", "all": ALL}
"""EC2 answers these protocols by name. Source: IpPermission."""

Direction = Literal["ingress", "egress"]


@dataclass(frozen=True, order=True)
class Rule:
    """What may pass.

    protocol: `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    from_port, to_port: both ends are included; for icmp type and code; -1 means all.
    cidr: the range on the other side. Found rules may name a security group or prefix list by its id instead.
    """

    protocol: str
    from_port: int
    to_port: int
    cidr: str
    description: str = ""

    def __post_init__(self) -> None:
        protocol = _NUMBERS.get(self.protocol.lower(), self.protocol.lower())
        object.__setattr__(self, "protocol", protocol)
        if protocol == ALL:
            object.__setattr__(self, "from_port", -1)
            object.__setattr__(self, "to_port", -1)
        if "/" in self.cidr:
            object.__setattr__(self, "cidr", str(ipaddress.ip_network(self.cidr, strict=False)))

    @property
    def match(self) -> tuple[str, int, int, str]:
        """What makes it one rule for EC2: everything but its description."""
        return self.protocol, self.from_port, self.to_port, self.cidr


EVERYTHING_OUT = (Rule(ALL, -1, -1, "0.0.0.0/0"),)
"""What EC2 itself puts into a new group."""


@dataclass(frozen=True, kw_only=True)
class SecurityGroup(Resource):
    """A group named `tinyllama-<env>-<key>`: what may go in and out of the interfaces that wear it."""

    vpc: Ref | str
    description: str
    ingress: tuple[Rule, ...] = unordered(default=())
    egress: tuple[Rule, ...] = unordered(default=EVERYTHING_OUT)

    replace_on: ClassVar[frozenset[str]] = frozenset({"vpc", "description"})


def find_security_group(aws: Cloud, want: SecurityGroup) -> Found | None:
    """By tags."""
    described = GROUPS.pick(aws, want.key)
    return None if described is None else _found_group(aws, want.key, described)


def owned_security_groups(aws: Cloud) -> list[Found]:
    """By tags."""
    return [_found_group(aws, key, described) for key, described in GROUPS.left(aws)]


def remove_security_group(aws: Cloud, have: Found) -> None:
    """Removes it once no interface and no other group's rule needs it."""
    GROUPS.remove(aws, have, GROUP_GONE, INTERFACES_RELEASED, "delete_security_group", GroupId=have.ids["id"])


@reconciles(SecurityGroup, find=find_security_group, remove=remove_security_group, owned=owned_security_groups)
def ensure_security_group(aws: Cloud, want: SecurityGroup, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = _create(aws, want)
        changes = drift(aws, want, have)
        if not changes:
            return have
    identity = have.ids["id"]
    assert isinstance(have.state, SecurityGroup)
    if "ingress" in changes:
        _repair_rules(aws, identity, "ingress", want.ingress, have.state.ingress)
    if "egress" in changes:
        _repair_rules(aws, identity, "egress", want.egress, have.state.egress)
    if "tags" in changes:
        repair_tags(aws, want.key, identity)
    return await_match(find_security_group, aws, want)


def _create(aws: Cloud, want: SecurityGroup) -> Found:
    name = aws.name(want.key)
    _refuse_stranger(aws, want, name)
    return aws.create_once(
        "ec2",
        "create_security_group",
        look=lambda cloud: find_security_group(cloud, want),
        taken={"InvalidGroup.Duplicate"},
        settling=KNOWN,
        GroupName=name,
        Description=want.description,
        VpcId=want.vpc,
        TagSpecifications=tag_specifications(aws, want.key, "security-group"),
    )


def _refuse_stranger(aws: Cloud, want: SecurityGroup, name: str) -> None:
    """A group's name is unique in its VPC: whoever has ours without our tags stands in the way."""
    filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [want.vpc]}]
    for described in aws.ec2.describe_security_groups(Filters=filters)["SecurityGroups"]:
        aws.require_ours("security group", name, tags_of(described), want.key)


def _found_group(aws: Cloud, key: str, described: Described) -> Found:
    state = SecurityGroup(
        key=key,
        vpc=described["VpcId"],
        description=described["Description"],
        ingress=tuple(sorted(_rules(described.get("IpPermissions", [])))),
        egress=tuple(sorted(_rules(described.get("IpPermissionsEgress", [])))),
    )
    return GROUPS.found(aws, described, state, name=described["GroupName"])


# --- rules ----------------------------------------------------------------------------------------------------------

_SOURCES = {
    "IpRanges": "CidrIp",
    "Ipv6Ranges": "CidrIpv6",
    "UserIdGroupPairs": "GroupId",
    "PrefixListIds": "PrefixListId",
}
"""Where EC2 lists the sources of a rule, and how it names them there."""


def _rules(permissions: list[Described]) -> Iterator[Rule]:
    """EC2 gathers rules by protocol and ports; here each source is a rule."""
    for entry in permissions:
        ports = entry.get("FromPort", -1), entry.get("ToPort", -1)
        for field, name in _SOURCES.items():
            for source in entry.get(field, []):
                yield Rule(entry["IpProtocol"], *ports, source[name], source.get("Description") or "")


def _repair_rules(aws: Cloud, group: str, direction: Direction, want: tuple[Rule, ...], have: tuple[Rule, ...]) -> None:
    there = {rule.match: rule for rule in have}
    for rule in want:
        params: dict[str, Any] = {"GroupId": group, "IpPermissions": [_permission(rule)]}
        if rule.match not in there:
            # One by one: a rule that a lost answer has made already would make EC2 refuse all the others.
            write_unless(RULE_THERE, aws, f"authorize_security_group_{direction}", **params)
        elif rule.description != there[rule.match].description:
            write(aws, f"update_security_group_rule_descriptions_{direction}", **params)
    extra = there.keys() - {rule.match for rule in want}
    if extra:
        _revoke(aws, group, direction, extra)


def _permission(rule: Rule) -> dict[str, Any]:
    ports = {} if rule.protocol == ALL else {"FromPort": rule.from_port, "ToPort": rule.to_port}
    field, name = ("Ipv6Ranges", "CidrIpv6") if ":" in rule.cidr else ("IpRanges", "CidrIp")
    # Left out, it is taken away; EC2 refuses an empty one.
    description = {"Description": rule.description} if rule.description else {}
    return {"IpProtocol": rule.protocol, **ports, field: [{name: rule.cidr, **description}]}


def _revoke(aws: Cloud, group: str, direction: Direction, extra: set[tuple[str, int, int, str]]) -> None:
    """Takes rules away as EC2 itself lists them: a source in another account has parts that a `Rule` doesn't keep."""
    described = GROUPS.by_id(aws, group)
    listed = described["IpPermissions" if direction == "ingress" else "IpPermissionsEgress"] if described else []
    for permission in listed:
        for field in _SOURCES:
            for source in permission.get(field, []):
                only = {name: value for name, value in permission.items() if name not in _SOURCES}
                only[field] = [source]
                if any(rule.match in extra for rule in _rules([only])):
                    operation = getattr(aws.ec2, f"revoke_security_group_{direction}")
                    unless_gone(RULE_GONE, operation, GroupId=group, IpPermissions=[only])
