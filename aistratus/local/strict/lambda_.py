"""Lambda: roles that aren't assumable yet, changes while another is in progress, and sizes."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any, Final
from urllib.parse import unquote

from moto.awslambda.exceptions import InvalidParameterValueException, LambdaClientError
from moto.awslambda.models import LambdaBackend, LambdaFunction, LambdaStorage
from moto.awslambda.responses import LambdaResponse
from moto.iam.models import IAMBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.lambda_requests import ResourceConflict, plain_name
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

_STATES: Final = "https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html"
_LIMITS: Final = "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"
ENVIRONMENT_BYTES: Final = 4_096
ZIP_BYTES: Final = 52_428_800
UNZIPPED_BYTES: Final = 262_144_000

book = Book()


@book.rule(
    "role-not-assumable",
    code="InvalidParameterValueException",
    asked="calls",
    source="https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency",
)
def role_not_assumable(cloud: Cloud, delays: Delays) -> None:
    """A new role, or one whose trust was changed, is unknown to Lambda for a while."""
    name = "role-not-assumable"

    @wrap(IAMBackend, "create_role")
    def create_role(original: Any, backend: Any, role_name: str, *args: Any, **wanted: Any) -> Any:
        role = original(backend, role_name, *args, **wanted)
        delays.born(name, role_name)
        return role

    @wrap(IAMBackend, "update_assume_role_policy")
    def update_trust(original: Any, backend: Any, role_name: str, *args: Any, **wanted: Any) -> Any:
        answer = original(backend, role_name, *args, **wanted)
        delays.born(name, role_name)
        return answer

    def check(wanted: dict[str, Any]) -> None:
        if "Role" in wanted and delays.take(name, wanted["Role"].rsplit("/", 1)[-1]):
            raise InvalidParameterValueException("The role defined for the function cannot be assumed by Lambda.")

    @wrap(LambdaBackend, "create_function")
    def create_function(original: Any, backend: Any, spec: dict[str, Any]) -> Any:
        check(spec)
        return original(backend, spec)

    @wrap(LambdaBackend, "update_function_configuration")
    def update(original: Any, backend: Any, function_name: str, qualifier: Any, body: dict[str, Any]) -> Any:
        check(body)
        return original(backend, function_name, qualifier, body=body)


@book.rule("function-in-progress", code="ResourceConflictException", source=_STATES, asked="calls")
def function_in_progress(cloud: Cloud, delays: Delays) -> None:
    """After each create or update, the next n calls find it `Pending`/`InProgress`; changes among them are refused."""
    name = "function-in-progress"
    pending: set[str] = set()

    def check(backend: Any, function_name: str) -> None:
        arn = backend.get_function(function_name).function_arn
        if delays.take(name, arn):
            raise ResourceConflict(
                f"The operation cannot be performed at this time. An update is in progress for resource: {arn}"
            )

    def begin(backend: Any, function_name: str) -> None:
        delays.born(name, backend.get_function(function_name).function_arn)

    for operation in (
        "update_function_code",
        "update_function_configuration",
        "publish_version",
        "create_alias",
        "update_alias",
    ):

        @wrap(LambdaResponse, operation)
        def change(original: Any, self: Any, operation: str = operation) -> Any:
            function_name = plain_name(unquote(self.path.split("/functions/")[1].split("/")[0]))[0]
            check(self.backend, function_name)
            status, headers, body = original(self)
            if not operation.startswith("update_function"):
                return status, headers, body
            pending.discard(self.backend.get_function(function_name).function_arn)
            begin(self.backend, function_name)
            return status, headers, _in_progress(body, False) if delays.asked(name) else body

    @wrap(LambdaBackend, "create_function")
    def create_function(original: Any, backend: Any, spec: dict[str, Any]) -> Any:
        function = original(backend, spec)
        pending.add(function.function_arn)
        begin(backend, function.function_name)
        return function

    for operation in ("get_function", "get_function_configuration"):

        @wrap(LambdaResponse, operation)
        def read(original: Any, self: Any) -> Any:
            body = original(self)
            function_name = plain_name(unquote(self.path.split("/functions/")[1].split("/")[0]))[0]
            arn = self.backend.get_function(function_name).function_arn
            return _in_progress(body, arn in pending) if delays.take(name, arn) else body


def _in_progress(body: str, new: bool) -> str:
    """A description of a function, or the answer that holds one, as it looks while Lambda is at work."""
    answer = json.loads(body)
    config = answer.get("Configuration", answer)
    config["LastUpdateStatus"] = "InProgress"
    if new:
        config["State"] = "Pending"
    return json.dumps(answer)


@book.rule("environment-size", code="InvalidParameterValueException", source=_LIMITS)
def environment_size(cloud: Cloud, delays: Delays) -> None:
    def check(wanted: dict[str, Any]) -> None:
        variables = (wanted.get("Environment") or {}).get("Variables") or {}
        size = sum(len(key.encode()) + len(value.encode()) for key, value in variables.items())
        if size > ENVIRONMENT_BYTES:
            raise InvalidParameterValueException(
                "Lambda was unable to configure your environment variables because the environment variables you have "
                "provided exceeded the 4KB limit."
            )

    @wrap(LambdaBackend, "create_function")
    def create_function(original: Any, backend: Any, spec: dict[str, Any]) -> Any:
        check(spec)
        return original(backend, spec)

    @wrap(LambdaBackend, "update_function_configuration")
    def update(original: Any, backend: Any, function_name: str, qualifier: Any, body: dict[str, Any]) -> Any:
        check(body)
        return original(backend, function_name, qualifier, body=body)


@book.rule("zip-size", code="RequestEntityTooLargeException", source=_LIMITS)
def zip_size(cloud: Cloud, delays: Delays) -> None:
    @wrap(LambdaFunction, "_set_function_code")
    def set_code(original: Any, function: Any, spec: dict[str, Any]) -> Any:
        if "ZipFile" in spec and len(base64.b64decode(spec["ZipFile"])) > ZIP_BYTES:
            error = LambdaClientError(
                "RequestEntityTooLargeException",
                f"Request must be smaller than {ZIP_BYTES} bytes for the CreateFunction operation",
            )
            error.code = 413
            raise error
        return original(function, spec)


@book.rule("unzipped-size", code="InvalidParameterValueException", source=_LIMITS)
def unzipped_size(cloud: Cloud, delays: Delays) -> None:
    @wrap(LambdaFunction, "_set_function_code")
    def set_code(original: Any, function: Any, spec: dict[str, Any]) -> Any:
        if "ZipFile" in spec and _unzipped(base64.b64decode(spec["ZipFile"])) > UNZIPPED_BYTES:
            raise InvalidParameterValueException(f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes")
        return original(function, spec)


def _unzipped(content: bytes) -> int:
    """Bytes that an archive holds by its own directory; 0 for what is no archive."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return 0
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return sum(entry.file_size for entry in archive.infolist())


