"""What is published: an alias on a version of a function, and who may invoke it.

A version is a frozen copy of `$LATEST`. The alias says what it wants to be published, field by field; if the version
behind it differs (old code, an old variable, an alias moved by hand), a new version is published and the alias moves
there in one step, so that no request meets half a change. Publishing what is published already gives the same version
again, so dying in between costs nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Ref, Resource, at_create, reconciles
from aistratus.resources.calls import unless_gone
from aistratus.resources.lambda_code import FUNCTION_FREE, GONE, Function, change, ready, settings

LATEST = "$LATEST"
KEPT_VERSIONS = 3
"""The newest ones stay for a way back; every version's zip counts towards the account's 75 GB."""


def function_name(aws: Cloud, value: Ref | str) -> str:
    """The name of the function that a field stands for: a `Ref` to it or to its alias, its name, or an ARN."""
    if isinstance(value, str):
        return value.partition(":function:")[2].partition(":")[0] or value
    if isinstance(value.to, Alias):
        return function_name(aws, value.to.function)
    if isinstance(value.to, Function):
        return aws.name(value.to.name)
    raise TypeError(f"{value!r} is neither a function nor an alias")


def function_arn(aws: Cloud, value: Ref | str) -> str:
    """The ARN that a field stands for, qualified if it is an alias's."""
    if isinstance(value, str):
        return value
    name = function_name(aws, value)
    qualifier = f":{value.to.name}" if isinstance(value.to, Alias) else ""
    return aws.arn("lambda", f"function:{name}{qualifier}")


# --- aliases ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Alias(Resource):
    """An alias and the version behind it.

    function: name of the function.
    published: False would be an alias on `$LATEST`, which follows every half-done change.
    routing: share of requests (0 to 1) by the other versions that get one.

    All others say what the published version must hold, as in `Function`; `None` is not looked at.
    """

    function: Ref | str
    name: str = "live"
    code_sha256: str
    handler: str | None = None
    role: Ref | str | None = None
    runtime: str | None = None
    architecture: str | None = None
    memory_mb: int | None = None
    timeout_s: int | None = None
    environment: Mapping[str, str | Ref] | None = None
    log_group: Ref | str | None = None
    published: bool = True
    routing: Mapping[str, float] = field(default_factory=dict)

    replace_on: ClassVar[frozenset[str]] = frozenset({"function", "name"})


def find_alias(aws: Cloud, want: Alias) -> Found | None:
    """By the function's name and its own."""
    function = function_name(aws, want.function)
    alias = unless_gone(GONE, aws.lambda_.get_alias, FunctionName=function, Name=want.name)
    if alias is None:
        return None
    version = alias["FunctionVersion"]
    config = unless_gone(GONE, aws.lambda_.get_function_configuration, FunctionName=function, Qualifier=version)
    if config is None:
        return None  # the function went away between the two calls
    state = Alias(
        key=want.key,
        function=function,
        name=want.name,
        published=version != LATEST,
        routing=alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {}),
        **settings(config),
    )
    ids = {"id": f"{function}:{want.name}", "arn": alias["AliasArn"], "version": version, "function": function}
    return Found(state=state, ids=ids)


def remove_alias(aws: Cloud, have: Found) -> None:
    """Removes the alias and the permissions on it; its versions go with the function."""
    function, _, name = have.ids["id"].rpartition(":")
    unless_gone(GONE, lambda: change(aws, aws.lambda_.delete_alias, FunctionName=function, Name=name))


@reconciles(Alias, find=find_alias, remove=remove_alias)
def ensure_alias(aws: Cloud, want: Alias, have: Found | None, changes: frozenset[str]) -> Found:
    function = function_name(aws, want.function)
    # The digest makes Lambda refuse if somebody uploaded other code since it was compared.
    version = change(aws, aws.lambda_.publish_version, FunctionName=function, CodeSha256=want.code_sha256)["Version"]
    ready(aws, function, Qualifier=version)
    # Before the alias moves: a run that dies here is seen to be unfinished, so that the next one tidies up.
    _remove_old_versions(aws, function)
    if have is None:
        have = aws.create_once(
            "lambda",
            "create_alias",
            look=lambda cloud: find_alias(cloud, want),
            taken={"ResourceConflictException"},
            settling=FUNCTION_FREE,
            FunctionName=function,
            Name=want.name,
            FunctionVersion=version,
        )
    if have.ids["version"] != version or diff(want, have, {}):
        change(
            aws,
            aws.lambda_.update_alias,
            FunctionName=function,
            Name=want.name,
            FunctionVersion=version,
            RoutingConfig={"AdditionalVersionWeights": dict(want.routing)},
        )
    return await_match(find_alias, aws, want)


