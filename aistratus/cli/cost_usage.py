"""`cost --usage`: this month's traffic and what it costs, from CloudWatch's metrics.

GetMetricStatistics is in CloudWatch's free tier of a million calls a month; GetMetricData isn't.
Source: CloudWatch pricing, "APIs". Names and dimensions: API Gateway's developer guide, "Working with metrics for HTTP
APIs"; VPC user guide, "NAT gateway metrics and dimensions"; EC2's pricing page, "Data Transfer": data from EC2 to SQS,
DynamoDB, S3 and others of the same region is free.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from aistratus.cli.cost_tables import NAME, amount
from aistratus.costs.prices import known
from aistratus.costs.uses import Item
from aistratus.resources.calls import at_once

if TYPE_CHECKING:
    from aistratus.cli.cost_report import Report
    from aistratus.cli.session import Session

DAY_S: Final = 86_400
GB: Final = Decimal(10**9)


@dataclass(frozen=True)
class Count:
    """One thing that is counted, and what the sum of its points is multiplied with to be what is paid for.

    item: what it is paid as; `None`: it is only counted, because it is paid for by what it takes.
    """

    what: str
    item: Item | None
    namespace: str
    metric: str
    dimensions: dict[str, str]
    each: Decimal = Decimal(1)


@dataclass(frozen=True)
class Flow:
    """So much of it, and what it costs in USD; `None` where its price isn't known."""

    what: str
    amount: Decimal
    usd: Decimal | None


@dataclass(frozen=True)
class Usage:
    """Everything that flowed in the report's time."""

    report: Report
    flows: tuple[Flow, ...]

    def lines(self) -> list[str]:
        """For people."""
        total = sum((flow.usd or Decimal(0) for flow in self.flows), Decimal(0))
        rows = [
            f"{flow.what:<{NAME}} {flow.amount:>14,.{0 if flow.amount == flow.amount.to_integral() else 3}f} "
            f"{'unknown' if flow.usd is None else amount(self.report, flow.usd):>10}"
            for flow in self.flows
        ]
        head = f"{'by use, as CloudWatch counted':<{NAME}} {'':>14} {amount(self.report, total):>10}"
        return [head, *rows, "what AWS gives away of it each month isn't taken off"]

    def document(self) -> list[dict[str, Any]]:
        """For programs."""
        return [
            {
                "what": flow.what,
                "count": float(flow.amount),
                "amount": None if flow.usd is None else round(float(self.report.money(flow.usd)), 6),
            }
            for flow in self.flows
        ]


def gather(session: Session, report: Report) -> Usage:
    """Asks CloudWatch for the report's time."""
    aws, counts, prices = session.cloud, list(_counts(session)), known()
    begin = datetime.fromtimestamp(report.begin_ms / 1000, UTC)
    end = datetime.fromtimestamp(report.records.now_ms / 1000, UTC)

    def asked(count: Count) -> Decimal:
        answer = aws.cloudwatch.get_metric_statistics(
            Namespace=count.namespace,
            MetricName=count.metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in count.dimensions.items()],
            StartTime=begin,
            EndTime=end,
            Period=DAY_S,
            Statistics=["Sum"],
        )
        return sum((Decimal(str(point["Sum"])) for point in answer["Datapoints"]), Decimal(0)) * count.each

    sums = at_once(*((lambda count=count: asked(count)) for count in counts))
    flows: dict[str, Flow] = {}
    for count, total in zip(counts, sums, strict=True):
        price = None if count.item is None else prices.get(*count.item, aws.region)
        usd = Decimal(0) if count.item is None else None if price is None else price.each * total
        before = flows.get(count.what, Flow(count.what, Decimal(0), Decimal(0)))
        together = None if usd is None or before.usd is None else before.usd + usd
        flows[count.what] = Flow(count.what, before.amount + total, together)
    return Usage(report, tuple(flows.values()))


def _counts(session: Session) -> Iterator[Count]:
    aws = session.cloud
    yield Count("jobs", None, "AWS/SQS", "NumberOfMessagesSent", {"QueueName": aws.name("jobs.fifo")})
    memory_gb = {"router": Decimal(512) / 1024}
    for function in ("router", "stop-build-box", "daily-summary"):
        of = {"FunctionName": aws.name(function)}
        yield Count("function calls", ("lambda", "requests"), "AWS/Lambda", "Invocations", of)
        gb = memory_gb.get(function, Decimal(256) / 1024)
        yield Count("function GB-seconds", ("lambda", "duration-arm"), "AWS/Lambda", "Duration", of, gb / 1000)
    for queue in ("jobs.fifo", "jobs-dlq.fifo"):
        for metric in (
            "NumberOfMessagesSent", "NumberOfMessagesReceived", "NumberOfMessagesDeleted", "NumberOfEmptyReceives"
        ):  # fmt: skip
            yield Count("queue requests", ("sqs", "fifo-requests"), "AWS/SQS", metric, {"QueueName": aws.name(queue)})
    table = {"TableName": aws.name("jobs")}
    yield Count("table writes", ("dynamodb", "writes"), "AWS/DynamoDB", "ConsumedWriteCapacityUnits", table)
    yield Count("table reads", ("dynamodb", "reads"), "AWS/DynamoDB", "ConsumedReadCapacityUnits", table)
    for resource in session.stack.resources:
        if resource.kind == "LogGroup" and isinstance(name := getattr(resource, "name", None), str):
            of = {"LogGroupName": name}
            yield Count("logs, GB", ("cloudwatch", "logs-in"), "AWS/Logs", "IncomingBytes", of, 1 / GB)
    if api := aws.recorded("api").get("id"):
        yield Count("API requests", ("apigateway", "http-requests"), "AWS/ApiGateway", "Count", {"ApiId": api})
        # What people send is in it too, and free: so it is no less than what is billed, and of replies nearly that.
        of = {"ApiId": api}
        yield Count("data out by the API, GB", ("ec2", "data-out"), "AWS/ApiGateway", "DataProcessed", of, 1 / GB)
    if node := aws.recorded("node").get("id"):
        # It talks to AWS's services of its own region, which is free.
        yield Count("data out of the node, GB", None, "AWS/EC2", "NetworkOut", {"InstanceId": node}, 1 / GB)
    if nat := aws.recorded("nat_gateway").get("id"):
        for metric in ("BytesInFromSource", "BytesInFromDestination"):
            of = {"NatGatewayId": nat}
            yield Count("through the NAT gateway, GB", ("vpc", "nat-data"), "AWS/NATGateway", metric, of, 1 / GB)
