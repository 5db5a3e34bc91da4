"""Who may invoke a function: statements in its own policy, or in that of one of its aliases.

Each qualifier has a policy of its own, and one call reads all of its statements. A statement can't be changed and its
id is unique, so it is repaired by removing and adding it again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.resource import Found, Ref, Resource, at_create, reconciles
from aistratus.resources.calls import unless_gone
from aistratus.resources.lambda_aliases import function_name
from aistratus.resources.lambda_code import FUNCTION_FREE, GONE, change

Statement = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class InvokePermission(Resource):
    """A statement in an alias's own policy that lets one HTTP API invoke it, and nobody else's.

    function: name of the function.
    alias: the alias; it only says what must be there first.
    api: id of the API.
    path: which of its stages and routes, as execute-api ARNs end: `<stage>/<METHOD>/<path>`.
    statement_id: the key unless given.
    """

    function: Ref | str
    qualifier: str = "live"
    alias: Ref | str | None = at_create(default=None)
    api: Ref | str
    path: str = "*/*"
    principal: str = "apigateway.amazonaws.com"
    action: str = "lambda:InvokeFunction"
    statement_id: str = ""

    replace_on: ClassVar[frozenset[str]] = frozenset({"function", "qualifier", "statement_id"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "statement_id", self.statement_id or self.key)


def find_permission(aws: Cloud, want: InvokePermission) -> Found | None:
    """By its statement id in the alias's policy."""
    statement = _statement(aws, want)
    if statement is None:
        return None
    api, path = _api(aws, _source(statement))
    state = InvokePermission(
        key=want.key,
        function=function_name(aws, want.function),
        qualifier=want.qualifier,
        api=api,
        path=path or want.path,
        principal=_single(statement.get("Principal", ""), "Service"),
        action=_single(statement.get("Action", "")),
        statement_id=want.statement_id,
    )
    return Found(state=state, ids=_ids(aws, want))


def remove_permission(aws: Cloud, have: Found) -> None:
    """Takes the statement away."""
    where = _where(have.ids["function"], have.ids["qualifier"])
    unless_gone(GONE, lambda: change(aws, aws.lambda_.remove_permission, StatementId=have.ids["id"], **where))


@reconciles(InvokePermission, find=find_permission, remove=remove_permission)
def ensure_permission(aws: Cloud, want: InvokePermission, have: Found | None, changes: frozenset[str]) -> Found:
    if have is not None:
        remove_permission(aws, have)
    source = aws.arn("execute-api", f"{want.api}/{want.path}")
    aws.create_once(
        "lambda", "add_permission", look=lambda cloud: find_permission(cloud, want), **_added(aws, want, source)
    )
    return await_match(find_permission, aws, want)


@dataclass(frozen=True, kw_only=True)
class ServicePermission(Resource):
    """A statement that lets an AWS service invoke a function on behalf of one thing, and of nothing else.

    function: name of the function.
    qualifier: the alias in whose policy it stands; empty for the function's own (calls without a qualifier).
    alias: the alias; it only says what must be there first.
    principal: the service, such as `sns.amazonaws.com` or `events.amazonaws.com`.
    source_arn: ARN of the topic, rule … for which the service calls.
    statement_id: the key unless given.
    """

    function: Ref | str
    qualifier: str = ""
    alias: Ref | str | None = at_create(default=None)
    principal: str
    source_arn: Ref | str
    action: str = "lambda:InvokeFunction"
    statement_id: str = ""

    replace_on: ClassVar[frozenset[str]] = frozenset({"function", "qualifier", "statement_id"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "statement_id", self.statement_id or self.key)


def find_service_permission(aws: Cloud, want: ServicePermission) -> Found | None:
    """By its statement id in the function's or the alias's policy."""
    statement = _statement(aws, want)
    if statement is None:
        return None
    state = ServicePermission(
        key=want.key,
        function=function_name(aws, want.function),
        qualifier=want.qualifier,
        principal=_single(statement.get("Principal", ""), "Service"),
        source_arn=_source(statement),
        action=_single(statement.get("Action", "")),
        statement_id=want.statement_id,
    )
    return Found(state=state, ids=_ids(aws, want))


@reconciles(ServicePermission, find=find_service_permission, remove=remove_permission)
def ensure_service_permission(
    aws: Cloud, want: ServicePermission, have: Found | None, changes: frozenset[str]
) -> Found:
    if have is not None:
        remove_permission(aws, have)
    aws.create_once(
        "lambda",
        "add_permission",
        look=lambda cloud: find_service_permission(cloud, want),
        **_added(aws, want, str(want.source_arn)),
    )
    return await_match(find_service_permission, aws, want)


# --- statements -------------------------------------------------------------------------------------------------

Permission = InvokePermission | ServicePermission


def _where(function: str, qualifier: str) -> dict[str, str]:
    """The policy that a statement stands in."""
    return {"FunctionName": function, **({"Qualifier": qualifier} if qualifier else {})}


def _ids(aws: Cloud, want: Permission) -> dict[str, str]:
    return {"id": want.statement_id, "function": function_name(aws, want.function), "qualifier": want.qualifier}


def _statement(aws: Cloud, want: Permission) -> Statement | None:
    """The statement of this id; all of one policy come with one call."""
    where = _where(function_name(aws, want.function), want.qualifier)

    def read() -> dict[str, Statement]:
        answer = unless_gone(GONE, aws.lambda_.get_policy, **where)
        statements = json.loads(answer["Policy"])["Statement"] if answer else []
        return {entry["Sid"]: entry for entry in statements if "Sid" in entry}

    return aws.shared(f"lambda.policy {':'.join(where.values())}", read).get(want.statement_id)


def _added(aws: Cloud, want: Permission, source: str) -> dict[str, Any]:
    """What `create_once` and AddPermission are told."""
    return {
        "taken": {"ResourceConflictException"},
        "settling": FUNCTION_FREE,
        **_where(function_name(aws, want.function), want.qualifier),
        "StatementId": want.statement_id,
        "Action": want.action,
        "Principal": want.principal,
        "SourceArn": source,
    }


def _source(statement: Statement) -> str:
    """The ARN of a condition in the form that `SourceArn` gives it; of any other its JSON text."""
    condition = statement.get("Condition", {})
    test = condition.get("ArnLike", {}) if len(condition) == 1 else {}
    sources = [value for name, value in test.items() if name.lower() == "aws:sourcearn"]
    if len(test) == 1 and len(sources) == 1 and isinstance(sources[0], str):
        return sources[0]
    return json.dumps(condition, sort_keys=True)


def _api(aws: Cloud, source: str) -> tuple[str, str]:
    """API and path of an execute-api ARN; any other text and no path."""
    match = re.fullmatch(re.escape(aws.arn("execute-api", "")) + r"([^/]+)/(.+)", source)
    return (match[1], match[2]) if match else (source, "")


def _single(value: Any, inside: str = "") -> str:
    """A text, a list of one, or a mapping of just `inside` to one of these; any other as its JSON text."""
    if inside and isinstance(value, Mapping) and set(value) == {inside}:
        value = value[inside]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
