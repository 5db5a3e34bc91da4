"""The price items that each kind of resource uses, from its declaration alone.

A kind has an entry in exactly one of three tables. `TAKES`: billed by the month or the hour, used or not. `METERED`:
billed by traffic or storage, with no predictable cost while the env is idle. `FREE`: not billed, with the reason. A
kind without an entry has no known cost, which a test forbids for everything that the stack declares.

*Idle* means that the node is stopped and no prompt comes; schedules run all the same. *Active* is the additional cost
of an hour in which the node runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aistratus.core.resource import Resource
from aistratus.costs.prices import HOURS_A_MONTH, SECONDS_AN_HOUR

ONE, NOTHING = Decimal(1), Decimal(0)
DAYS_A_MONTH = HOURS_A_MONTH / 24

RUN_S = ONE
"""Assumed duration (seconds) of one run of a scheduled function; ours take at most that."""
MEMORY_MB = 256
"""Assumed memory of a function whose declaration isn't available."""

Item = tuple[str, str]
"""Service and item of the price list."""


@dataclass(frozen=True)
class Use:
    """An amount of one price item.

    month: single units in an idle month; `None`: not to be told from the declaration.
    hour: single units more in an hour in which the node runs.
    """

    item: Item
    month: Decimal | None = NOTHING
    hour: Decimal = NOTHING


def takes(resource: Resource) -> tuple[Use, ...] | None:
    """What a resource uses while idle and while active; nothing if it is metered or free, `None` if unknown.

    Args:
        resource: as it is declared, or as it was found.
    """
    kind = resource.kind
    if kind in TAKES:
        return TAKES[kind](resource)
    return () if kind in METERED or kind in FREE else None


# --- paid for by the month or the hour --------------------------------------------------------------------------


def _instance(declared: Any) -> tuple[Use, ...]:
    address = (Use(("vpc", "public-ipv4"), hour=ONE),) if declared.public_ip else ()
    return (
        Use(("ec2", str(declared.type)), hour=ONE),
        Use(("ebs", "gp3"), month=Decimal(declared.volume_gib)),
        *address,
    )


def _alias(declared: Any) -> tuple[Use, ...]:
    """Provisioned concurrency is billed by the second, all day long."""
    ready = Decimal(getattr(declared, "provisioned", None) or 0)
    if not ready:
        return ()
    memory_gb = Decimal(declared.memory_mb or MEMORY_MB) / 1024
    kind = "provisioned-x86" if declared.architecture == "x86_64" else "provisioned-arm"
    return (Use(("lambda", kind), month=ready * memory_gb * HOURS_A_MONTH * SECONDS_AN_HOUR),)


def _alarm(declared: Any) -> tuple[Use, ...]:
    """An alarm is billed per metric that it watches."""
    metrics = getattr(declared, "metrics", None) or (None,)
    quick = (getattr(declared, "period_s", None) or 60) < 60
    return (Use(("cloudwatch", "alarm-high-resolution" if quick else "alarm"), month=Decimal(len(metrics))),)


def _rule(declared: Any) -> tuple[Use, ...]:
    return _runs(declared, str(getattr(declared, "schedule", None) or ""))


def _runs(declared: Any, expression: str) -> tuple[Use, ...]:
    """The runs of a scheduled function."""
    runs = runs_a_month(expression) if getattr(declared, "enabled", True) else NOTHING
    called = next((ref.to for ref in declared.refs() if hasattr(ref.to, "memory_mb")), None)
    memory_gb = Decimal(getattr(called, "memory_mb", None) or MEMORY_MB) / 1024
    kind = "duration-x86" if getattr(called, "architecture", "") == "x86_64" else "duration-arm"
    return (
        Use(("lambda", "requests"), month=runs),
        Use(("lambda", kind), month=None if runs is None else runs * RUN_S * memory_gb),
    )


def _each(*items: Item, month: Decimal | None = ONE) -> Callable[[Any], tuple[Use, ...]]:
    return lambda declared: tuple(Use(item, month=month) for item in items)


TAKES: Mapping[str, Callable[[Any], tuple[Use, ...]]] = {
    "Instance": _instance,
    "Volume": _each(("ebs", "gp3"), month=None),  # a leftover, of a size that nobody declared
    "NatGateway": _each(("vpc", "nat"), month=HOURS_A_MONTH),
    "ElasticIp": _each(("vpc", "public-ipv4"), month=HOURS_A_MONTH),
    "Alias": _alias,
    "Secret": _each(("secretsmanager", "secret")),
    "Alarm": _alarm,
    "Dashboard": _each(("cloudwatch", "dashboard")),
    "EventRule": _rule,
}


# --- paid for by what is used -----------------------------------------------------------------------------------

