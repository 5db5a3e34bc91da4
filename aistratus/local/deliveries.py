"""Invokes functions for rules and schedules: asynchronously, and only if permitted.

A rule may invoke a function whose resource policy has a statement for it; without one nothing is delivered, as on AWS,
and the embedded cloud's log says so.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from aistratus.local.deployed_function import FunctionNotFound, split_name
from aistratus.local.gateway.permission import may_invoke
from aistratus.local.runner import PayloadTooLarge

if TYPE_CHECKING:
    from aistratus.local.shim.cloud import Cloud

log = logging.getLogger(__name__)

LAMBDA: Final = "lambda"


def is_function(arn: str) -> bool:
    """Is it the ARN of a function, or of an alias or version?"""
    parts = arn.split(":")
    return len(parts) in (7, 8) and parts[2] == LAMBDA and parts[5] == "function"


def deliver(cloud: Cloud, *, to: str, event: Any, service: str, source_arn: str) -> bool:
    """Queues an invocation on behalf of `source_arn`; gives back whether the function lets `service` do so.

    Args:
        to: ARN of a function.
        event: what it gets, as JSON; a text is taken for JSON already.
    """
    region, account = to.split(":")[3:5]
    name, qualifier = split_name(to, None)
    try:
        with cloud.locks.of(LAMBDA):
            allowed = may_invoke(
                account=account,
                region=region,
                name=name,
                qualifier=qualifier,
                source_arn=source_arn,
                source_account=source_arn.split(":")[4],
                service=service,
            )
    except Exception as error:  # noqa: BLE001  # moto has several for "no such function", and delivery never fails aloud
        log.warning("%s can't be delivered to %s: %s", source_arn, to, error)
        return False
    if not allowed:
        log.warning("%s isn't delivered: %s doesn't let %s invoke it", source_arn, to, service)
        return False
    return invoke(cloud, to, event)


def invoke(cloud: Cloud, to: str, event: Any) -> bool:
    """Queues an invocation of a function, by its ARN; gives back whether there is such a function."""
    region, account = to.split(":")[3:5]
    name, qualifier = split_name(to, None)
    payload = (event if isinstance(event, str) else json.dumps(event)).encode()
    try:
        cloud.runner.invoke(
            account=account, region=region, name=name, qualifier=qualifier, payload=payload, invocation="Event"
        )
    except (FunctionNotFound, PayloadTooLarge) as error:
        log.warning("not delivered: %s", error)
        return False
    return True
