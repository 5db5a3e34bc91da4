"""What every EC2 kind shares: one listing per kind, filtered by our tags, and the writes and waits around it.

EC2 chooses most ids itself, so our resources are found by the tags that the create call sets. One `describe` call per
kind is shared by all resources of that kind. Two things can go wrong with tags. Somebody removes them: then the id in
the ledger still leads to the resource, because EC2 never reuses an id, and the missing tags are repaired like any
drift. Or a run died and a later one created the resource again: then the recorded one counts, else the oldest; the
duplicate shows in the health, and `down` removes it, because its sweep goes by tags and not by key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aistratus.cloud import PROJECT, Cloud
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Resource
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import tag_list, tag_mapping, unless_gone

Described = Mapping[str, Any]
"""A resource as EC2 describes it: one entry of a describe call's answer."""

PAGE = 100
"""The largest page that every describe call takes (DescribeRouteTables allows no more)."""

KNOWN = Wait(
    what="EC2 knows everywhere what was made a moment ago",
    within=60,
    codes=frozenset({
        "InvalidVpcID.NotFound", "InvalidSubnetID.NotFound", "InvalidInternetGatewayID.NotFound",
        "InvalidGatewayID.NotFound", "InvalidRouteTableID.NotFound", "InvalidRouteTableId.NotFound",
        "InvalidVpcEndpointId.NotFound", "InvalidGroup.NotFound", "InvalidKeyPair.NotFound",
        "InvalidInstanceID.NotFound", "InvalidID", "InvalidNatGatewayID.NotFound", "NatGatewayNotFound",
        "InvalidElasticIpID.NotFound", "InvalidAllocationID.NotFound",
    }),
)  # fmt: skip
"""Only for calls on ids that this very run has made or seen, so "not found" can only mean "not yet everywhere".

Source: EC2 developer guide, "Eventual consistency in the Amazon EC2 API".
"""

