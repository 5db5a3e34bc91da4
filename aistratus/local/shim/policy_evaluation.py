"""What a set of identity policies says about one request, as AWS's own evaluation logic goes.

An explicit deny wins, then an allow, else it is denied implicitly. A condition on a key that the request doesn't
carry isn't met, except with `IfExists` and the negated operators. Unknown operators aren't met, which errs on the
side of "not allowed" for an allow.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ALLOWED: Final = "allowed"
DENIED: Final = "explicitDeny"
NOT_ALLOWED: Final = "implicitDeny"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One action on one resource; `context` maps lower-case condition keys to their values."""

    action: str
    resource: str
    context: Mapping[str, list[str]] = field(default_factory=dict)


def decide(policies: list[dict[str, Any]], request: Request) -> str:
    """`allowed`, `explicitDeny` or `implicitDeny`."""
    statements = [one for policy in policies for one in _listed(policy.get("Statement")) if concerns(one, request)]
    effects = {one["Effect"] for one in statements}
    if "Deny" in effects:
        return DENIED
    return ALLOWED if "Allow" in effects else NOT_ALLOWED


def concerns(statement: Mapping[str, Any], request: Request) -> bool:
    """Whether a statement's action, resource and condition all fit the request."""
    if "Action" in statement:
        action = _any_glob(statement["Action"], request.action.lower(), str.lower)
    else:
        action = not _any_glob(statement.get("NotAction", []), request.action.lower(), str.lower)
    if "Resource" in statement:
        resource = _any_glob(statement["Resource"], request.resource)
    else:
        resource = not _any_glob(statement.get("NotResource", []), request.resource)
    return action and resource and _conditions(statement.get("Condition") or {}, request.context)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _any_glob(patterns: Any, value: str, fold: Callable[[str], str] = str) -> bool:
    return any(_glob(fold(pattern), value) for pattern in _listed(patterns))


def _glob(pattern: str, value: str) -> bool:
    """`*` and `?` only; a bracket is a plain character in IAM."""
    return re.match(fnmatch.translate(pattern.replace("[", "[[]")), value) is not None


def _conditions(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, list[str]]) -> bool:
    return all(
        _condition(operator, [str(one) for one in _listed(expected)], context.get(key.lower()))
        for operator, tests in conditions.items()
        for key, expected in tests.items()
    )


def _condition(operator: str, expected: list[str], actual: list[str] | None) -> bool:
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        return (actual is None) == (expected == ["true"])
    if actual is None:
        return name.endswith("IfExists") or "Not" in name or quantifier == "ForAllValues"
    name = name.removesuffix("IfExists")
    negated = "Not" in name
    test = _TESTS.get(name.replace("Not", ""))
    if test is None:
        return False
    results = [any(test(value, one) for one in expected) != negated for value in actual]
    return all(results) if quantifier == "ForAllValues" or negated else any(results)


_TESTS: Final[dict[str, Callable[[str, str], bool]]] = {
    "StringEquals": lambda actual, expected: actual == expected,
    "StringEqualsIgnoreCase": lambda actual, expected: actual.lower() == expected.lower(),
    "StringLike": lambda actual, expected: _glob(expected, actual),
    "ArnEquals": lambda actual, expected: _glob(expected, actual),
    "ArnLike": lambda actual, expected: _glob(expected, actual),
    "Bool": lambda actual, expected: actual.lower() == expected.lower(),
    "NumericEquals": lambda actual, expected: float(actual) == float(expected),
    "NumericLessThan": lambda actual, expected: float(actual) < float(expected),
    "NumericLessThanEquals": lambda actual, expected: float(actual) <= float(expected),
    "NumericGreaterThan": lambda actual, expected: float(actual) > float(expected),
    "NumericGreaterThanEquals": lambda actual, expected: float(actual) >= float(expected),
}
