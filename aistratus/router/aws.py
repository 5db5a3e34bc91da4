"""Signed calls to AWS with the standard library, for the few operations that every request needs.

Importing boto3 and making four clients costs ten times what a whole request takes, and the first caller of a fresh
Lambda environment would wait for it. The services named below all speak "JSON over POST": an operation's name in
`x-amz-target`, JSON in and out. What is left to do is to sign (Signature Version 4), to retry, and to tell errors
apart.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from aistratus.router.clock import Clock, Deadline
from aistratus.router.connections import CONNECT_AND_READ_S, Answer, ConnectionNotMade, Connections, Endpoint

_SERVICES: Final[Mapping[str, tuple[str, str]]] = {
    "dynamodb": ("DynamoDB_20120810", "1.0"),
    "monitoring": ("GraniteServiceVersion20100801", "1.0"),
    "secretsmanager": ("secretsmanager", "1.1"),
    "sqs": ("AmazonSQS", "1.0"),
    "ssm": ("AmazonSSM", "1.1"),
}
"""Target prefix and JSON version of each service, from its model; `monitoring` is CloudWatch's name on the wire."""

MAX_TRIES: Final = 5
FIRST_BACKOFF_S: Final = 0.05
LONGEST_BACKOFF_S: Final = 1.0
"""Backoff doubles from first to longest, and each wait is drawn at random below it, so that callers spread out."""

_THROTTLED: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "KmsThrottled",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"""

OUT_OF_TIME: Final = "OutOfTime"
"""The code of a call that wasn't made any more."""


class AwsError(Exception):
    """AWS refused or could not be reached.

    Attributes:
        code: AWS's error code, or the HTTP status, or `ConnectionError`.
        certain: nothing was carried out. When false, the call may have been: its answer was lost.
        item: the item that made a condition fail, where the call asked for it.
        message: AWS's words, for telling apart what has one code; not part of the error's own text.
    """

    def __init__(
        self,
        service: str,
        operation: str,
        code: str,
        *,
        certain: bool,
        item: Mapping[str, Any] | None = None,
        message: str = "",
    ) -> None:
        super().__init__(f"{service} {operation}: {code}")
        self.service = service
        self.operation = operation
        self.code = code
        self.certain = certain
        self.item = item
        self.message = message


@dataclass(frozen=True)
class Credentials:
    """A role's keys, as Lambda hands them out in the environment."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Credentials:
        return cls(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment.get("AWS_SESSION_TOKEN") or None,
        )


@dataclass(frozen=True)
class Aws:
    """AWS in one region. `endpoint` is the address of all of AWS where it isn't the public one."""

    region: str
    environment: Mapping[str, str]
    connections: Connections
    clock: Clock
    endpoint: str | None = None

    def call(self, service: str, operation: str, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """One operation of a service that is named above, tried again while that can help and time is left.

        Raises:
            AwsError: it failed for good.
        """
        certain = True
        for attempt in range(MAX_TRIES):
            try:
                return self._once(service, operation, arguments, deadline)
            except AwsError as error:
                certain = certain and error.certain
                pause = _backoff(attempt)
                if not is_transient(error) or attempt + 1 == MAX_TRIES or pause >= deadline.left():
                    raise AwsError(
                        service, operation, error.code, certain=certain, item=error.item, message=error.message
                    ) from error
                self.clock.wait(pause)
        raise AssertionError("the loop above returns or raises")

    def _once(self, service: str, operation: str, arguments: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        timeout = min(CONNECT_AND_READ_S, deadline.left())
        if timeout <= 0:
            raise AwsError(service, operation, OUT_OF_TIME, certain=True)
        endpoint = Endpoint.parse(self.endpoint or f"https://{service}.{self.region}.amazonaws.com")
        body = json.dumps(arguments).encode()
        headers = self._headers(service, operation, endpoint, body)
        try:
            answer = self.connections.exchange(endpoint, "POST", "/", headers, body, timeout)
        except ConnectionNotMade as error:
            raise AwsError(service, operation, "ConnectionError", certain=True) from error
        except (OSError, http.client.HTTPException) as error:
            raise AwsError(service, operation, "ConnectionError", certain=False) from error
        return _result(service, operation, answer)

    def _headers(self, service: str, operation: str, endpoint: Endpoint, body: bytes) -> dict[str, str]:
        prefix, version = _SERVICES[service]
        headers = {
            "content-type": f"application/x-amz-json-{version}",
            "host": endpoint.authority,
            "x-amz-target": f"{prefix}.{operation}",
        }
        return sign(
            headers, body, service, self.region, Credentials.from_environment(self.environment), self.clock.now()
        )


def sign(
    headers: Mapping[str, str], body: bytes, service: str, region: str, credentials: Credentials, now: float
) -> dict[str, str]:
    """Headers of a POST to `/`, with Signature Version 4 over all of them and the body.

    Args:
        headers: names in lower case, `host` among them.
        now: seconds since the epoch.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    signed = {**headers, "x-amz-date": stamp}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = sorted(signed)
    canonical = "\n".join(
        ("POST", "/", "", *(f"{name}:{signed[name]}" for name in names), "", ";".join(names), _sha256(body))
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{_sha256(canonical.encode())}"
    signature = _hmac(_signing_key(credentials.secret_key, stamp[:8], region, service), to_sign).hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return signed


@lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """Depends on the day, so that it is computed once for each service and day."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _result(service: str, operation: str, answer: Answer) -> dict[str, Any]:
    try:
        data = json.loads(answer.body) if answer.body else {}
    except ValueError:
        data = {}
    if not isinstance(data, dict):
        data = {}
    if answer.status == 200:
        return data
    code = str(data.get("__type") or answer.status).rpartition("#")[2]
    message = str(data.get("message") or data.get("Message") or "")
    raise AwsError(service, operation, code, certain=answer.status < 500, item=data.get("Item"), message=message)


def is_transient(error: AwsError) -> bool:
    """Throttled, AWS's own failure, the network's, or time that ran out: later it may go well."""
    return error.code in _THROTTLED or error.code in ("ConnectionError", "429", OUT_OF_TIME) or not error.certain


def _backoff(attempt: int) -> float:
    import random  # only a failing call needs it

    return random.uniform(0, min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2**attempt))  # noqa: S311 (spreads callers, hides nothing)
