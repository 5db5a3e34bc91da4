"""Lambda functions: the code and configuration that `$LATEST` holds.

Users are served by a published version behind an alias (`lambda_aliases.py`); this file reconciles what is to be
published. The package is compared by Lambda's own digest on every run, so old code can't stay. Lambda answers before it
is done: every change is followed by a wait until the function is ready, and a call that comes too early is retried.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.errors import Failure
from aistratus.core.resource import Found, Ref, Resource, at_create, reconciles
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import unless_gone
from aistratus.resources.iam import owned_roles

GONE = frozenset({"ResourceNotFoundException"})
LAMBDA = "lambda.amazonaws.com"

RUNTIME = "python3.14"
"""The newest Python that Lambda documents. Source: Lambda developer guide, "Lambda runtimes"."""

ROLE_USABLE = Wait(
    what="Lambda can assume the function's role",
    within=90,
    codes=frozenset({"InvalidParameterValueException"}),
    saying="cannot be assumed by Lambda",
)
"""A new role, or one whose trust was just changed, is known to Lambda about 10 s later.

Source: IAM user guide, "Changes that I make are not always immediately visible".
"""

FUNCTION_FREE = Wait(
    what="Lambda ends another change of the function",
    within=180,
    codes=frozenset({"ResourceConflictException"}),
    saying=r"(?i)cannot be performed at this time|in progress|state: pending|being created|being updated|concurrent",
)
"""While a function is `Pending` or an update is `InProgress`, Lambda refuses the next change; two at once too, also
two statements of its policy ("due to a concurrent update operation").

`saying` leaves out "already exists", the other meaning of the code.

Source: Lambda developer guide, "Lambda function states"; terraform-provider-aws issue 5154, sst issue 6923.
"""

ROLE_ID = "ROLE_ID"
"""A variable that no program reads: the `unique` id of the function's role. It shows a role that was made anew.