def _remove_old_versions(aws: Cloud, function: str) -> None:
    """Removes what is older than the last few, unless an alias still leads there."""
    in_use = {LATEST}
    for page in aws.lambda_.get_paginator("list_aliases").paginate(FunctionName=function):
        for alias in page.get("Aliases", []):
            in_use |= {alias["FunctionVersion"], *alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})}
    pages = aws.lambda_.get_paginator("list_versions_by_function").paginate(FunctionName=function)
    versions = [entry["Version"] for page in pages for entry in page.get("Versions", []) if entry["Version"] != LATEST]
    for version in sorted(versions, key=int)[:-KEPT_VERSIONS]:
        if version not in in_use:
            # An alias that somebody moved there meanwhile makes Lambda refuse, and the version stays: as it should.
            unless_gone(
                GONE | {"ResourceConflictException"},
                aws.lambda_.delete_function,
                FunctionName=function,
                Qualifier=version,
            )


# --- permissions ------------------------------------------------------------------------------------------------


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
    function = function_name(aws, want.function)
    answer = unless_gone(GONE, aws.lambda_.get_policy, FunctionName=function, Qualifier=want.qualifier)
    statements = json.loads(answer["Policy"])["Statement"] if answer else []
    statement = next((entry for entry in statements if entry.get("Sid") == want.statement_id), None)
    if statement is None:
        return None
    api, path = _source(aws, statement.get("Condition", {}))
    state = InvokePermission(
        key=want.key,
        function=function,
        qualifier=want.qualifier,
        api=api,
        path=path or want.path,
        principal=_single(statement.get("Principal", ""), "Service"),
        action=_single(statement.get("Action", "")),
        statement_id=want.statement_id,
    )
    return Found(state=state, ids={"id": want.statement_id, "function": function, "qualifier": want.qualifier})


def remove_permission(aws: Cloud, have: Found) -> None:
    statement = {
        "FunctionName": have.ids["function"],
        "Qualifier": have.ids["qualifier"],
        "StatementId": have.ids["id"],
    }
    unless_gone(GONE, lambda: change(aws, aws.lambda_.remove_permission, **statement))


@reconciles(InvokePermission, find=find_permission, remove=remove_permission)
def ensure_permission(aws: Cloud, want: InvokePermission, have: Found | None, changes: frozenset[str]) -> Found:
    if have is not None:
        remove_permission(aws, have)  # a statement can't be changed, and its id is given out once
    aws.create_once(
        "lambda",
        "add_permission",
        look=lambda cloud: find_permission(cloud, want),
        taken={"ResourceConflictException"},
        settling=FUNCTION_FREE,
        FunctionName=function_name(aws, want.function),
        Qualifier=want.qualifier,
        StatementId=want.statement_id,
        Action=want.action,
        Principal=want.principal,
        SourceArn=aws.arn("execute-api", f"{want.api}/{want.path}"),
    )
    return await_match(find_permission, aws, want)


def _source(aws: Cloud, condition: Mapping[str, Any]) -> tuple[str, str]:
    """API and path of a condition in the form that `SourceArn` gives it; any other as its JSON text and no path."""
    test = condition.get("ArnLike", {}) if len(condition) == 1 else {}
    sources = [value for name, value in test.items() if name.lower() == "aws:sourcearn"]
    if len(test) == 1 and len(sources) == 1 and isinstance(sources[0], str):
        match = re.fullmatch(re.escape(aws.arn("execute-api", "")) + r"([^/]+)/(.+)", sources[0])
        if match:
            return match[1], match[2]
    return json.dumps(condition, sort_keys=True), ""


def _single(value: Any, inside: str = "") -> str:
    """A text, a list of one, or a mapping of just `inside` to one of these; any other as its JSON text."""
    if inside and isinstance(value, Mapping) and set(value) == {inside}:
        value = value[inside]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
