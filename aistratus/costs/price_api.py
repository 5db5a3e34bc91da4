"""Refreshes prices from AWS's price list, which is free. Ambiguous answers are ignored.

Each query selects products by attributes and by the suffix of their usage type, and must leave one price in the
expected unit; otherwise the price stays as it was, and that is reported. Of tiered prices the first tier that isn't
free counts, as in the package's list.

Sources: Price List Query API reference, GetProducts; attributes as the price list has them ("Finding services and
products using the Price List Query API", AWS Billing user guide); usage types of CloudWatch in its user guide,
"Analyzing, optimizing, and reducing CloudWatch costs".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from aistratus.costs.prices import UNITS, Price

REGIONS: Final = ("us-east-1", "eu-central-1", "ap-south-1")
"""Regions with a price list endpoint. Source: AWS General Reference, "AWS Price List Query API endpoints"."""
SOURCE: Final = "https://api.pricing.us-east-1.amazonaws.com (GetProducts)"


@dataclass(frozen=True)
class Query:
    """The query for one price.

    code: the service in the price list.
    fields: attributes that must have just these values.
    usage: what the usage type ends with, a regular expression; its beginning is the region's.
    measured: the price list's own word for the unit, a regular expression.
    unit: ours, as in the list.
    place: the attribute that names the region; what flows out of one has another, and what belongs to an account alone
        has none.
    """

    service: str
    item: str
    code: str
    fields: Mapping[str, str]
    usage: str
    measured: str
    unit: str
    place: str = "regionCode"


_HOURS, _GB_MONTH = r"Hrs|Hours?", r"GB-Mo|GB-month"
_CW: Final = "AmazonCloudWatch"

QUERIES: Final = (
    Query("ebs", "gp3", "AmazonEC2", {"volumeApiName": "gp3"}, r"EBS:VolumeUsage\.gp3", _GB_MONTH, "GiB-month"),
    Query("vpc", "nat", "AmazonEC2", {"productFamily": "NAT Gateway"}, "NatGateway-Hours", _HOURS, "hour"),
    Query("vpc", "nat-data", "AmazonEC2", {"productFamily": "NAT Gateway"}, "NatGateway-Bytes", "GB", "GB"),
    Query(
        "vpc", "public-ipv4", "AmazonVPC", {"group": "VPCPublicIPv4Address"}, "PublicIPv4:InUseAddress", _HOURS, "hour"
    ),
    Query(
        "lambda", "requests", "AWSLambda", {"group": "AWS-Lambda-Requests-ARM"}, "Request-ARM", "Requests?", "million"
    ),
    Query(
        "lambda", "duration-arm", "AWSLambda", {"group": "AWS-Lambda-Duration-ARM"}, "Lambda-GB-Second-ARM",
        "Lambda-GB-Second|seconds?", "GB-second",
    ),
    Query("apigateway", "http-requests", "AmazonApiGateway", {}, "ApiGatewayHttpRequest", "Requests?", "million"),
    Query("cloudwatch", "alarm", _CW, {"productFamily": "Alarm"}, "CW:AlarmMonitorUsage", "Alarms?", "metric-month"),
    Query(
        # Of the account, in no region: `-Basic` up to 50 metrics, as ours; both cost the same.
        "cloudwatch", "dashboard", _CW, {"productFamily": "Dashboard"}, "DashboardsUsageHour-Basic", "Dashboards?",
        "dashboard-month", "",
    ),
    Query("cloudwatch", "logs-in", _CW, {"group": "Ingested Logs"}, "DataProcessing-Bytes", "GB", "GB"),
    Query(
        "secretsmanager", "secret", "AWSSecretsManager", {}, "AWSSecretsManager-Secrets", "Secrets?", "secret-month"
    ),
    Query(
        "dynamodb", "writes", "AmazonDynamoDB", {"group": "DDB-WriteUnits"}, "WriteRequestUnits", "WriteRequestUnits",
        "million",
    ),
    Query(
        "dynamodb", "reads", "AmazonDynamoDB", {"group": "DDB-ReadUnits"}, "ReadRequestUnits", "ReadRequestUnits",
        "million",
    ),
    Query(
        "cloudwatch", "metric", _CW, {"productFamily": "Metric"}, "CW:MetricMonitorUsage", "Metrics?", "metric-month"
    ),
    # us-east-1 has its requests by another name than the others.
    Query("sqs", "fifo-requests", "AWSQueueService", {}, "Requests-FIFO-(?:Tier1|RBP)", "Requests?", "million"),
    Query("sqs", "standard-requests", "AWSQueueService", {}, "Requests-(?:Tier1|RBP)", "Requests?", "million"),
    Query("s3", "writes", "AmazonS3", {"group": "S3-API-Tier1"}, "Requests-Tier1", "Requests?", "thousand"),
    Query("s3", "reads", "AmazonS3", {"group": "S3-API-Tier2"}, "Requests-Tier2", "Requests?", "thousand"),
    Query("codebuild", "arm1.small", "CodeBuild", {}, r"Build-Min:ARM:g1\.small", "Minutes?", "minute"),
    Query("codebuild", "general1.small", "CodeBuild", {}, r"Build-Min:Linux:g1\.small", "Minutes?", "minute"),
    Query(
        "ec2", "data-out", "AWSDataTransfer", {"transferType": "AWS Outbound"}, "DataTransfer-Out-Bytes", "GB", "GB",
        "fromRegionCode",
    ),
    Query("s3", "storage", "AmazonS3", {"volumeType": "Standard"}, "TimedStorage-ByteHrs", _GB_MONTH, "GB-month"),
    Query("ecr", "storage", "AmazonECR", {}, "TimedStorage-ByteHrs", _GB_MONTH, "GB-month"),
)  # fmt: skip


def machine(kind: str) -> Query:
    """An instance type's hour, on demand, with Linux."""
    fields = {
        "instanceType": kind, "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }  # fmt: skip
    return Query("ec2", kind, "AmazonEC2", fields, f"BoxUsage:{re.escape(kind)}", _HOURS, "hour")


def machine_types(prices: Iterable[Price]) -> set[str]:
    """The instance types in a price list."""
    return {price.item for price in prices if price.service == "ec2" and price.unit == "hour"}


def ask(client: Any, region: str, kinds: Iterable[str]) -> tuple[list[Price], list[str]]:
    """The refreshed prices of a region, and those that couldn't be refreshed.

    Args:
        client: boto3's client for `pricing`, in one of `REGIONS`.
        kinds: types of machines.
    """
    today = datetime.now(UTC).date()
    found: list[Price] = []
    silent: list[str] = []
    for query in (*map(machine, kinds), *QUERIES):
        products = _products(client, query, region)
        usd = price_of(products, query)
        if usd is None:
            silent.append(f"{query.service} {query.item}")
        else:
            found.append(_price(query, region, usd, today))
    return found, silent


def _products(client: Any, query: Query, region: str) -> Iterator[dict[str, Any]]:
    fields = {**({query.place: region} if query.place else {}), **query.fields}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()]
    for page in client.get_paginator("get_products").paginate(ServiceCode=query.code, Filters=filters):
        yield from map(json.loads, page["PriceList"])


def price_of(products: Iterable[Mapping[str, Any]], query: Query) -> Decimal | None:
    """The one price that the query leaves, in USD per unit; `None` where it leaves none or several."""
    usage, measured = re.compile(rf"(?:[A-Z0-9]+-)?{query.usage}"), re.compile(query.measured, re.IGNORECASE)
    prices = set()
    for product in products:
        if not usage.fullmatch(product["product"]["attributes"].get("usagetype", "")):
            continue
        tiers = [
            tier
            for term in product.get("terms", {}).get("OnDemand", {}).values()
            for tier in term["priceDimensions"].values()
            if measured.fullmatch(tier["unit"]) and Decimal(tier["pricePerUnit"].get("USD", "0"))
        ]
        if tiers:
            first = min(tiers, key=lambda tier: Decimal(tier.get("beginRange") or 0))
            prices.add(Decimal(first["pricePerUnit"]["USD"]))
    return prices.pop() if len(prices) == 1 else None


def _price(query: Query, region: str, usd: Decimal, today: date) -> Price:
    amount = (usd * UNITS.get(query.unit, Decimal(1))).normalize()
    return Price(query.service, query.item, region, query.unit, amount, Decimal(0), today, SOURCE)
