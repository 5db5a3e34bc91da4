"""Aliases: the published version of a function.

A version is an immutable copy of `$LATEST`. The alias declares the content to be published, field by field; if the
version behind it differs (old code, an old variable, an alias moved by hand), a new version is published and the alias
moves there in one step, so that no request meets half a change. Publishing unchanged content returns the same version,
so a run that dies in between costs nothing.

Provisioned concurrency belongs to the alias and moves with it: Lambda prepares environments of the new version while
those of the old one still answer. Meanwhile it gives the alias weights of its own, which aren't drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.errors import Failure
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import at_once, unless_gone
from aistratus.resources.lambda_code import FUNCTION_FREE, GONE, Function, change, ready, settings

LATEST = "$LATEST"
NOT_PROVISIONED = GONE | {"ProvisionedConcurrencyConfigNotFoundException"}

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
    provisioned: environments that Lambda keeps ready, paid by the hour; 0: none.

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
    provisioned: int = 0

    replace_on: ClassVar[frozenset[str]] = frozenset({"function", "name"})


def find_alias(aws: Cloud, want: Alias) -> Found | None:
    """By the function's name and its own."""
    function = function_name(aws, want.function)
    alias, provisioned = at_once(
        lambda: unless_gone(GONE, aws.lambda_.get_alias, FunctionName=function, Name=want.name),
        lambda: _provisioned(aws, function, want.name),
    )
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
        routing=want.routing if provisioned["Status"] == IN_PROGRESS else _weights(alias),
        # What failed is neither there nor gone: whatever is wanted, it differs.
        provisioned=0 if provisioned["Status"] == FAILED and want.provisioned else provisioned[REQUESTED],
        **settings(config),
    )
    ids = {"id": f"{function}:{want.name}", "arn": alias["AliasArn"], "version": version, "function": function}
    return Found(state=state, ids=ids, health=HEALTH[provisioned["Status"]])


def remove_alias(aws: Cloud, have: Found) -> None:
    """Removes the alias, what is kept ready for it and the permissions on it; its versions go with the function."""
    function, _, name = have.ids["id"].rpartition(":")
    if _is_provisioned(have):
        _unprovision(aws, function, name)
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
    if want.provisioned == 0 and _is_provisioned(have):
        _unprovision(aws, function, want.name)
    if have.ids["version"] != version or diff(want, have, {}):
        change(
            aws,
            aws.lambda_.update_alias,
            FunctionName=function,
            Name=want.name,
            FunctionVersion=version,
            RoutingConfig={"AdditionalVersionWeights": dict(want.routing)},
        )
    _keep_ready(aws, function, want)
    return await_match(find_alias, aws, want)


# --- provisioned concurrency ------------------------------------------------------------------------------------

IN_PROGRESS = "IN_PROGRESS"
FAILED = "FAILED"
REQUESTED = "RequestedProvisionedConcurrentExecutions"
NONE = {REQUESTED: 0, "Status": "READY"}
HEALTH = {"READY": "ok", IN_PROGRESS: "starting", FAILED: "failed"}

ALIAS_MOVED = Wait(
    what="Lambda has moved the provisioned environments to the alias's new version",
    within=900,
    codes=frozenset({"InvalidParameterValueException"}),
    saying=r"(?i)alias with weights",
    longest=10.0,
)
"""Until then the alias has weights, with which their number can't be changed.

Source: terraform-provider-aws pull request 48116.
"""

PROVISIONED_READY = Wait(what="Lambda has the provisioned environments ready", within=900, longest=10.0)
"""A few minutes as a rule, more for many. Source: Lambda developer guide, "Configuring provisioned concurrency"."""


def _keep_ready(aws: Cloud, function: str, want: Alias) -> None:
    """As many environments as are wanted, and waits until they are ready: also for those that moved with the alias.

    Raises:
        Failure: Lambda gave it up; its reason is in the sentence.
    """
    if want.provisioned == 0:
        return
    have = _provisioned(aws, function, want.name)
    if have[REQUESTED] != want.provisioned or have["Status"] == FAILED:
        wanted = {
            "FunctionName": function,
            "Qualifier": want.name,
            "ProvisionedConcurrentExecutions": want.provisioned,
        }
        put = aws.lambda_.put_provisioned_concurrency_config
        settle(ALIAS_MOVED, lambda: change(aws, put, **wanted), clock=aws.clock)

    def probe() -> bool | None:
        now = _provisioned(aws, function, want.name)
        if now["Status"] == FAILED:
            reason = now.get("StatusReason") or "no reason given"
            raise Failure(
                f"Lambda couldn't get {want.provisioned} environments of {function}:{want.name} ready: {reason}",
                todo="run the command again, or set router.provisioned_concurrency to 0",
            )
        return True if now["Status"] == "READY" else None

    until(PROVISIONED_READY, probe, clock=aws.clock)


def _provisioned(aws: Cloud, function: str, alias: str) -> Mapping[str, Any]:
    """What Lambda keeps ready for the alias; `NONE` if nothing was asked for."""
    call = aws.lambda_.get_provisioned_concurrency_config
    found: Mapping[str, Any] | None = unless_gone(NOT_PROVISIONED, call, FunctionName=function, Qualifier=alias)
    return NONE if found is None else found


def _weights(alias: Mapping[str, Any]) -> dict[str, float]:
    """Shares of requests by version, of those that the alias doesn't lead to by itself."""
    weights: dict[str, float] = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    return weights


def _is_provisioned(alias: Found) -> bool:
    """Is anything kept ready for it, or was it tried?"""
    assert isinstance(alias.state, Alias)
    return alias.state.provisioned > 0 or alias.health == HEALTH[FAILED]


def _unprovision(aws: Cloud, function: str, alias: str) -> None:
    call = aws.lambda_.delete_provisioned_concurrency_config
    unless_gone(NOT_PROVISIONED, lambda: change(aws, call, FunctionName=function, Qualifier=alias))


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