Lambda lets just the role with this id decrypt the function's variables. If the role is deleted and made again under the
same name, the function can't start any more. Source: as for `_lend_another_role`.
"""

ANOTHER_ROLE = Wait(what="another role of this env that Lambda may assume is there", within=60)
"""Several may have been lost at once, and are made beside each other."""

FUNCTION_READY = Wait(what="the function is ready", within=180, codes=GONE, first=0.3)
"""Seconds as a rule. A version that was just published may not be known everywhere yet."""


@dataclass(frozen=True, kw_only=True)
class Function(Resource):
    """A function named `tinyllama-<env>-<name>`.

    name: the key unless given.
    code: gives the zip; asked only when it must be uploaded.
    code_sha256: the zip's SHA-256 in base64, as Lambda states it.
    role: ARN of the role that it runs with.
    architecture: `arm64` or `x86_64`.
    memory_mb: MiB, 128 to 10240; processor time grows with it.
    timeout_s: seconds, 1 to 900.
    environment: its variables, at most 4 KB together.
    log_group: name of the group that its output goes to.
    log_format: `Text` or `JSON`.
    tracing: `Active` or `PassThrough`.
    reserved_concurrency: how many run at once at most, taken out of the account's pool.
    """

    name: str = ""
    code: Callable[[], bytes] = at_create()
    code_sha256: str
    handler: str
    role: Ref | str
    runtime: str = RUNTIME
    architecture: str = "arm64"
    description: str = ""
    memory_mb: int = 256
    timeout_s: int = 10
    environment: Mapping[str, str | Ref] = field(default_factory=dict)
    log_group: Ref | str | None = None
    log_format: str | None = "Text"
    tracing: str | None = None
    reserved_concurrency: int | None = None

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.key.replace("_", "-"))


def find_function(aws: Cloud, want: Function) -> Found | None:
    """By name."""
    name = aws.name(want.name)
    answer = unless_gone(GONE, aws.lambda_.get_function, FunctionName=name)
    if answer is None:
        return None
    config, tags = answer["Configuration"], answer.get("Tags", {})
    aws.require_ours("function", name, tags, want.key)
    state = Function(
        key=want.key,
        name=want.name,
        code=want.code,
        description=config.get("Description", ""),
        log_format=config.get("LoggingConfig", {}).get("LogFormat"),
        tracing=config.get("TracingConfig", {}).get("Mode"),
        reserved_concurrency=answer.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
        **settings(config),
    )
    return Found(state=state, ids=_ids(name, config["FunctionArn"]), tags=tags, health=_health(config))


def owned_functions(aws: Cloud) -> list[Found]:
    """By tags, among the functions with our name."""
    owned = []
    for page in aws.lambda_.get_paginator("list_functions").paginate():
        for config in page.get("Functions", []):
            name, arn = config["FunctionName"], config["FunctionArn"]
            if not name.startswith(aws.prefix):
                continue
            answer = unless_gone(GONE, aws.lambda_.list_tags, Resource=arn)
            tags = answer.get("Tags", {}) if answer else {}
            if aws.owns(tags):
                state = Function(
                    key=tags["aistratus:key"], name=name.removeprefix(aws.prefix), code=bytes, **settings(config)
                )
                owned.append(Found(state=state, ids=_ids(name, arn), tags=tags))
    return owned


def remove_function(aws: Cloud, have: Found) -> None:
    """Removes it with all versions and aliases, and the permissions that hang on them."""
    unless_gone(GONE, lambda: change(aws, aws.lambda_.delete_function, FunctionName=have.ids["name"]))


@reconciles(Function, find=find_function, remove=remove_function, owned=owned_functions)
def ensure_function(aws: Cloud, want: Function, have: Found | None, changes: frozenset[str]) -> Found:
    name = aws.name(want.name)
    if have is None:
        have = aws.create_once(
            "lambda",
            "create_function",
            look=lambda cloud: find_function(cloud, want),
            taken={"ResourceConflictException"},
            settling=ROLE_USABLE,
            FunctionName=name,
            PackageType="Zip",
            Code={"ZipFile": _package(want)},
            Architectures=[want.architecture],
            Tags=aws.tags(want.key),
            **_configuration(want, CONFIGURATION),
        )
        ready(aws, name)
        changes = frozenset(entry.field for entry in diff(want, have, aws.tags(want.key)))
    _repair(aws, want, have, changes)
    return await_match(find_function, aws, want)


def _repair(aws: Cloud, want: Function, have: Found, changes: frozenset[str]) -> None:
    """Configuration and code are two calls, and the second has to wait for the first."""
    name = aws.name(want.name)
    if "environment" in changes and _role_is_another(want, have):
        _lend_another_role(aws, want, name)
        changes |= {"role"}
    if configuration := _configuration(want, changes):
        change(aws, aws.lambda_.update_function_configuration, FunctionName=name, **configuration)
        ready(aws, name)
    if changes & {"code_sha256", "architecture"}:
        # The architecture changes only together with the code.
        change(
            aws,
            aws.lambda_.update_function_code,
            FunctionName=name,
            ZipFile=_package(want),
            Architectures=[want.architecture],
        )
        ready(aws, name)
    if "reserved_concurrency" in changes:
        change(
            aws,
            aws.lambda_.put_function_concurrency,
            FunctionName=name,
            ReservedConcurrentExecutions=want.reserved_concurrency,
        )
    if "tags" in changes:
        aws.lambda_.tag_resource(Resource=have.ids["arn"], Tags=aws.tags(want.key))


def _role_is_another(want: Function, have: Found) -> bool:
    """Was its role deleted, and another one made under the same name, since its variables were written?"""
    assert isinstance(have.state, Function)
    before = have.state.environment.get(ROLE_ID)
    return before is not None and before != want.environment.get(ROLE_ID)


def _lend_another_role(aws: Cloud, want: Function, name: str) -> None:
    """Gives the function another of our roles for the moment until it gets its own: then Lambda renews its grant.

    What is published keeps running as it is; nobody calls what isn't, but the guard's rules, whose next call mends it.
    Source: AWS re:Post, knowledge center, "How do I resolve KMSAccessDeniedException errors from Lambda?".
    """

    def other() -> str | None:
        roles = [role for role in owned_roles(aws.fresh()) if role.ids["arn"] != want.role]
        usable = (role for role in roles if LAMBDA in json.dumps(getattr(role.state, "trust", {})))
        return next((role.ids["arn"] for role in usable), None)

    role = until(ANOTHER_ROLE, other, clock=aws.clock)
    change(aws, aws.lambda_.update_function_configuration, FunctionName=name, Role=role)
    ready(aws, name)


def _package(want: Function) -> bytes:
    """The zip.

    Raises:
        Failure: it isn't the one that was planned with.
    """
    package = want.code()
    digest = base64.b64encode(hashlib.sha256(package).digest()).decode()
    if digest != want.code_sha256:
        raise Failure(f"the package of {want.key} changed while it was being deployed", todo="run the command again")
    return package


CONFIGURATION = frozenset({
    "handler", "role", "runtime", "description", "memory_mb", "timeout_s", "environment", "log_group", "log_format",
    "tracing",
})  # fmt: skip


def _configuration(want: Function, fields: frozenset[str]) -> dict[str, Any]:
    """These fields as Lambda takes them; what isn't managed is left out."""
    logging = {"LogFormat": want.log_format, "LogGroup": want.log_group}
    logging = {name: value for name, value in logging.items() if value is not None}
    encoded: dict[str, tuple[str, Any]] = {
        "handler": ("Handler", want.handler),
        "role": ("Role", want.role),
        "runtime": ("Runtime", want.runtime),
        "description": ("Description", want.description),
        "memory_mb": ("MemorySize", want.memory_mb),
        "timeout_s": ("Timeout", want.timeout_s),
        "environment": ("Environment", {"Variables": dict(want.environment)}),
        "log_group": ("LoggingConfig", logging or None),
        "log_format": ("LoggingConfig", logging or None),
        "tracing": ("TracingConfig", {"Mode": want.tracing} if want.tracing else None),
    }
    return dict(encoded[name] for name in sorted(fields & encoded.keys()) if encoded[name][1] is not None)