NO_LONGER_LISTED = Wait(what="EC2 no longer lists what was removed", within=60, first=0.3)
"""Deletes are eventually consistent, too. Until then the resource would count as left over, or as its successor."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """How EC2 lists one kind.

    operation: the describe call.
    rows: where the entries stand in its answer, in the SDK's query language.
    id: the entry's attribute that holds its id.
    id_filter: the filter that asks for one id; unlike the id parameter it answers nothing instead of an error.
    arn: the resource type in the ARN.
    since: the entry's attribute that holds its creation time, where there is one.
    alive: False for entries that are gone or going, which EC2 goes on listing for a while.
    gone: True for those among them that have really ended.
    filters: how the call names its filters.
    paged: False for a call that gives everything at once.
    """

    operation: str
    rows: str
    id: str
    id_filter: str
    arn: str
    since: str = ""
    alive: Callable[[Described], bool] = lambda described: True
    gone: Callable[[Described], bool] = lambda described: False
    filters: str = "Filters"
    paged: bool = True

    def ours(self, aws: Cloud) -> list[Described]:
        """Everything of this kind that carries our tags, dead entries too; one call for all who ask."""
        wanted = {"tag:Project": PROJECT, "tag:Env": aws.env}
        everything = aws.shared(f"ec2.{self.operation}", lambda: self._read(aws, **wanted))
        # Filters take wildcards and so may find more.
        return [each for each in everything if aws.owns(tags_of(each))]

    def left(self, aws: Cloud) -> list[tuple[str, Described]]:
        """Everything of ours that hasn't ended, each with the key in its tags."""
        return [(tags_of(each)["aistratus:key"], each) for each in self.ours(aws) if not self.gone(each)]

    def by_id(self, aws: Cloud, identity: str) -> Described | None:
        """The entry with this id as it is now, whatever its state."""
        return next(iter(self._read(aws, **{self.id_filter: identity})), None)

    def pick(self, aws: Cloud, key: str) -> Described | None:
        """The living entry that is this resource."""
        mine, recorded = self._with_key(aws, key), aws.recorded(key).get("id", "")
        for described in mine:
            if described[self.id] == recorded:
                return described
        if mine:
            return min(mine, key=lambda described: (str(described.get(self.since, "")), described[self.id]))
        return self._without_tags(aws, key, recorded)

    def found(self, aws: Cloud, described: Described, state: Resource, *, health: str = "ok", **ids: str) -> Found:
        """What reconcilers give back for an entry."""
        if health == "ok" and len(self._with_key(aws, state.key)) > 1:
            health = "duplicated"
        identity = described[self.id]
        ids = {"id": identity, "arn": aws.arn("ec2", f"{self.arn}/{identity}"), **ids}
        return Found(state=state, ids=ids, tags=tags_of(described), health=health)

    def _with_key(self, aws: Cloud, key: str) -> list[Described]:
        return [each for each in self.ours(aws) if self.alive(each) and aws.owns(tags_of(each), key)]

    def _without_tags(self, aws: Cloud, key: str, recorded: str) -> Described | None:
        """What the ledger says we made, unless its tags say that it belongs to somebody else."""
        described = self.by_id(aws, recorded) if recorded else None
        if described is None or not self.alive(described):
            return None
        tags, wanted = tags_of(described), aws.tags(key)
        stays = all(tags.get(name, wanted[name]) == wanted[name] for name in ("Project", "Env", "aistratus:key"))
        return described if stays else None

    def _read(self, aws: Cloud, **filters: str) -> list[Described]:
        wanted = {self.filters: [{"Name": name, "Values": [value]} for name, value in filters.items()]}
        if not self.paged:
            return list(getattr(aws.ec2, self.operation)(**wanted)[self.rows.removesuffix("[]")])
        pages = aws.ec2.get_paginator(self.operation).paginate(**wanted, PaginationConfig={"PageSize": PAGE})
        return [described for described in pages.search(self.rows) if described is not None]

    def remove(self, aws: Cloud, have: Found, gone: frozenset[str], busy: Wait, operation: str, **params: Any) -> None:
        """Calls the delete operation as soon as nothing hangs on the thing any more, and waits until it is gone."""
        unless_gone(gone, settle, wait=busy, call=getattr(aws.ec2, operation), clock=aws.clock, **params)
        self.await_gone(aws, have.ids["id"])

    def await_gone(self, aws: Cloud, identity: str, wait: Wait = NO_LONGER_LISTED) -> None:
        """Waits until it has ended."""

        def probe() -> bool | None:
            described = self.by_id(aws, identity)
            return True if described is None or self.gone(described) else None

        until(wait, probe, clock=aws.clock)


def tags_of(described: Described) -> dict[str, str]:
    """The entry's tags as a plain mapping; network interfaces have theirs under another name."""
    return tag_mapping(described.get("Tags") or described.get("TagSet"))


def tag_specifications(aws: Cloud, key: str, *types: str) -> list[dict[str, Any]]:
    """Our tags for a create call, for each type of resource that it makes."""
    return [{"ResourceType": kind, "Tags": tag_list(aws.tags(key))} for kind in types]


def write(aws: Cloud, operation: str, **params: Any) -> Any:
    """A changing call on ids that this run has made or seen."""
    return settle(KNOWN, getattr(aws.ec2, operation), clock=aws.clock, **params)


def write_unless(done: frozenset[str], aws: Cloud, operation: str, **params: Any) -> Any:
    """The same, for a call that a lost answer may make twice; `done` are the codes that then say "it is so already"."""
    return unless_gone(done, write, aws=aws, operation=operation, **params)


def repair_tags(aws: Cloud, key: str, *identities: str) -> None:
    """Puts our tags back; tags of others stay."""
    write(aws, "create_tags", Resources=list(identities), Tags=tag_list(aws.tags(key)))


def drift(aws: Cloud, want: Resource, have: Found) -> frozenset[str]:
    """The names of the fields in which something just created still differs from what is wanted."""
    return frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
