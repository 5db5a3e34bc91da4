"""From an AWS operation to the IAM actions and resources that IAM checks for it.

This is a table, because so much is irregular: a create call that sets tags is also checked for tagging, passing a role
to a service is `iam:PassRole`, API Gateway's actions are HTTP methods, S3's have other names than its operations, and a
call may touch resources of several types. There is one file for each group of services.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aistratus.permissions.check import Check, Params
from aistratus.permissions.code import API, CODE
from aistratus.permissions.delivery import DELIVERY
from aistratus.permissions.identity import IDENTITY
from aistratus.permissions.network import EC2
from aistratus.permissions.storage import DATA, S3
from aistratus.permissions.watch import WATCH
from aistratus.policies import Names

OPERATIONS: Mapping[str, tuple[Check, ...]] = {**EC2, **S3, **DATA, **IDENTITY, **CODE, **API, **WATCH, **DELIVERY}
"""All operations that our commands and programs make."""


@dataclass(frozen=True)
class Need:
    """One decision of IAM: whether the caller may do this action on that resource.

    tags: the tags that the request carries; they count for resources that are being made.
    tagged: the policy may ask for the resource's own tags.
    """

    action: str
    resource: str
    tags: Mapping[str, str] = field(default_factory=dict)
    tagged: bool = False
    context: Mapping[str, str] = field(default_factory=dict)


def needs(
    names: Names, service: str, operation: str, params: Params, *, by: Literal["program", "operator"] = "operator"
) -> list[Need]:
    """What IAM checks for one call; nothing for the few that need no permission.

    Raises:
        KeyError: the operation isn't in the table.
    """
    tags = request_tags(params)
    return [
        Need(
            check.action,
            check.resource.one(names, identity),
            tags=tags if check.state == "made" else {},
            tagged=check.resource.tagged and check.state == "there",
            context={**dict(check.context), **about, **_attribute(check.action, params)},
        )
        for check in OPERATIONS[f"{service}:{operation}"]
        if check.by in ("all", by) and (not check.when or _search(check.when, params))
        for identity in _ids(check, params)
        for about in _item_keys(check.action, params)
    ]


def _item_keys(action: str, params: Params) -> list[dict[str, str]]:
    """The keys of the items that a DynamoDB call touches, one by one: a policy may allow some items only."""
    batch = [key for asked in params.get("RequestItems", {}).values() for key in asked.get("Keys", [])]
    keys = batch or [params.get("Key") or params.get("Item") or {}]
    named = [next(iter(key.get("pk", {}).values()), None) for key in keys if action.startswith("dynamodb:")]
    return [{"dynamodb:LeadingKeys": str(one)} for one in named if one is not None] or [{}]


def _attribute(action: str, params: Params) -> dict[str, str]:
    """The attribute that a call on an instance sets, where it is a plain value: a policy may allow some values only.

    Source: EC2 user guide, "Control access to EC2 resources": `ec2:Attribute/<name>` for attributes with a `Value`.
    """
    if action != "ec2:ModifyInstanceAttribute":
        return {}
    plain = {name: given for name, given in params.items() if isinstance(given, Mapping) and set(given) == {"Value"}}
    return {f"ec2:Attribute/{name}": str(given["Value"]) for name, given in plain.items()}


def request_tags(params: Params) -> dict[str, str]:
    """The tags that a call sets on what it creates, in whatever form the service takes them."""
    for name in ("Tags", "tags", "UserPoolTags", "ResourceTags"):
        if name in params:
            return _plain(params[name])
    specified = params.get("TagSpecifications") or []
    return _plain(specified[0]["Tags"]) if specified else {}


def _plain(tags: Any) -> dict[str, str]:
    if isinstance(tags, Mapping):
        return {str(name): str(value) for name, value in tags.items()}
    return {tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value")) for tag in tags}


def _ids(check: Check, params: Params) -> list[str]:
    found = check.ids(params) if callable(check.ids) else _search(check.ids, params)
    listed = found if isinstance(found, list) else [found]
    return [str(entry) for entry in listed if entry is not None] or ["*"]


def _search(expression: str, params: Params) -> Any:
    import jmespath  # comes with the SDK; here, so that help texts don't pay for it

    return jmespath.search(expression, params)