# --- what versions and aliases share with functions -----------------------------------------------------------


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a version has been published with, from Lambda's description of it."""
    return {
        "code_sha256": config["CodeSha256"],
        "handler": config.get("Handler", ""),
        "role": config.get("Role", ""),
        "runtime": config.get("Runtime", ""),
        "architecture": config.get("Architectures", ["x86_64"])[0],
        "memory_mb": config["MemorySize"],
        "timeout_s": config["Timeout"],
        "environment": config.get("Environment", {}).get("Variables", {}),
        "log_group": config.get("LoggingConfig", {}).get("LogGroup"),
    }


def change(aws: Cloud, call: Callable[..., Any], **params: Any) -> Any:
    """A call that changes a function; waits for other changes of it, and until its role can be assumed."""
    return settle(FUNCTION_FREE, lambda: settle(ROLE_USABLE, call, clock=aws.clock, **params), clock=aws.clock)


def ready(aws: Cloud, name: str, **qualifier: str) -> None:
    """Waits until the function (or its version `Qualifier`) can be used and changed.

    Raises:
        Failure: Lambda gave it up; its reason is in the sentence.
    """

    def probe() -> bool | None:
        config = aws.lambda_.get_function_configuration(FunctionName=name, **qualifier)
        health = _health(config)
        if health == "failed":
            reason = config.get("LastUpdateStatusReason") or config.get("StateReason") or "no reason given"
            raise Failure(f"Lambda couldn't make the function {name} ready: {reason}")
        return True if health == "ok" else None

    until(FUNCTION_READY, probe, clock=aws.clock)


def _health(config: Mapping[str, Any]) -> str:
    """`Inactive` is a function that nobody has called for long: Lambda wakes it by itself."""
    states = {config.get("State"), config.get("LastUpdateStatus")}
    if "Failed" in states:
        return "failed"
    return "starting" if states & {"Pending", "InProgress"} else "ok"


def _ids(name: str, arn: str) -> dict[str, str]:
    return {"id": name, "name": name, "arn": arn}
