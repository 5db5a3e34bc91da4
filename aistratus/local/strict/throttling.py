"""Throttling: each service's own error code for too many calls.

AWS limits calls per second; here every n-th call is refused, so that tests are deterministic. What matters to a caller
is that any call may be refused.
"""

from __future__ import annotations

from typing import Any, Final

from moto.apigatewayv2.responses import ApiGatewayV2Response
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.iam.responses import IamResponse
from moto.ssm.responses import SimpleSystemManagerResponse

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule, refuse_with

READS: Final = ("Describe", "Get", "List", "Simulate")

book = Book()


@book.rule(
    "parameter-throttled",
    code="ThrottlingException",
    asked="every",
    source="https://docs.aws.amazon.com/general/latest/gr/ssm.html",
)
def parameter_throttled(cloud: Cloud, delays: Delays) -> None:
    """PutParameter at more than about three a second."""

    @wrap(SimpleSystemManagerResponse, "call_action")
    def call_action(original: Any, self: Any) -> Any:
        if self._get_action() == "PutParameter" and delays.refuses("parameter-throttled"):
            return refuse_with(self, "ssm", 400, "ThrottlingException", "Rate exceeded")
        return original(self)


@book.rule(
    "ec2-throttled",
    code="RequestLimitExceeded",
    asked="every",
    source="https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html",
)
def ec2_throttled(cloud: Cloud, delays: Delays) -> None:
    @wrap(EC2BaseResponse, "call_action")
    def call_action(original: Any, self: Any) -> Any:
        if not self._get_action().startswith(READS) and delays.refuses("ec2-throttled"):
            return refuse_with(self, "ec2", 503, "RequestLimitExceeded", "Request limit exceeded.")
        return original(self)


@book.rule(
    "iam-throttled",
    code="Throttling",
    asked="every",
    source="https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html",
)
def iam_throttled(cloud: Cloud, delays: Delays) -> None:
    @wrap(IamResponse, "call_action")
    def call_action(original: Any, self: Any) -> Any:
        if not self._get_action().startswith(READS) and delays.refuses("iam-throttled"):
            return refuse_with(self, "iam", 400, "Throttling", "Rate exceeded")
        return original(self)


@book.rule(
    "api-throttled",
    code="TooManyRequestsException",
    asked="every",
    source="https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html",
)
def api_throttled(cloud: Cloud, delays: Delays) -> None:
    """API Gateway's control plane takes ten calls a second in all, in bursts of forty."""

    @wrap(ApiGatewayV2Response, "call_action")
    def call_action(original: Any, self: Any) -> Any:
        if delays.refuses("api-throttled"):
            return refuse_with(self, "apigateway", 429, "TooManyRequestsException", "Too Many Requests")
        return original(self)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
