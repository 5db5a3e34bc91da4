"""Tables: on demand, with one hash key of text, and a TTL attribute.

A table that is being deleted counts as absent for `up`, which then waits for its name, and as still there for `down`,
which waits for its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from botocore.exceptions import ClientError

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.errors import Failure, error_code, error_message
from aistratus.core.resource import Found, Resource, reconciles
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import at_once, tag_list, tag_mapping, unless_gone

GONE = frozenset({"ResourceNotFoundException", "TableNotFoundException"})

TABLE_NAME_FREE = Wait(
    what="DynamoDB ends the deletion of the table that had this name",
    within=180,
    codes=frozenset({"ResourceInUseException"}),
    saying=r"(?i)being deleted",
)
"""A deletion takes seconds to a few minutes. Source: DynamoDB API reference, DeleteTable."""

TABLE_ACTIVE = Wait(what="the table is active", within=180, codes=GONE)
"""A new table is in state CREATING for some seconds, and describing it may answer "not found" before that.

Source: DynamoDB API reference, CreateTable and DescribeTable.
"""

TABLE_FREE = Wait(
    what="DynamoDB ends another change of the table",
    within=180,
    codes=frozenset({"ResourceInUseException", "LimitExceededException", "ContinuousBackupsUnavailableException"}),
)
"""One change of a table at a time, and backups can't be set on a table that is quite new.

