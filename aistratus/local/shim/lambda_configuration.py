"""A function's configuration, its updates and its published versions, kept the way AWS keeps them.

moto leaves fields out, ignores updates of some settings, applies an update of the code twice, and publishes the same
content as a new version.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from moto.awslambda.exceptions import InvalidParameterValueException
from moto.awslambda.models import LambdaBackend, LambdaFunction, LambdaStorage
from moto.awslambda.responses import LambdaResponse
from moto.core.utils import iso_8601_datetime_with_nanoseconds

from aistratus.local.shim.lambda_requests import name_in_path
from aistratus.local.shim.patching import wrap

_UPDATED_BY_CONFIGURATION = (
    ("EphemeralStorage", "ephemeral_storage"),
    ("TracingConfig", "tracing_config"),
    ("LoggingConfig", "logging_config"),
    ("KMSKeyArn", "kms_key_arn"),
)


def patch() -> None:
    _configuration()
    _updates()
    _versions()


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
        current = self.backend.get_function(name_in_path(self.path)).code_sha_256
        if wanted and wanted != current:
            raise InvalidParameterValueException(
                f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({current}). "
                "Please try again with the CodeSHA256 in $LATEST."
            )
        return original(self)
