"""S3: conditions of bucket policies, and tags in the call that creates a bucket.

moto ignores conditions, so the usual "deny what doesn't come over TLS" denies everything. The embedded endpoint is
plain HTTP that never leaves this machine; for such conditions it counts as secure.
"""

from __future__ import annotations

from typing import Any, Final

import xmltodict  # type: ignore[import-untyped]
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.s3.responses import S3Response

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap

CONTEXT: Final = {"aws:securetransport": "true", "s3:tlsversion": "1.3"}
"""What the embedded endpoint says of each request, by lower-case condition key."""


def patch(cloud: Cloud) -> None:
    _conditions()
    _tags_at_creation()


def _conditions() -> None:
    @wrap(IAMPolicyStatement, "is_action_permitted")
    def is_action_permitted(original: Any, statement: Any, *args: Any, **kwargs: Any) -> PermissionResult:
        if not applies(statement._statement.get("Condition") or {}):
            return PermissionResult.NEUTRAL
        result: PermissionResult = original(statement, *args, **kwargs)
        return result


def applies(conditions: dict[str, dict[str, Any]]) -> bool:
    """False if one of the conditions is about transport and isn't met; all others are left to moto."""
    for operator, tests in conditions.items():
        for key, expected in tests.items():
            actual = CONTEXT.get(key.lower())
            values = [str(one).lower() for one in (expected if isinstance(expected, list) else [expected])]
            if actual is not None and not any(_holds(operator.removesuffix("IfExists"), actual, one) for one in values):
                return False
    return True


def _holds(operator: str, actual: str, expected: str) -> bool:
    if operator in ("Bool", "StringEquals", "StringEqualsIgnoreCase"):
        return actual == expected
    if operator in ("StringNotEquals", "StringNotEqualsIgnoreCase"):
        return actual != expected
    if operator == "Null":
        return expected == "false"
    numeric = {
        "NumericEquals": lambda a, b: a == b,
        "NumericNotEquals": lambda a, b: a != b,
        "NumericLessThan": lambda a, b: a < b,
        "NumericLessThanEquals": lambda a, b: a <= b,
        "NumericGreaterThan": lambda a, b: a > b,
        "NumericGreaterThanEquals": lambda a, b: a >= b,
    }.get(operator)
    return bool(numeric(float(actual), float(expected))) if numeric else True


def _tags_at_creation() -> None:
    """`CreateBucketConfiguration` may hold tags, so that no bucket is ever there without them; moto drops them."""

    @wrap(S3Response, "_bucket_response_put")
    def put(original: Any, self: Any, request: Any, bucket_name: str, querystring: dict[str, Any]) -> Any:
        there = bucket_name in self.backend.buckets
        answer = original(self, request, bucket_name, querystring)
        tags = {} if querystring or there else created_with(self.body)
        if tags:
            self.backend.put_bucket_tagging(bucket_name, tags)
        return answer


def created_with(body: Any) -> dict[str, str]:
    """Tags in the body of CreateBucket."""
    if not body or b"<Tags>" not in (body if isinstance(body, bytes) else body.encode()):
        return {}
    found = xmltodict.parse(body, force_list=("Tag",))["CreateBucketConfiguration"]["Tags"]["Tag"]
    return {one["Key"]: one.get("Value") or "" for one in found}