Source: DynamoDB API reference, UpdateTable and UpdateContinuousBackups.
"""

TABLE_GONE = Wait(what="the table is deleted", within=300)
"""It is in state DELETING for seconds to a few minutes."""

TTL_MODIFIED = "has been modified multiple times"


@dataclass(frozen=True, kw_only=True)
class Table(Resource):
    """A table named `tinyllama-<env>-<name>`, encrypted with DynamoDB's own key.

    Its items are jobs, which live for minutes: it holds no data that anyone would keep.

    hash_key: the key attribute, a text.
    ttl_attribute: the attribute that holds the time (seconds since the epoch) from which an item may be deleted.
    point_in_time_recovery, deletion_protection: not managed unless set.
    """

    name: str
    hash_key: str = "pk"
    billing: Literal["PAY_PER_REQUEST"] = "PAY_PER_REQUEST"
    ttl_attribute: str | None = None
    point_in_time_recovery: bool | None = None
    deletion_protection: bool | None = None

    replace_on: ClassVar[frozenset[str]] = frozenset({"name", "hash_key"})


def find_table(aws: Cloud, want: Table) -> Found | None:
    """By name."""
    name = aws.name(want.name)
    table = _describe(aws, name)
    if table is None or table["TableStatus"] == "DELETING":
        return None
    tags, ttl, backups = at_once(
        lambda: _tags(aws, name),
        lambda: unless_gone(GONE, aws.dynamodb.describe_time_to_live, TableName=name),
        lambda: _backups(aws, name) if want.point_in_time_recovery is not None else None,
    )
    if tags is None:
        return None  # deleted between the calls
    aws.require_ours("table", name, tags, want.key)
    state = Table(
        key=want.key,
        name=want.name,
        hash_key=next(entry["AttributeName"] for entry in table["KeySchema"] if entry["KeyType"] == "HASH"),
        billing=table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
        ttl_attribute=_ttl_attribute(ttl["TimeToLiveDescription"]) if ttl else None,
        point_in_time_recovery=backups,
        deletion_protection=table.get("DeletionProtectionEnabled", False),
    )
    status = table["TableStatus"]
    health = "ok" if status == "ACTIVE" else status.lower()
    return Found(state=state, ids=_ids(aws, name), tags=tags, health=health)


def owned_tables(aws: Cloud) -> list[Found]:
    """By tags, among the tables with our name, those that are being deleted too."""
    pages = aws.dynamodb.get_paginator("list_tables").paginate()
    owned = []
    for name in (name for page in pages for name in page["TableNames"] if name.startswith(aws.prefix)):
        tags = _tags(aws, name)
        if tags is not None and aws.owns(tags):
            state = Table(key=tags["aistratus:key"], name=name.removeprefix(aws.prefix))
            owned.append(Found(state=state, ids=_ids(aws, name), tags=tags))
    return owned


def remove_table(aws: Cloud, have: Found) -> None:
    """Removes it and waits for its end."""
    name = have.ids["name"]
    try:
        unless_gone(GONE, settle, wait=TABLE_FREE, call=_delete, clock=aws.clock, aws=aws, name=name)
    except ClientError as error:
        if error_code(error) == "ValidationException" and "rotect" in error_message(error):
            raise Failure(
                f"the table {name!r} is protected against deletion",
                todo="switch its deletion protection off, then run `aistratus down` again",
            ) from error
        raise
    until(TABLE_GONE, lambda: _describe(aws, name) is None or None, clock=aws.clock)


@reconciles(Table, find=find_table, remove=remove_table, owned=owned_tables)
def ensure_table(aws: Cloud, want: Table, have: Found | None, changes: frozenset[str]) -> Found:
    name = aws.name(want.name)
    if have is None:
        aws.create_once(
            "dynamodb",
            "create_table",
            look=lambda cloud: find_table(cloud, want),
            taken={"ResourceInUseException"},
            settling=TABLE_NAME_FREE,
            TableName=name,
            KeySchema=[{"AttributeName": want.hash_key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": want.hash_key, "AttributeType": "S"}],
            BillingMode=want.billing,
            DeletionProtectionEnabled=bool(want.deletion_protection),
            Tags=tag_list(aws.tags(want.key)),
        )
        have = _active(aws, want)
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    if "billing" in changes:
        _update(aws, "update_table", want, BillingMode=want.billing)
    if "deletion_protection" in changes:
        _update(aws, "update_table", want, DeletionProtectionEnabled=want.deletion_protection)
    if "point_in_time_recovery" in changes:
        recovery = {"PointInTimeRecoveryEnabled": want.point_in_time_recovery}
        _update(aws, "update_continuous_backups", want, PointInTimeRecoverySpecification=recovery)
    if "ttl_attribute" in changes:
        assert isinstance(have.state, Table)
        _repair_ttl(aws, want, have.state.ttl_attribute)
    if "tags" in changes:
        aws.dynamodb.tag_resource(ResourceArn=have.ids["arn"], Tags=tag_list(aws.tags(want.key)))
    return await_match(find_table, aws, want)


def _active(aws: Cloud, want: Table) -> Found:
    """The table, once it takes settings."""

    def probe() -> Found | None:
        found = find_table(aws.fresh(), want)
        return found if found is not None and found.health == "ok" else None

    return until(TABLE_ACTIVE, probe, clock=aws.clock)


def _update(aws: Cloud, operation: str, want: Table, **params: Any) -> None:
    call = getattr(aws.dynamodb, operation)
    settle(TABLE_FREE, call, clock=aws.clock, TableName=aws.name(want.name), **params)
    _active(aws, want)


def _repair_ttl(aws: Cloud, want: Table, wrong: str | None) -> None:
    """Names the TTL attribute. A wrong one has to be switched off first, and AWS takes one such change an hour."""
    try:
        if wrong is not None:
            _set_ttl(aws, want, wrong, enabled=False)
        _set_ttl(aws, want, str(want.ttl_attribute), enabled=True)
    except ClientError as error:
        if TTL_MODIFIED not in error_message(error):
            raise
        raise Failure(
            f"the TTL of table {aws.name(want.name)!r} was changed less than an hour ago, and AWS takes one an hour",
            todo="run the command again in an hour",
        ) from error


def _set_ttl(aws: Cloud, want: Table, attribute: str, *, enabled: bool) -> None:
    specification = {"Enabled": enabled, "AttributeName": attribute}
    try:
        _update(aws, "update_time_to_live", want, TimeToLiveSpecification=specification)
    except ClientError as error:
        # An earlier answer was lost: it is as it should be.
        if f"already {'enabled' if enabled else 'disabled'}" not in error_message(error):
            raise


def _delete(aws: Cloud, name: str) -> None:
    try:
        aws.dynamodb.delete_table(TableName=name)
    except ClientError as error:
        if not TABLE_NAME_FREE.forgives(error):  # it is being deleted
            raise


def _describe(aws: Cloud, name: str) -> Mapping[str, Any] | None:
    answer = unless_gone(GONE, aws.dynamodb.describe_table, TableName=name)
    table: Mapping[str, Any] | None = answer and answer["Table"]
    return table


def _tags(aws: Cloud, name: str) -> dict[str, str] | None:
    """All tags; `None` if the table is gone."""

    def read() -> dict[str, str]:
        pages = aws.dynamodb.get_paginator("list_tags_of_resource").paginate(ResourceArn=_ids(aws, name)["arn"])
        return tag_mapping(tag for page in pages for tag in page["Tags"])

    tags: dict[str, str] | None = unless_gone(GONE, read)
    return tags


def _backups(aws: Cloud, name: str) -> bool | None:
    answer = unless_gone(GONE, aws.dynamodb.describe_continuous_backups, TableName=name)
    if answer is None:
        return None
    recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    return bool(recovery.get("PointInTimeRecoveryStatus") == "ENABLED")


def _ttl_attribute(ttl: Mapping[str, str]) -> str | None:
    return ttl.get("AttributeName") if ttl["TimeToLiveStatus"] in ("ENABLED", "ENABLING") else None


def _ids(aws: Cloud, name: str) -> dict[str, str]:
    return {"id": name, "name": name, "arn": aws.arn("dynamodb", f"table/{name}")}