@book.rule(
    "provisioned-needs-version",
    code="InvalidParameterValueException",
    source="https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html",
)
def provisioned_needs_version(cloud: Cloud, delays: Delays) -> None:
    """An alias on `$LATEST` is as little a version as `$LATEST` itself."""

    @wrap(LambdaResponse, "put_provisioned_concurrency_config")
    def put(original: Any, self: Any) -> Any:
        function_name = plain_name(unquote(self.path.split("/functions/")[1].split("/")[0]))[0]
        qualifier = self.querystring.get("Qualifier", [""])[0]
        aliases = {one.name: one.function_version for one in self.backend.list_aliases(function_name)}
        if aliases.get(qualifier) == "$LATEST":
            raise InvalidParameterValueException(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
            )
        return original(self)


@book.rule(
    "version-in-use",
    code="ResourceConflictException",
    source="https://docs.aws.amazon.com/lambda/latest/api/API_DeleteFunction.html",
)
def version_in_use(cloud: Cloud, delays: Delays) -> None:
    @wrap(LambdaStorage, "del_function")
    def delete(original: Any, storage: Any, name_or_arn: str, qualifier: str | None = None) -> Any:
        if qualifier:
            users = [one.name for one in storage.list_aliases(name_or_arn) if one.function_version == qualifier]
            if users:
                raise ResourceConflict(f"Version was not able to be deleted. Alias(es) {users} refer to it.")
        return original(storage, name_or_arn, qualifier)


_PROVISIONED: Final = "https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html"


