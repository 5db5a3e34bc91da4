"""`cost --by conversation`: each conversation's share of the node's cost, and the cost of 1,000 tokens.

A conversation's share of the cost of machine and address is its share of the time in which the model worked. So idle
time is divided in the same proportion.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aistratus import spending
from aistratus.cli.cost_tables import NAME, amount
from aistratus.costs import meter
from aistratus.wire import Usage

if TYPE_CHECKING:
    from aistratus.cli.cost_report import Report
    from aistratus.cli.session import Session


@dataclass
class Conversation:
    """What one conversation has used: jobs, tokens that were read and written, milliseconds of work."""

    jobs: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    busy_ms: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Shares:
    """Conversations by id, and what the node has cost in their time (USD)."""

    report: Report
    node_usd: Decimal
    conversations: dict[str, Conversation] = field(default_factory=dict)

    def usd(self, one: Conversation) -> Decimal:
        """A conversation's share."""
        busy = sum(other.busy_ms for other in self.conversations.values())
        return self.node_usd * one.busy_ms / busy if busy else Decimal(0)

    @property
    def per_thousand(self) -> Decimal | None:
        """What 1,000 tokens cost, read and written together; `None` where there were none."""
        tokens = sum(one.tokens for one in self.conversations.values())
        return self.node_usd * 1000 / tokens if tokens else None

    def lines(self) -> list[str]:
        """For people."""
        if not self.conversations:
            return ["no conversation in this time"]
        head = f"{'conversation':<38} {'jobs':>5} {'tokens':>8} {'work':>8} {'share':>10}"
        ordered = sorted(self.conversations.items(), key=lambda entry: -entry[1].busy_ms)
        rows = [
            f"{name:<38} {one.jobs:>5} {one.tokens:>8} {one.busy_ms / 1000:>6.0f} s "
            f"{amount(self.report, self.usd(one)):>10}"
            for name, one in ordered
        ]
        each = self.per_thousand
        told = [f"{'1,000 tokens':<{NAME}} {amount(self.report, each):>10}"] if each is not None else []
        return [head, *rows, *told]

    def document(self) -> dict[str, Any]:
        """For programs."""
        each = self.per_thousand
        return {
            "node": round(float(self.report.money(self.node_usd)), 6),
            "per_1000_tokens": None if each is None else round(float(self.report.money(each)), 6),
            "conversations": [
                {
                    "conversation": name,
                    "jobs": one.jobs,
                    "prompt_tokens": one.prompt_tokens,
                    "completion_tokens": one.completion_tokens,
                    "busy_ms": one.busy_ms,
                    "amount": round(float(self.report.money(self.usd(one))), 6),
                }
                for name, one in self.conversations.items()
            ],
        }


def gather(session: Session, report: Report) -> Shares:
    """Reads what the worker has written down about the jobs of the report's time."""
    aws = session.cloud
    found: dict[str, Conversation] = defaultdict(Conversation)
    for use in spending.usage(aws.dynamodb, aws.name("jobs"), report.begin_ms, report.records.now_ms):
        _add(found[use.conversation], use)
    node = sum((usd for what, usd in report.bill.lines.items() if meter.of_node(what)), Decimal(0))
    return Shares(report, node, dict(found))


def _add(to: Conversation, use: Usage) -> None:
    to.jobs += 1
    to.prompt_tokens += use.prompt_tokens
    to.completion_tokens += use.completion_tokens
    to.busy_ms += use.busy_ms
