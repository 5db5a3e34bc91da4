"""Lambda: invocations go to the function runner, and configuration is kept the way AWS keeps it.

moto never runs code without Docker. Here `Invoke` executes the deployed zip in a process of its own
(`local/runner.py`). Fields and operations that moto lacks are in `lambda_configuration.py` and `lambda_aliases.py`.
"""

from __future__ import annotations

import base64
from typing import Any

from moto.awslambda import urls
from moto.awslambda.exceptions import GenericResourcNotFound, LambdaClientError
from moto.awslambda.models import LambdaBackend
from moto.awslambda.responses import LambdaResponse
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.core.config import default_user_config

from aistratus.local.environment_pool import FunctionUnusable, Throttled
from aistratus.local.runner import FunctionNotFound, PayloadTooLarge
from aistratus.local.shim import lambda_aliases, lambda_configuration
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.lambda_requests import Reply, name_in_path, plain_name, reply
from aistratus.local.shim.patching import add, add_path, wrap


def patch(cloud: Cloud) -> None:
    # Without this moto asks for a Docker daemon; it only chooses the backend whose `invoke` is replaced below.
    default_user_config["lambda"]["use_docker"] = False
    _invoke(cloud)
    lambda_configuration.patch()
    lambda_aliases.patch()
    _account()


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
            self.backend.get_function(name_in_path(self.path), qualifier)
            return reply(204, None)
        done = run(self.backend, name_in_path(self.path), qualifier, self.raw_body or b"{}", kind)
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
        return reply(200, {"AccountLimit": limits, "AccountUsage": used})

    @add(LambdaResponse)
    def get_function_recursion_config(self: LambdaResponse) -> Reply:
        self.backend.get_function(name_in_path(self.path))
        return reply(200, {"RecursiveLoop": "Terminate"})
