"""AWS's bill, from Cost Explorer's answer, and why it differs from the metered cost, service by service.

Cost Explorer is about a day behind, and each call costs $0.01. It counts resources with our tags, once the tags are
activated as cost allocation tags.
Source: Cost Management user guide, "Analyzing your costs and usage with Cost Explorer".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from aistratus.core.errors import Failure, error_code
from aistratus.costs import meter
from aistratus.costs.meter import NOTHING

EC2: Final = "Amazon Elastic Compute Cloud - Compute"
EC2_OTHER: Final = "EC2 - Other"
VPC: Final = "Amazon Virtual Private Cloud"
SERVICES: Final[Mapping[str, str]] = {
    "Secret": "AWS Secrets Manager",
    "Alarm": "AmazonCloudWatch",
    "Dashboard": "AmazonCloudWatch",
    "EventRule": "AWS Lambda",
    "Alias": "AWS Lambda",
    "NatGateway": EC2_OTHER,
    "ElasticIp": VPC,
}
"""Cost Explorer's name of the service that bills a kind of resource."""
FREE: Final = frozenset({"AmazonCloudWatch", "AWS Lambda"})
"""Services whose monthly free allowance covers a stack of this size."""


@dataclass(frozen=True)
class Billed:
    """USD by service, for a period of whole days (UTC), as AWS reported it at `asked_ms`."""

    services: Mapping[str, Decimal]
    since: date
    until: date
    asked_ms: int

    @property
    def usd(self) -> Decimal:
        return sum(self.services.values(), NOTHING)

    def document(self) -> dict[str, Any]:
        """The form in which it is cached."""
        return {
            "services": {name: str(usd) for name, usd in self.services.items()},
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "asked_ms": self.asked_ms,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Billed:
        """From the cache.

        Raises:
            KeyError, ValueError, ArithmeticError: it isn't one.
        """
        return cls(
            {name: Decimal(usd) for name, usd in document["services"].items()},
            date.fromisoformat(document["since"]),
            date.fromisoformat(document["until"]),
            int(document["asked_ms"]),
        )


def question(env: str, since: date, until: date) -> dict[str, Any]:
    """GetCostAndUsage's parameters: this env's cost by service. `until` is exclusive.

    Source: Cost Explorer API reference, GetCostAndUsage.
    """
    tags = [{"Tags": {"Key": name, "Values": [value]}} for name, value in (("Project", "tinyllama"), ("Env", env))]
    return {
        "TimePeriod": {"Start": since.isoformat(), "End": until.isoformat()},
        "Granularity": "MONTHLY",
        "Metrics": ["UnblendedCost"],
        "Filter": {"And": tags},
        "GroupBy": [{"Type": "DIMENSION", "Key": "SERVICE"}],
    }


def asked(call: Callable[..., Mapping[str, Any]], parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All pages of Cost Explorer's answer.

    In an account that has never used it AWS refuses even those who may do everything, in the words of a missing
    permission. Source: aws-samples/aws-cost-explorer-report, issue 15; Cost Explorer API reference,
    DataUnavailableException.

    Raises:
        Failure: it isn't switched on, or has no data yet.
    """
    pages: list[Mapping[str, Any]] = []
    more: dict[str, Any] = {}
    try:
        while not pages or more:
            pages.append(call(**parameters, **more))
            more = {"NextPageToken": token} if (token := pages[-1].get("NextPageToken")) else {}
    except Exception as error:
        if "not enabled for cost explorer" in str(error).lower():
            raise Failure(
                "Cost Explorer isn't switched on in this account",
                todo="open it once in the AWS console (Billing, Cost Explorer; in an organisation its management "
                "account does that); a day later it has data",
            ) from error
        if error_code(error) == "DataUnavailableException":
            raise Failure("Cost Explorer has no data yet", todo="ask again in a day") from error
        raise
    return pages


def answered(answers: Iterable[Mapping[str, Any]], since: date, until: date, asked_ms: int) -> Billed:
    """From the pages of Cost Explorer's answer."""
    services: dict[str, Decimal] = defaultdict(Decimal)
    for period in (period for answer in answers for period in answer.get("ResultsByTime", ())):
        for group in period.get("Groups", ()):
            services[group["Keys"][0]] += Decimal(group["Metrics"]["UnblendedCost"]["Amount"])
    return Billed({name: usd for name, usd in services.items() if usd}, since, until, asked_ms)


@dataclass(frozen=True)
class Gap:
    """One service: metered, billed, and why the two differ."""

    service: str
    metered: Decimal
    billed: Decimal
    why: str


def gaps(metered: Mapping[str, Decimal], kinds: Mapping[str, str], billed: Billed) -> list[Gap]:
    """The services, compared over the same period.

    Args:
        metered: USD by what they were spent on.
        kinds: the kind of resource of each key.
    """
    ours: dict[str, Decimal] = defaultdict(Decimal)
    for what, usd in metered.items():
        ours[service_of(what, kinds)] += usd
    names = sorted({*ours, *billed.services}, key=lambda name: -max(ours[name], billed.services.get(name, NOTHING)))
    return [Gap(name, ours[name], there := billed.services.get(name, NOTHING), _why(name, ours[name], there))
            for name in names]  # fmt: skip


def service_of(what: str, kinds: Mapping[str, str]) -> str:
    """The service that bills a metered line."""
    if what.startswith("machine "):
        return EC2
    known = {"volume": EC2_OTHER, meter.CREDITS: EC2_OTHER, meter.ADDRESS: VPC}
    return known.get(what) or SERVICES.get(kinds.get(what, ""), "other")


def _why(service: str, metered: Decimal, billed: Decimal) -> str:
    difference = billed - metered
    if abs(difference) < Decimal("0.005"):
        return ""
    if service == "Tax":
        return "list prices are without tax"
    if not metered:
        return "by use: requests, data and storage aren't metered by time"
    if service in FREE and difference < 0:
        return "what AWS gives away each month isn't taken off here"
    if difference < 0:
        return "AWS is a day behind, or counts by tags that weren't activated then"
    return "a stop that nobody recorded is counted to the last sign of life; or the price has changed"