def _provisioned_of(self: Any) -> str:
    """Which configuration a request is about."""
    name = plain_name(unquote(self.path.split("/functions/")[1].split("/")[0]))[0]
    return f"{name}:{self.querystring.get('Qualifier', [''])[0]}"


@book.rule("provisioned-in-progress", source=_PROVISIONED, asked="calls")
def provisioned_in_progress(cloud: Cloud, delays: Delays) -> None:
    """After each change, or when the alias moves, the next n looks find it `IN_PROGRESS`.

    Meanwhile an alias that moved has weights of Lambda's own, with which the number can't be changed.
    """
    name = "provisioned-in-progress"
    moved_from: dict[str, str] = {}

    @wrap(LambdaResponse, "put_provisioned_concurrency_config")
    def put(original: Any, self: Any) -> Any:
        if _provisioned_of(self) in moved_from and delays.take(name, _provisioned_of(self)):
            raise InvalidParameterValueException("Alias with weights can not be used with Provisioned Concurrency")
        moved_from.pop(_provisioned_of(self), None)
        status, headers, body = original(self)
        delays.born(name, _provisioned_of(self))
        return status, headers, _with(body, Status="IN_PROGRESS") if delays.asked(name) else body

    @wrap(LambdaResponse, "get_provisioned_concurrency_config")
    def get(original: Any, self: Any) -> Any:
        status, headers, body = original(self)
        waits = delays.take(name, _provisioned_of(self))
        return status, headers, _with(body, Status="IN_PROGRESS") if waits else body

    @wrap(LambdaResponse, "update_alias")
    def update_alias(original: Any, self: Any) -> Any:
        function, alias = (unquote(part) for part in self.path.split("/functions/")[1].split("/aliases/"))
        function = plain_name(function)[0]
        before = self.backend.get_alias(alias, function).function_version
        answer = original(self)
        after = self.backend.get_alias(alias, function).function_version
        if alias in self.backend._lambdas._functions[function].get("provisioned", {}) and before != after:
            moved_from[f"{function}:{alias}"] = before
            delays.born(name, f"{function}:{alias}")
        return answer

    @wrap(LambdaResponse, "get_alias")
    def get_alias(original: Any, self: Any) -> Any:
        status, headers, body = original(self)
        function, alias = (unquote(part) for part in self.path.split("/functions/")[1].split("/aliases/"))
        key = f"{plain_name(function)[0]}:{alias}"
        if key in moved_from and key in delays.waiting(name):
            weights = {"AdditionalVersionWeights": {moved_from[key]: 1.0}}
            body = json.dumps({**json.loads(body), "RoutingConfig": weights})
        return status, headers, body


@book.rule(
    "policy-changed-at-once",
    code="ResourceConflictException",
    source="https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html",
    asked="calls",
)
def policy_changed_at_once(cloud: Cloud, delays: Delays) -> None:
    """The first n statements for each function come while another one is being added."""

    @wrap(LambdaResponse, "add_permission")
    def add_permission(original: Any, self: Any) -> Any:
        function = plain_name(unquote(self.path.split("/functions/")[1].split("/")[0]))[0]
        if delays.meets("policy-changed-at-once", self.backend.get_function(function).function_arn):
            raise ResourceConflict("The function could not be updated due to a concurrent update operation.")
        return original(self)


@book.rule("provisioning-fails", source=_PROVISIONED, asked="calls")
def provisioning_fails(cloud: Cloud, delays: Delays) -> None:
    """The first n changes for each alias end as `FAILED`, as if the function couldn't start."""
    failed: set[str] = set()

    @wrap(LambdaResponse, "put_provisioned_concurrency_config")
    def put(original: Any, self: Any) -> Any:
        answer = original(self)
        (failed.add if delays.meets("provisioning-fails", _provisioned_of(self)) else failed.discard)(
            _provisioned_of(self)
        )
        return answer

    @wrap(LambdaResponse, "get_provisioned_concurrency_config")
    def get(original: Any, self: Any) -> Any:
        status, headers, body = original(self)
        if _provisioned_of(self) in failed:
            body = _with(body, Status="FAILED", StatusReason="FUNCTION_ERROR_INIT_FAILURE")
        return status, headers, body


def _with(body: str, **fields: str) -> str:
    return json.dumps({**json.loads(body), **fields})


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
