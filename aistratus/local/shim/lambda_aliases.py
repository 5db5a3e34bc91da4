"""What belongs to one alias or version: the alias itself, its resource policy, its provisioned concurrency.

moto mixes the policy statements of one alias with those of another, and has no provisioned concurrency.
"""

from __future__ import annotations

import json
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
from moto.core.utils import iso_8601_datetime_with_nanoseconds

from aistratus.local.shim.lambda_requests import Reply, ResourceConflict, name_in_path, plain_name, reply
from aistratus.local.shim.patching import add, add_path, wrap


class NoProvisionedConcurrency(LambdaClientError):
    """404 of the provisioned-concurrency operations."""

    code = 404

    def __init__(self) -> None:
        super().__init__(
            "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function"
        )


def patch() -> None:
    _aliases()
    _policies()
    _provisioned_concurrency()


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
        name, in_name = plain_name(name_in_path(self.path))
        qualifier = self.querystring.get("Qualifier", [None])[0] or in_name
        function, sid = self.backend.get_function(name, qualifier), unquote(self.path.split("/")[-1])
        found = [one for one in own(function, qualifier) if one["Sid"] == sid]
        if not found:
            raise UnknownPolicyException()
        function.policy.statements.remove(found[0])
        return reply(204, None)


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
        name, qualifier = name_in_path(self.path), self.querystring.get("Qualifier", [""])[0]
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
        return reply(202, report(held(self.backend, name)[qualifier]))

    @add(LambdaResponse)
    def get_provisioned_concurrency_config(self: LambdaResponse) -> Reply:
        name, qualifier = asked(self)
        if qualifier not in held(self.backend, name):
            raise NoProvisionedConcurrency()
        return reply(200, report(held(self.backend, name)[qualifier]))

    @add(LambdaResponse)
    def delete_provisioned_concurrency_config(self: LambdaResponse) -> Reply:
        name, qualifier = asked(self)
        held(self.backend, name).pop(qualifier, None)
        return reply(204, None)

    @add(LambdaResponse)
    def list_provisioned_concurrency_configs(self: LambdaResponse) -> Reply:
        name = name_in_path(self.path)
        function = self.backend.get_function(name)
        numbers = held(self.backend, name).items()
        configs = [{"FunctionArn": f"{function.function_arn}:{qualifier}", **report(n)} for qualifier, n in numbers]
        return reply(200, {"ProvisionedConcurrencyConfigs": configs})
