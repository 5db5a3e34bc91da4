"""What every EC2 kind shares: one listing per kind, filtered by our tags, and the writes and waits around it.

EC2 gives most things an id of its own choosing, so ours are found by the tags that the create call itself sets. One
`describe` call per kind answers for all who ask. Two things can go wrong with tags. Somebody takes them away: then the
id in the ledger still leads there, because EC2 ids are unique and never given twice, and what is missing is repaired
like any tag. Or a run died and a later one made the thing again: then the recorded one counts, else the oldest; the
other one shows in the health, and `down` removes it, because the sweep goes by tags and not by key.
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

Thing = Mapping[str, Any]
"""One entry of a describe call's answer."""

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
"""Deletes settle like creates. Until then the thing would look as if it were left, or be taken for its successor."""


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
    alive: Callable[[Thing], bool] = lambda thing: True
    gone: Callable[[Thing], bool] = lambda thing: False
    filters: str = "Filters"
    paged: bool = True

    def ours(self, aws: Cloud) -> list[Thing]:
        """Everything of this kind that carries our tags, dead entries too; one call for all who ask."""
        wanted = {"tag:Project": PROJECT, "tag:Env": aws.env}
        things = aws.shared(f"ec2.{self.operation}", lambda: self._read(aws, **wanted))
        # Filters take wildcards and so may find more.
        return [thing for thing in things if aws.owns(tags_of(thing))]

    def left(self, aws: Cloud) -> list[tuple[str, Thing]]:
        """Everything of ours that hasn't ended, each with the key in its tags."""
        return [(tags_of(thing)["aistratus:key"], thing) for thing in self.ours(aws) if not self.gone(thing)]

    def by_id(self, aws: Cloud, identity: str) -> Thing | None:
        """The entry with this id as it is now, whatever its state."""
        return next(iter(self._read(aws, **{self.id_filter: identity})), None)

    def pick(self, aws: Cloud, key: str) -> Thing | None:
        """The living entry that is this resource."""
        mine, recorded = self._with_key(aws, key), aws.recorded(key).get("id", "")
        for thing in mine:
            if thing[self.id] == recorded:
                return thing
        if mine:
            return min(mine, key=lambda thing: (str(thing.get(self.since, "")), thing[self.id]))
        return self._without_tags(aws, key, recorded)

    def found(self, aws: Cloud, thing: Thing, state: Resource, *, health: str = "ok", **ids: str) -> Found:
        """What reconcilers give back for an entry."""
        if health == "ok" and len(self._with_key(aws, state.key)) > 1:
            health = "duplicated"
        identity = thing[self.id]
        ids = {"id": identity, "arn": aws.arn("ec2", f"{self.arn}/{identity}"), **ids}
        return Found(state=state, ids=ids, tags=tags_of(thing), health=health)

    def _with_key(self, aws: Cloud, key: str) -> list[Thing]:
        return [thing for thing in self.ours(aws) if self.alive(thing) and aws.owns(tags_of(thing), key)]

    def _without_tags(self, aws: Cloud, key: str, recorded: str) -> Thing | None:
        """What the ledger says we made, unless its tags say that it belongs to somebody else."""
        thing = self.by_id(aws, recorded) if recorded else None
        if thing is None or not self.alive(thing):
            return None
        tags, wanted = tags_of(thing), aws.tags(key)
        stays = all(tags.get(name, wanted[name]) == wanted[name] for name in ("Project", "Env", "aistratus:key"))
        return thing if stays else None

    def _read(self, aws: Cloud, **filters: str) -> list[Thing]:
        wanted = {self.filters: [{"Name": name, "Values": [value]} for name, value in filters.items()]}
        if not self.paged:
            return list(getattr(aws.ec2, self.operation)(**wanted)[self.rows.removesuffix("[]")])
        pages = aws.ec2.get_paginator(self.operation).paginate(**wanted, PaginationConfig={"PageSize": PAGE})
        return [thing for thing in pages.search(self.rows) if thing is not None]

    def remove(self, aws: Cloud, have: Found, gone: frozenset[str], busy: Wait, operation: str, **params: Any) -> None:
        """Calls the delete operation as soon as nothing hangs on the thing any more, and waits until it is gone."""
        unless_gone(gone, settle, wait=busy, call=getattr(aws.ec2, operation), clock=aws.clock, **params)
        self.await_gone(aws, have.ids["id"])

    def await_gone(self, aws: Cloud, identity: str, wait: Wait = NO_LONGER_LISTED) -> None:
        """Waits until it has ended."""

        def probe() -> bool | None:
            thing = self.by_id(aws, identity)
            return True if thing is None or self.gone(thing) else None

        until(wait, probe, clock=aws.clock)


def tags_of(thing: Thing) -> dict[str, str]:
    """The entry's tags as a plain mapping; network interfaces have theirs under another name."""
    return tag_mapping(thing.get("Tags") or thing.get("TagSet"))


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
