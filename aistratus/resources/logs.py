"""Log groups.

Lambda makes the group of a function by itself when it is missing and the function's role allows it, without any tag:
after a deletion, for example, by the last lines of a function that was still running. Such a group may be taken over,
because its name is bound to the name of our function, and what is in it can only come from there; a stranger's function
of that name would be refused where the function is looked for. Nothing else without our tags is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import OWNERSHIP, PROJECT, Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.errors import UsageError
from aistratus.core.resource import Found, Resource, reconciles
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import unless_gone

GONE = frozenset({"ResourceNotFoundException"})

LOGS_SETTLE = Wait(
    what="CloudWatch Logs knows the new group, or ends another change of it",
    within=60,
    codes=frozenset({"OperationAbortedException", "ResourceNotFoundException"}),
)
"""Two changes of a group at once are refused. Source: CloudWatch Logs API reference, OperationAbortedException."""

RETENTIONS = frozenset({
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
})  # fmt: skip
"""Days. Source: CloudWatch Logs API reference, PutRetentionPolicy."""

OF_LAMBDA = "/aws/lambda/"


@dataclass(frozen=True, kw_only=True)
class LogGroup(Resource):
    """A log group, given by its full name.

    retention_days: days after which its lines are deleted; `None`: not managed.
    """

    name: str
    retention_days: int | None = 30

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})

    def __post_init__(self) -> None:
        if self.retention_days is not None and self.retention_days not in RETENTIONS:
            allowed = ", ".join(str(days) for days in sorted(RETENTIONS))
            raise UsageError(f"logs can't be kept for {self.retention_days} days", todo=f"AWS allows {allowed}")


def find_log_group(aws: Cloud, want: LogGroup) -> Found | None:
    """By name, in one listing for all groups."""
    group = _groups(aws).get(want.name)
    tags = _tags(aws, want.name) if group is not None else None
    if group is None or tags is None:
        return None
    if not _left_by_lambda(aws, want.name, tags):
        aws.require_ours("log group", want.name, tags, want.key)
    return _found(aws, want.key, group, tags)


def owned_log_groups(aws: Cloud) -> list[Found]:
    """By tags, and the groups that Lambda made for functions of ours."""
    owned = []
    for name, group in sorted(_groups(aws).items()):
        tags = _tags(aws, name)
        if tags is None:
            continue
        if aws.owns(tags):
            owned.append(_found(aws, tags["aistratus:key"], group, tags))
        elif _left_by_lambda(aws, name, tags) and "-" not in (function := name.removeprefix(OF_LAMBDA + aws.prefix)):
            # With a dash in the rest it could belong to an env whose name is longer than ours (`dev` and `dev-2`).
            # Those groups are still found by their exact name, just not by this guess.
            owned.append(_found(aws, function, group, tags))
    return owned


def remove_log_group(aws: Cloud, have: Found) -> None:
    """Removes it with all its lines."""
    wait = Wait(what=LOGS_SETTLE.what, within=LOGS_SETTLE.within, codes=LOGS_SETTLE.codes - GONE)
    call = aws.logs.delete_log_group
    unless_gone(GONE, settle, wait=wait, call=call, clock=aws.clock, logGroupName=have.ids["name"])


@reconciles(LogGroup, find=find_log_group, remove=remove_log_group, owned=owned_log_groups)
def ensure_log_group(aws: Cloud, want: LogGroup, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "logs",
            "create_log_group",
            look=lambda cloud: find_log_group(cloud, want),
            taken={"ResourceAlreadyExistsException"},
            settling=LOGS_SETTLE,
            logGroupName=want.name,
            tags=aws.tags(want.key),
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    if "tags" in changes:
        tag = aws.logs.tag_resource
        settle(LOGS_SETTLE, tag, clock=aws.clock, resourceArn=have.ids["arn"], tags=aws.tags(want.key))
    if "retention_days" in changes:
        put = aws.logs.put_retention_policy
        settle(LOGS_SETTLE, put, clock=aws.clock, logGroupName=want.name, retentionInDays=want.retention_days)
    return await_match(find_log_group, aws, want)


def _left_by_lambda(aws: Cloud, name: str, tags: Mapping[str, str]) -> bool:
    """Is it the group of a function with our name, and does no tag say that it is somebody's?

    Tags that an organisation puts on everything don't count.
    """
    return name.startswith(OF_LAMBDA + aws.prefix) and not tags.keys() & set(OWNERSHIP)


def _found(aws: Cloud, key: str, group: Mapping[str, Any], tags: Mapping[str, str]) -> Found:
    name = group["logGroupName"]
    days = group.get("retentionInDays")
    # A value that AWS adds some day is no bad input.
    state = LogGroup(key=key, name=name, retention_days=days if days in RETENTIONS else None)
    return Found(state=state, ids={"id": name, "name": name, "arn": _arn(aws, name)}, tags=tags)


def _groups(aws: Cloud) -> dict[str, Mapping[str, Any]]:
    """All groups whose name could be ours, by name: those of our services and of the project's own folder."""

    def read() -> dict[str, Mapping[str, Any]]:
        pages = aws.logs.get_paginator("describe_log_groups").paginate(logGroupNamePattern=PROJECT)
        groups = {group["logGroupName"]: group for page in pages for group in page["logGroups"]}
        return {name: group for name, group in groups.items() if aws.prefix in name or f"/{PROJECT}/{aws.env}/" in name}

    return aws.shared("logs.groups", read)


def _tags(aws: Cloud, name: str) -> dict[str, str] | None:
    """All tags; `None` if the group is gone."""
    answer = unless_gone(GONE, aws.logs.list_tags_for_resource, resourceArn=_arn(aws, name))
    return None if answer is None else answer.get("tags", {})


def _arn(aws: Cloud, name: str) -> str:
    """The group's ARN as tags and access logs want it; with `:*` behind it, it stands for the streams."""
    return aws.arn("logs", f"log-group:{name}")
