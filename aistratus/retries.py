"""Classifies transient failures of AWS calls, and retries beyond the SDK's own quota.

botocore's `standard` mode has a retry quota per client: 500 tokens, of which a retry takes 5 or 10 and returns them
only if it succeeds. An `up` whose calls fail often enough exhausts it, and from then on each call is made just once
(source: botocore/retries/quota.py and standard.py). The quota keeps fleets of servers from overloading a service that
is down; for a single command with exponential backoff it only means that the command fails half-way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from aistratus.core.errors import error_code

THROTTLED = frozenset({
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException", "RequestThrottled",
    "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceededException.Throttled",
    "PriorRequestNotComplete", "SlowDown", "EC2ThrottledException", "ProvisionedThroughputExceededException",
})  # fmt: skip
"""Refused before anything happened. Source: botocore's standard retry mode, which uses the same codes."""

NO_CAPACITY = frozenset({"InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity"})
"""EC2 answers these with status 500 though nothing was made, and asking again within minutes is of no use.

Source: EC2 API reference, "Error codes for the Amazon EC2 API", server error codes; terraform-provider-aws issue 15183.
"""

ATTEMPTS = 16
"""Calls in all, the SDK's included. If half of them failed, one call in 65,000 would still fail in the end."""

LONGEST_PAUSE_S = 15.0


def stay_patient(client: Any) -> None:
    """Lets a boto3 client repeat calls also when its quota of repeated calls is used up.

    For clients whose calls may be repeated (what creates goes through `Cloud.create_once`).
    """
    client.meta.events.register("needs-retry", _pause, unique_id="aistratus-patience")


def _pause(
    attempts: int, response: tuple[Any, Mapping[str, Any]] | None, caught_exception: Exception | None, **_: Any
) -> float | None:
    """Seconds until the call is made again; `None`: no more. botocore takes its own answer first, if it has one."""
    from botocore.exceptions import ClientError, ReadTimeoutError

    error = caught_exception
    if response is not None:
        http, parsed = response
        if http.status_code < 300:  # S3 answers some failures with 200; the SDK's own handlers look into those
            return None
        error = ClientError({**parsed, "ResponseMetadata": {"HTTPStatusCode": http.status_code}}, "")
    # Each time-out has cost a minute already: of those the SDK's own tries are enough.
    if error is None or attempts >= ATTEMPTS or isinstance(error, ReadTimeoutError) or not may_pass(error):
        return None
    return random.random() * min(0.2 * 2.0**attempts, LONGEST_PAUSE_S)  # noqa: S311 - spreads calls, keeps no secret


def never_sent(error: Exception) -> bool:
    """Did no connection come about, so that nothing can have been carried out?"""
    from botocore.exceptions import ConnectionError

    return isinstance(error, ConnectionError)


def may_pass(error: Exception) -> bool:
    """Is this trouble on the way, or too many calls, and not an answer? A harmless call may then be made again."""
    return error_code(error) in THROTTLED or never_sent(error) or maybe_carried_out(error)


def maybe_carried_out(error: Exception) -> bool:
    """Does this error leave open whether the call was carried out?"""
    from botocore.exceptions import ClientError, HTTPClientError
    from botocore.parsers import ResponseParserError

    if isinstance(error, ClientError):
        status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 and error_code(error) not in NO_CAPACITY
    return isinstance(error, (HTTPClientError, ResponseParserError))
