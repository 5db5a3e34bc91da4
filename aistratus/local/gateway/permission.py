"""Whether a function lets this API, or another service, invoke it: its resource-based policy, read as Lambda reads it.

A statement counts when its principal is the service that asks (or everybody), its action covers
`lambda:InvokeFunction`, its resource is exactly the qualified or unqualified function that is named, and every
condition holds. A condition that isn't known here doesn't hold.
https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from moto.awslambda.utils import get_backend

GATEWAY: Final = "apigateway.amazonaws.com"


def may_invoke(
    *,
    account: str,
    region: str,
    name: str,
    qualifier: str | None,
    source_arn: str,
    source_account: str,
    service: str = GATEWAY,
) -> bool:
    """For an API, `source_arn` is `arn:aws:execute-api:<region>:<account>:<api>/<stage>/<METHOD>/<path of the route>`.

    `service` is who asks, such as `sns.amazonaws.com`; the source is then the topic or rule on whose behalf it does.
    """
    backend: Any = get_backend(account, region)
    statements = backend.get_function(name).policy.statements
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    resource = f"{arn}:{qualifier}" if qualifier else arn
    context = {"aws:sourcearn": source_arn, "aws:sourceaccount": source_account}
    verdicts = {
        statement.get("Effect")
        for statement in list(statements)
        if _principal_fits(statement.get("Principal"), service)
        and _action_fits(statement.get("Action"))
        and str(statement.get("Resource", "")).removesuffix(":") == resource
        and _conditions_hold(statement.get("Condition") or {}, context)
    }
    return "Allow" in verdicts and "Deny" not in verdicts


def _listed(value: object) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else [str(value)]


def _principal_fits(principal: object, service: str) -> bool:
    if isinstance(principal, Mapping):
        return service in _listed(principal.get("Service", []))
    return principal in ("*", service)


def _action_fits(action: object) -> bool:
    return any(_like(pattern.lower(), "lambda:invokefunction") for pattern in _listed(action))


def _conditions_hold(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    return all(
        any(_holds(operator, pattern, context[key.lower()]) for pattern in _listed(wanted))
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
        if key.lower() in context
    ) and all(key.lower() in context for keys in conditions.values() for key in keys)


def _holds(operator: str, pattern: str, value: str) -> bool:
    if operator in ("StringEquals", "ArnEquals") and "*" not in pattern:
        return pattern == value
    if operator in ("ArnLike", "ArnEquals"):
        wanted, found = pattern.split(":", 5), value.split(":", 5)
        return len(wanted) == len(found) and all(map(_like, wanted, found))
    return operator == "StringLike" and _like(pattern, value)


def _like(pattern: str, value: str) -> bool:
    """`*` is any text, `?` any character; nothing else is special."""
    expression = "".join(".*" if part == "*" else "." if part == "?" else re.escape(part) for part in pattern)
    return re.fullmatch(expression, value, re.DOTALL) is not None
