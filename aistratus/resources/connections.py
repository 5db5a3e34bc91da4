"""Connections to a source provider (AWS CodeConnections, earlier CodeStar connections).

AWS creates a connection `PENDING`. Only a person can complete it, in the console and with the provider's own consent:
there is no API for it. So a pending connection isn't drift, and its health says what to click.

Names are documented as unique, but a second one isn't refused, so ours is the one with our name and our tags; of
several, the completed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.errors import Failure
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import offered, tag_list, tag_mapping, unless_gone

GONE = frozenset({"ResourceNotFoundException"})

CONNECTION_KNOWN = Wait(
    what="CodeConnections knows the new connection, or ends another change of it",
    within=60,
    codes=GONE | {"ResourceUnavailableException"},
)
"""Source: CodeConnections API reference, errors of CreateConnection and TagResource."""

LONGEST_NAME = 32
"""Characters. Source: CodeConnections API reference, CreateConnection."""

HEALTH = {"AVAILABLE": "ok", "PENDING": "pending", "ERROR": "failed"}


@dataclass(frozen=True, kw_only=True)
class Connection(Resource):
    """A connection named `tinyllama-<env>-<name>` to `provider`; pending until a person completes it."""

    name: str
    provider: str = "GitHub"

    replace_on: ClassVar[frozenset[str]] = frozenset({"name", "provider"})


def find_connection(aws: Cloud, want: Connection) -> Found | None:
    """By name and tags."""
    name = aws.name(want.name)
    strange: Mapping[str, str] | None = None
    for row in _named(aws, name):
        tags = _tags(aws, row["ConnectionArn"])
        if tags is None:
            continue  # the listing shows deleted ones for a while
        if aws.owns(tags, want.key):
            return _found(aws, want.key, want.name, row, tags)
        strange = tags
    if strange is not None:
        aws.require_ours("connection", name, strange, want.key)
    return None


def owned_connections(aws: Cloud) -> list[Found]:
    """By tags, among the connections with our name."""
    owned = []
    for row in _listed(aws):
        name = row["ConnectionName"]
        tags = (_tags(aws, row["ConnectionArn"]) if name.startswith(aws.prefix) else None) or {}
        if aws.owns(tags):
            owned.append(_found(aws, tags["aistratus:key"], name.removeprefix(aws.prefix), row, tags))
    return owned


def remove_connection(aws: Cloud, have: Found) -> None:
    """Removes it; the app that was installed at the provider stays there."""
    unless_gone(GONE, aws.codeconnections.delete_connection, ConnectionArn=have.ids["arn"])


@reconciles(Connection, find=find_connection, remove=remove_connection, owned=owned_connections)
def ensure_connection(aws: Cloud, want: Connection, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        if not offered(aws.codeconnections, "codestar-connections"):
            raise Failure(
                f"AWS offers no connections to {want.provider} in {aws.region}", todo="leave delivery.repository unset"
            )
        return aws.create_once(
            "codeconnections",
            "create_connection",
            look=lambda cloud: find_connection(cloud, want),
            settling=CONNECTION_KNOWN,
            ProviderType=want.provider,
            ConnectionName=aws.name(want.name),
            Tags=tag_list(aws.tags(want.key)),
        )
    if "tags" in changes:
        tag = aws.codeconnections.tag_resource
        settle(CONNECTION_KNOWN, tag, clock=aws.clock, ResourceArn=have.ids["arn"], Tags=tag_list(aws.tags(want.key)))
    return await_match(find_connection, aws, want)


def not_yet_usable(aws: Cloud, connection: Ref | str | None) -> str | None:
    """The ARN of the connection that a field stands for, while it waits for a person; `None` once it can be used.

    One that isn't listed here (shared by another account, say) counts as usable: who uses it will be told.
    """
    if isinstance(connection, Ref):
        assert isinstance(connection.to, Connection)
        rows = _named(aws, aws.name(connection.to.name))
    else:
        rows = [row for row in _listed(aws) if row["ConnectionArn"] == connection]
    return next((row["ConnectionArn"] for row in rows[:1] if row["ConnectionStatus"] != "AVAILABLE"), None)


def _found(aws: Cloud, key: str, name: str, row: Mapping[str, Any], tags: Mapping[str, str]) -> Found:
    arn, health = row["ConnectionArn"], HEALTH.get(row["ConnectionStatus"], "failed")
    state = Connection(key=key, name=name, provider=row["ProviderType"])
    return Found(
        state=state,
        ids={"id": arn, "arn": arn, "name": row["ConnectionName"]},
        tags=tags,
        health=health,
        todo="" if health == "ok" else _todo(aws, row),
    )


def _todo(aws: Cloud, row: Mapping[str, Any]) -> str:
    """Source: Developer Tools console user guide, "Update a pending connection"."""
    place = f"https://{aws.region}.console.aws.amazon.com/codesuite/settings/connections?region={aws.region}"
    return (
        f'open {place}, choose {row["ConnectionName"]}, then "Update pending connection", and allow '
        f"{row['ProviderType']} the repository; `aistratus up` goes on from there"
    )


def _named(aws: Cloud, name: str) -> list[Mapping[str, Any]]:
    """The connections of this name, those that can be used first."""
    rows = [row for row in _listed(aws) if row["ConnectionName"] == name]
    return sorted(rows, key=lambda row: (row["ConnectionStatus"] != "AVAILABLE", row["ConnectionArn"]))


def _listed(aws: Cloud) -> list[Mapping[str, Any]]:
    """All connections of the account and region; none where AWS doesn't offer them."""

    def read() -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = []
        if not offered(aws.codeconnections, "codestar-connections"):
            return rows
        # The SDK has no paginator for it.
        more: dict[str, str] = {}
        while True:
            answer = aws.codeconnections.list_connections(MaxResults=100, **more)
            rows += answer.get("Connections", [])
            if not answer.get("NextToken"):
                return rows
            more = {"NextToken": answer["NextToken"]}

    return aws.shared("codeconnections.connections", read)


def _tags(aws: Cloud, arn: str) -> dict[str, str] | None:
    """All tags; `None` if the connection is gone."""
    answer = unless_gone(GONE, aws.codeconnections.list_tags_for_resource, ResourceArn=arn)
    return None if answer is None else tag_mapping(answer.get("Tags"))
