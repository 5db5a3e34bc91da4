"""CloudWatch dashboards.

All dashboards of an account stand in one namespace, whatever their region: the same env in two regions would share
one. The tag with the region tells whose it is, as it does for IAM's roles. Source: CloudWatch API reference,
PutDashboard: "All dashboards in your account are global, not region-specific."

Three dashboards of up to 50 metrics each are free, every further one costs $3 a month.
Source: aws.amazon.com/cloudwatch/pricing, "Dashboards" (read 2026-11).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Resource, reconciles
from aistratus.resources.calls import at_once, tag_list, tag_mapping, unless_gone

GONE = frozenset({"ResourceNotFound", "ResourceNotFoundException", "DashboardNotFoundError"})
"""GetDashboard says the first, ListTagsForResource the second."""

CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


@dataclass(frozen=True, kw_only=True)
class Dashboard(Resource):
    """A dashboard named `tinyllama-<env>-<name>`.

    body: its widgets as CloudWatch's JSON says them, with lists for arrays; compared as what it says, however it is
        written. Source: CloudWatch API reference, "Dashboard Body Structure and Syntax".
    """

    name: str
    body: Mapping[str, Any]

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})


def find_dashboard(aws: Cloud, want: Dashboard) -> Found | None:
    """By name."""
    name = aws.name(want.name)
    body, tags = at_once(
        lambda: unless_gone(GONE, aws.cloudwatch.get_dashboard, DashboardName=name), lambda: _tags(aws, name)
    )
    if body is None or tags is None:
        return None
    aws.require_ours("dashboard", name, tags, want.key)
    state = Dashboard(key=want.key, name=want.name, body=json.loads(body["DashboardBody"]))
    return Found(state=state, ids=_ids(aws, name), tags=tags)


def owned_dashboards(aws: Cloud) -> list[Found]:
    """By tags, among the dashboards with our name."""
    pages = aws.cloudwatch.get_paginator("list_dashboards").paginate(DashboardNamePrefix=aws.prefix)
    owned = []
    for name in [entry["DashboardName"] for page in pages for entry in page.get("DashboardEntries", [])]:
        tags = _tags(aws, name)
        if tags is not None and aws.owns(tags):
            state = Dashboard(key=tags["aistratus:key"], name=name.removeprefix(aws.prefix), body={})
            owned.append(Found(state=state, ids=_ids(aws, name), tags=tags))
    return owned


def remove_dashboard(aws: Cloud, have: Found) -> None:
    unless_gone(GONE, aws.cloudwatch.delete_dashboards, DashboardNames=[have.ids["name"]])


@reconciles(Dashboard, find=find_dashboard, remove=remove_dashboard, owned=owned_dashboards)
def ensure_dashboard(aws: Cloud, want: Dashboard, have: Found | None, changes: frozenset[str]) -> Found:
    put: dict[str, Any] = {
        "DashboardName": aws.name(want.name),
        "DashboardBody": json.dumps(want.body, separators=(",", ":")),
    }
    tags = tag_list(aws.tags(want.key))
    if have is None:
        aws.create_once("cloudwatch", "put_dashboard", look=lambda cloud: find_dashboard(cloud, want), Tags=tags, **put)
    elif "body" in changes:
        aws.cloudwatch.put_dashboard(**put)
    if have is not None and "tags" in changes:
        aws.cloudwatch.tag_resource(ResourceARN=have.ids["arn"], Tags=tags)
    return await_match(find_dashboard, aws, want)


def _tags(aws: Cloud, name: str) -> dict[str, str] | None:
    """All tags; `None` if the dashboard is gone."""
    answer = unless_gone(GONE, aws.cloudwatch.list_tags_for_resource, ResourceARN=_arn(aws, name))
    return None if answer is None else tag_mapping(answer.get("Tags"))


def _arn(aws: Cloud, name: str) -> str:
    return aws.arn("cloudwatch", f"dashboard/{name}", region="")


def console_url(aws: Cloud, name: str) -> str:
    """Where people look at it."""
    host = CONSOLES.get(aws.identity.partition, CONSOLES["aws"])
    return f"https://{aws.region}.{host}/cloudwatch/home?region={aws.region}#dashboards/dashboard/{name}"


def _ids(aws: Cloud, name: str) -> dict[str, str]:
    return {"id": name, "name": name, "arn": _arn(aws, name), "url": console_url(aws, name)}