METERED: Mapping[str, tuple[Item, ...]] = {
    "Bucket": (("s3", "storage"), ("s3", "writes"), ("s3", "reads")),
    "Artifact": (("s3", "storage"), ("s3", "writes"), ("s3", "reads")),
    "JsonObject": (("s3", "storage"), ("s3", "writes"), ("s3", "reads")),
    "Table": (("dynamodb", "writes"), ("dynamodb", "reads"), ("dynamodb", "storage")),
    "Queue": (("sqs", "fifo-requests"), ("sqs", "standard-requests")),
    "UserPool": (("cognito", "active-users"),),
    "Function": (("lambda", "requests"), ("lambda", "duration-arm")),
    "HttpApi": (("apigateway", "http-requests"), ("ec2", "data-out")),
    "LogGroup": (("cloudwatch", "logs-in"), ("cloudwatch", "logs-stored")),
    "MetricFilter": (("cloudwatch", "metric"),),
    "Topic": (("sns", "publishes"),),
    "TopicSubscription": (("sns", "emails"),),
    "BuildProject": (("codebuild", "arm1.small"), ("codebuild", "general1.small")),
    "Repository": (("ecr", "storage"),),
    # AWS gives away 14 million runs a month, and no schedule that runs once a day is ever seen on a bill.
    "Schedule": (("scheduler", "runs"), ("lambda", "requests"), ("lambda", "duration-arm")),
}


# --- free -------------------------------------------------------------------------------------------------------

_NETWORK = "AWS asks nothing for the parts of a VPC"
_IAM = "IAM costs nothing"
_API = "an HTTP API is paid for by its requests alone"
_PEOPLE = "Cognito is paid for by the users who sign in"
_LAMBDA = "a permission is part of its function"

FREE: Mapping[str, str] = {
    "Vpc": _NETWORK,
    "Subnet": _NETWORK,
    "InternetGateway": _NETWORK,
    "RouteTable": _NETWORK,
    "SecurityGroup": _NETWORK,
    "NetworkInterface": _NETWORK,
    "GatewayEndpoint": "gateway endpoints cost nothing, unlike interface endpoints",
    "KeyPair": "EC2 keeps public keys for nothing",
    "Role": _IAM,
    "InstanceProfile": _IAM,
    "OidcProvider": _IAM,
    "UserPoolClient": _PEOPLE,
    "UserPoolDomain": "a prefix of Cognito's own domain costs nothing",
    "UserPoolGroup": _PEOPLE,
    "User": _PEOPLE,
    "InvokePermission": _LAMBDA,
    "ServicePermission": _LAMBDA,
    "JwtAuthorizer": _API,
    "LambdaIntegration": _API,
    "Route": _API,
    "Stage": _API,
    "Throttle": _API,
    "Budget": "a budget that only notifies costs nothing",
    "ScheduleGroup": "schedules are paid for by their runs",
    "Connection": "connections to GitHub cost nothing",
}


# --- by the clock -----------------------------------------------------------------------------------------------

_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_CRON = re.compile(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)")
_A_MONTH = {"minute": HOURS_A_MONTH * 60, "hour": HOURS_A_MONTH, "day": DAYS_A_MONTH}
_EVERY = ("*", "?")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


def runs_a_month(expression: str) -> Decimal | None:
    """How often a schedule fires in an average month; `None` for expressions that aren't understood.

    Args:
        expression: `rate(30 minutes)`, `cron(0 8 * * ? *)`, or `at(…)`, which fires once and not every month.
    """
    if rate := _RATE.fullmatch(expression):
        return _A_MONTH[rate[2]] / int(rate[1]) if int(rate[1]) else None
    if expression.startswith("at("):
        return NOTHING
    cron = _CRON.fullmatch(expression)
    if cron is None:
        return None
    minutes, hours, months = _count(cron[1], 60), _count(cron[2], 24), _count(cron[4], 12)
    by_date = DAYS_A_MONTH if cron[3] in _EVERY else _count(cron[3], 31)
    days = by_date
    if cron[5] not in _EVERY:
        weekdays = _count(cron[5], 7)
        days = None if weekdays is None else DAYS_A_MONTH * weekdays / 7
    if minutes is None or hours is None or months is None or days is None:
        return None
    return minutes * hours * days * months / 12


def _count(field: str, size: int) -> Decimal | None:
    """The number of the `size` possible values that a field of a cron expression selects."""
    if field == "*":
        return Decimal(size)
    count = 0
    for part in field.split(","):
        whole, _, step = part.partition("/")
        first, _, last = whole.partition("-")
        numbers = [_number(bound) for bound in (first, last or first)]
        if whole == "*" or (step and not last):
            start = 0 if whole == "*" else numbers[0]
            numbers = [start, size - 1]
        if numbers[0] is None or numbers[1] is None or (step and not (step.isdecimal() and int(step))):
            return None
        count += len(range(numbers[0], numbers[1] + 1, int(step or 1)))
    return Decimal(count) if count else None


def _number(bound: str) -> int | None:
    if bound.isdecimal():
        return int(bound)
    return _DAYS.index(bound.upper()) if bound.upper() in _DAYS else None
