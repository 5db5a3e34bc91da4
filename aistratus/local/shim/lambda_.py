"""Lambda: invocations go to the function runner, and configuration is kept the way AWS keeps it.

moto never runs code without Docker. Here `Invoke` executes the deployed zip in its own process (`local/runner.py`).
The rest are fields and operations that moto drops: a version published twice, statements of an alias mixed with
those of another, settings that an update silently ignores.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from typing import Any
from urllib.parse import unquote

from moto.awslambda import urls
from moto.awslambda.exceptions import (
    GenericResourcNotFound,
    InvalidParameterValueException,
    LambdaClientError,
    UnknownPolicyException,
)
from moto.awslambda.models import LambdaBackend, LambdaFunction, LambdaStorage
from moto.awslambda.responses import LambdaResponse
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.core.config import default_user_config
from moto.core.utils import iso_8601_datetime_with_nanoseconds

from aistratus.local.environment_pool import FunctionUnusable, Throttled
from aistratus.local.runner import FunctionNotFound, PayloadTooLarge
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import add, add_path, wrap

Reply = tuple[int, dict[str, Any], Any]

_UPDATED_BY_CONFIGURATION = (
    ("EphemeralStorage", "ephemeral_storage"),
    ("TracingConfig", "tracing_config"),
    ("LoggingConfig", "logging_config"),
    ("KMSKeyArn", "kms_key_arn"),
)


class ResourceConflict(LambdaClientError):
    """409, the code by which Lambda refuses a second thing of one name and changes at a wrong moment."""

    code = 409

    def __init__(self, message: str) -> None:
        super().__init__("ResourceConflictException", message)


class NoProvisionedConcurrency(LambdaClientError):
    """404 of the provisioned-concurrency operations."""

    code = 404

    def __init__(self) -> None:
        super().__init__(
            "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function"
        )


def mend(cloud: Cloud) -> None:
    # Without this moto asks for a Docker daemon; it only chooses the backend whose `invoke` is replaced below.
    default_user_config["lambda"]["use_docker"] = False
    _invoke(cloud)
    _configuration()
    _updates()
    _versions()
    _aliases()
    _policies()
    _provisioned_concurrency()
    _account()


def _reply(status: int, body: Any) -> Reply:
    return status, {"status": status, "content-type": "application/json"}, json.dumps(body) if body is not None else ""


def _function_name(path: str) -> str:
    """`/2015-03-31/functions/<name or arn>/…` → the name or ARN."""
    found = re.match(r"/[^/]+/functions/([^/]+)", path)
    return unquote(found.group(1)) if found else ""


def plain_name(name_or_arn: str) -> tuple[str, str | None]:
    """Function name and qualifier of a name, `name:qualifier`, a partial or a whole ARN."""
    tail = name_or_arn.rpartition("function:")[2]
    name, _, qualifier = tail.partition(":")
    return name, qualifier or None


def _invoke(cloud: Cloud) -> None:
    def run(backend: LambdaBackend, name_or_arn: str, qualifier: str | None, payload: bytes, kind: str) -> Any:
        name, own = plain_name(name_or_arn)
        with cloud.locks.of("lambda"):
            backend.get_function(name, own or qualifier)  # 404 in moto's own words
        try:
            return cloud.runner.invoke(
                account=backend.account_id,
                region=backend.region_name,
                name=name,
                qualifier=own or qualifier,
                payload=payload,
                invocation=kind,
            )
        except FunctionNotFound as error:  # deleted since we looked
            raise GenericResourcNotFound() from error
        except Throttled as error:
            raise LambdaClientError("TooManyRequestsException", str(error)) from error
        except PayloadTooLarge as error:
            raise LambdaClientError("RequestTooLargeException", str(error)) from error
        except FunctionUnusable as error:
            raise LambdaClientError("InvalidZipFileException", str(error)) from error

    @wrap(LambdaResponse, "invoke")
    def invoke(original: Any, self: LambdaResponse) -> Reply:
        kind = self.headers.get("X-Amz-Invocation-Type") or "RequestResponse"
        qualifier = self.querystring.get("Qualifier", [None])[0]
        if kind == "DryRun":
            self.backend.get_function(_function_name(self.path), qualifier)
            return _reply(204, None)
        done = run(self.backend, _function_name(self.path), qualifier, self.raw_body or b"{}", kind)
        headers = {
            "status": done.status,
            "content-type": "application/json",
            "X-Amz-Executed-Version": done.executed_version,
        }
        if done.function_error:
            headers["X-Amz-Function-Error"] = done.function_error
        if kind == "RequestResponse" and self.headers.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(done.log_tail.encode()[-4096:]).decode()
        return done.status, headers, done.payload

    @wrap(LambdaSimpleBackend, "invoke")
    def from_other_service(
        original: Any,
        backend: LambdaBackend,
        function_name: str,
        qualifier: str | None,
        body: Any,
        headers: Any,
        response_headers: Any,
    ) -> bytes:
        """Rules, topics and queues call this one inside moto."""
        payload = body if isinstance(body, bytes) else (body or "{}").encode()
        done = run(backend, function_name, qualifier, payload, "Event")
        if done.function_error:
            response_headers["x-amz-function-error"] = done.function_error
        result: bytes = done.payload
        return result


def _configuration() -> None:
    """Fields of the configuration that moto leaves out."""

    @wrap(LambdaFunction, "__init__")
    def create(
        original: Any, function: LambdaFunction, account_id: str, spec: dict[str, Any], region: str, version: Any = 1
    ) -> None:
        original(function, account_id, spec, region, version)
        group = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.function_name}"}
        function.logging_config = {**group, **(spec.get("LoggingConfig") or {})}  # type: ignore[attr-defined]

    @wrap(LambdaFunction, "get_configuration")
    def get_configuration(original: Any, function: LambdaFunction, on_create: bool = False) -> dict[str, Any]:
        config: dict[str, Any] = original(function, on_create)
        config.setdefault("LastUpdateStatus", "Successful")
        config["LoggingConfig"] = function.logging_config  # type: ignore[attr-defined]
        config["RevisionId"] = _revision(function, config)
        return {key: value for key, value in config.items() if value is not None}


def _revision(function: LambdaFunction, config: dict[str, Any]) -> str:
    """Changes exactly when the configuration does, as AWS promises."""
    text = json.dumps({**config, "at": function.last_modified}, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"


def _updates() -> None:
    """Updates that moto ignores, and the moment of the last change."""

    @wrap(LambdaFunction, "update_configuration")
    def update_configuration(original: Any, function: LambdaFunction, wanted: dict[str, Any]) -> dict[str, Any]:
        if "Environment" in wanted:  # an empty Environment clears all variables
            wanted["Environment"] = {"Variables": (wanted["Environment"] or {}).get("Variables") or {}}
        original(function, wanted)
        for field, attribute in _UPDATED_BY_CONFIGURATION:
            if field in wanted:
                value = wanted[field]["Size"] if field == "EphemeralStorage" else wanted[field]
                if field == "LoggingConfig":
                    value = {**function.logging_config, **value}  # type: ignore[attr-defined]
                setattr(function, attribute, value)
        function.last_modified = iso_8601_datetime_with_nanoseconds()
        return function.get_configuration()

    @wrap(LambdaBackend, "update_function_code")
    def update_code(
        original: Any, backend: LambdaBackend, function_name: str, qualifier: str | None, body: dict[str, Any]
    ) -> dict[str, Any]:
        """moto applies it twice, the second time to the published version."""
        function = backend.get_function(function_name, qualifier)
        if body.get("DryRun"):
            return function.get_configuration()
        if body.get("Architectures"):
            function.architectures = body["Architectures"]
        function.update_function_code(body)
        function.last_modified = iso_8601_datetime_with_nanoseconds()
        if body.get("Publish"):
            function = backend.publish_version(function_name)  # type: ignore[assignment]
        return function.get_configuration()


def _versions() -> None:
    """Publishing what is published already gives the same version; numbers are never used again."""

    def content(function: LambdaFunction) -> dict[str, Any]:
        config = function.get_configuration()
        for field in ("FunctionArn", "Version", "LastModified", "RevisionId", "Description"):
            config.pop(field, None)
        return config

    @wrap(LambdaStorage, "publish_version")
    def publish(original: Any, storage: LambdaStorage, name_or_arn: str, description: str = "") -> LambdaFunction:
        latest = storage.get_function_by_name_or_arn_forbid_qualifier(name_or_arn)
        held = storage._functions[latest.function_name]
        if held["versions"] and content(held["versions"][-1]) == content(latest):
            last: LambdaFunction = held["versions"][-1]
            return last
        held["count"] = held.get("count", 0) + 1
        version = copy.copy(latest)
        version.code = dict(latest.code)
        version.set_version(held["count"])
        version.description = description or latest.description
        held["versions"].append(version)
        storage._arns[version.function_arn] = version
        return version

    @wrap(LambdaResponse, "publish_version")
    def check_digest(original: Any, self: LambdaResponse) -> Any:
        wanted = json.loads(self.body or "{}").get("CodeSha256")
        current = self.backend.get_function(_function_name(self.path)).code_sha_256
        if wanted and wanted != current:
            raise InvalidParameterValueException(
                f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({current}). "
                "Please try again with the CodeSHA256 in $LATEST."
            )
        return original(self)


def _aliases() -> None:
    """A second alias of one name is ResourceConflictException; deleting one that isn't there is fine.

    What is provisioned for an alias goes with it.
    """

    @wrap(LambdaStorage, "put_alias")
    def put_alias(original: Any, storage: LambdaStorage, name: str, function_name: str, *args: Any) -> Any:
        if name in storage._get_function_aliases(function_name):
            arn = f"{storage.get_function_by_name_or_arn_with_qualifier(function_name).function_arn}:{name}"
            raise ResourceConflict(f"Alias already exists: {arn}")
        return original(storage, name, function_name, *args)

    @wrap(LambdaBackend, "delete_alias")
    def delete_alias(original: Any, backend: LambdaBackend, name: str, function_name: str) -> None:
        backend._lambdas._functions.get(plain_name(function_name)[0], {}).get("provisioned", {}).pop(name, None)
        original(backend, name, function_name)

    for operation, status in (("get_alias", 200), ("delete_alias", 204)):

        @wrap(LambdaResponse, operation)
        def with_status(original: Any, self: LambdaResponse, status: int = status) -> Reply:
            _, _, body = original(self)
            return status, {"status": status}, body if status != 204 else ""


def _policies() -> None:
    """Each qualifier has a policy of its own, and a statement id is used once in it."""

    def own(function: LambdaFunction, qualifier: str | None) -> list[dict[str, Any]]:
        base = function.policy.parent.function_arn  # type: ignore[union-attr]
        resource = f"{base}:{qualifier}" if qualifier else base
        return [one for one in function.policy.statements if one["Resource"] == resource]

    @wrap(LambdaBackend, "add_permission")
    def add_permission(
        original: Any, backend: LambdaBackend, function_name: str, qualifier: str | None, raw: str
    ) -> Any:
        name, in_name = plain_name(function_name)
        qualifier = qualifier or in_name
        function, sid = backend.get_function(name, qualifier), json.loads(raw).get("StatementId")
        if any(one["Sid"] == sid for one in own(function, qualifier)):
            raise ResourceConflict(
                f"The statement id ({sid}) provided already exists. Please provide a new "
                "statement id, or remove the existing statement."
            )
        return original(backend, name, qualifier, raw)

    @wrap(LambdaBackend, "get_policy")
    def get_policy(original: Any, backend: LambdaBackend, function_name: str, qualifier: str | None = None) -> str:
        name, in_name = plain_name(function_name)
        function = backend.get_function(name, qualifier or in_name)
        statements = own(function, qualifier or in_name)
        if not statements:
            raise GenericResourcNotFound()
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": statements}
        return json.dumps({"Policy": json.dumps(policy), "RevisionId": function.policy.revision})

    @wrap(LambdaResponse, "remove_permission")
    def remove_permission(original: Any, self: LambdaResponse) -> Reply:
        name, in_name = plain_name(_function_name(self.path))
        qualifier = self.querystring.get("Qualifier", [None])[0] or in_name
        function, sid = self.backend.get_function(name, qualifier), unquote(self.path.split("/")[-1])
        found = [one for one in own(function, qualifier) if one["Sid"] == sid]
        if not found:
            raise UnknownPolicyException()
        function.policy.statements.remove(found[0])
        return _reply(204, None)


def _provisioned_concurrency() -> None:
    """Kept as a number; the runner starts processes when they are needed."""
    add_path(
        urls.url_paths,
        r"{0}/(?P<api_version>[^/]+)/functions/(?P<function_name>[\w_:%-]+)"
        r"/provisioned-concurrency/?$",
        LambdaResponse.dispatch,
    )

    def held(backend: LambdaBackend, name: str) -> dict[str, int]:
        """By qualifier. Lives with the function, so that deleting one deletes the other."""
        of_function = backend._lambdas._functions[plain_name(name)[0]]
        numbers: dict[str, int] = of_function.setdefault("provisioned", {})
        return numbers

    def report(number: int) -> dict[str, Any]:
        return {
            "RequestedProvisionedConcurrentExecutions": number,
            "AvailableProvisionedConcurrentExecutions": number,
            "AllocatedProvisionedConcurrentExecutions": number,
            "Status": "READY",
            "LastModified": iso_8601_datetime_with_nanoseconds(),
        }

    def asked(self: LambdaResponse) -> tuple[str, str]:
        name, qualifier = _function_name(self.path), self.querystring.get("Qualifier", [""])[0]
        self.backend.get_function(name, qualifier)
        return name, qualifier

    @add(LambdaResponse)
    def put_provisioned_concurrency_config(self: LambdaResponse) -> Reply:
        name, qualifier = asked(self)
        if qualifier == "$LATEST":
            raise InvalidParameterValueException(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
            )
        held(self.backend, name)[qualifier] = json.loads(self.body)["ProvisionedConcurrentExecutions"]
        return _reply(202, report(held(self.backend, name)[qualifier]))

    @add(LambdaResponse)
    def get_provisioned_concurrency_config(self: LambdaResponse) -> Reply:
        name, qualifier = asked(self)
        if qualifier not in held(self.backend, name):
            raise NoProvisionedConcurrency()
        return _reply(200, report(held(self.backend, name)[qualifier]))

    @add(LambdaResponse)
    def delete_provisioned_concurrency_config(self: LambdaResponse) -> Reply:
        name, qualifier = asked(self)
        held(self.backend, name).pop(qualifier, None)
        return _reply(204, None)

    @add(LambdaResponse)
    def list_provisioned_concurrency_configs(self: LambdaResponse) -> Reply:
        name = _function_name(self.path)
        function = self.backend.get_function(name)
        numbers = held(self.backend, name).items()
        configs = [{"FunctionArn": f"{function.function_arn}:{qualifier}", **report(n)} for qualifier, n in numbers]
        return _reply(200, {"ProvisionedConcurrencyConfigs": configs})


def _account() -> None:
    """Limits of a fresh account, https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
    add_path(urls.url_paths, r"{0}/(?P<api_version>[^/]+)/account-settings/?$", LambdaResponse.dispatch)
    add_path(
        urls.url_paths,
        r"{0}/(?P<api_version>[^/]+)/functions/(?P<function_name>[\w_:%-]+)/recursion-config$",
        LambdaResponse.dispatch,
    )

    @add(LambdaResponse)
    def get_account_settings(self: LambdaResponse) -> Reply:
        functions = list(self.backend.list_functions())
        limits = {
            "TotalCodeSize": 80530636800,
            "CodeSizeUnzipped": 262144000,
            "CodeSizeZipped": 52428800,
            "ConcurrentExecutions": 1000,
            "UnreservedConcurrentExecutions": 1000,
        }
        used = {"TotalCodeSize": sum(one.code_size for one in functions), "FunctionCount": len(functions)}
        return _reply(200, {"AccountLimit": limits, "AccountUsage": used})

    @add(LambdaResponse)
    def get_function_recursion_config(self: LambdaResponse) -> Reply:
        self.backend.get_function(_function_name(self.path))
        return _reply(200, {"RecursiveLoop": "Terminate"})
