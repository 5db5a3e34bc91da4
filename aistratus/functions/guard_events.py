"""Reads the events that the guard is invoked with: a notice of the kill topic, or a scheduled rule."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any


def notice_of(event: Any, topic: str) -> str | None:
    """Subject and text of an SNS notice of this topic; `None` for any other event."""
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or not records:
        return None
    texts = []
    for record in records:
        notice = record.get("Sns") if isinstance(record, dict) and record.get("EventSource") == "aws:sns" else None
        if not isinstance(notice, dict) or notice.get("TopicArn") != topic:
            return None
        texts += [str(notice[name]) for name in ("Subject", "Message") if notice.get(name)]
    return "\n".join(texts)


def mentions(notice: str, budget: str) -> bool:
    """Whether a notice names exactly this budget.

    AWS doesn't document the notice's text; so far it has had a line `Budget Name: …`. The name is accepted anywhere in
    it, because a notice in another form must not let machines run on.
    """
    return re.search(rf"(?<![\w-]){re.escape(budget)}(?![\w-])", notice) is not None


def scheduled_time(event: Any, rule: str) -> float | None:
    """The time (seconds since the epoch) of a scheduled event of this rule; `None` for any other event."""
    wanted = {"source": "aws.events", "detail-type": "Scheduled Event", "resources": [rule]}
    if not isinstance(event, dict) or any(event.get(name) != value for name, value in wanted.items()):
        return None
    try:
        moment = datetime.fromisoformat(event["time"])
    except (KeyError, TypeError, ValueError):
        return None
    return moment.timestamp() if moment.tzinfo else None
