"""Delivers a function's output to CloudWatch Logs and metrics.

Each line of stdout or stderr becomes an event in the function's log group, between the START, END and REPORT
lines of its invocation. A line in embedded metric format also becomes metrics, with no API call by the function:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import datetime
import json
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from moto.backends import get_backend
from moto.core.exceptions import JsonRESTError

from aistratus.local.log_events import LogEvents

log = logging.getLogger(__name__)

TAIL_BYTES: Final = 4096
"""Lambda's `LogResult` holds the last 4 KB."""
EVENT_CHARS: Final = 256 * 1024
"""CloudWatch Logs takes no larger event; a longer line is split."""


@dataclass(frozen=True)
class LogStream:
    """Where an execution environment's lines go."""

    account: str
    region: str
    group: str
    stream: str
    log_events: LogEvents = field(repr=False, compare=False)

    def write(self, events: list[tuple[int, str]]) -> None:
        """Put events (milliseconds, text) into the stream; the group is made when it is missing, as Lambda does."""
        self.log_events.put(
            account=self.account,
            region=self.region,
            group=self.group,
            stream=self.stream,
            events=events,
            make_group=True,
        )


def stream_name(version: str) -> str:
    """AWS's form: `2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef`."""
    today = datetime.datetime.now(datetime.UTC)
    return f"{today:%Y/%m/%d}/[{version}]{uuid.uuid4().hex}"


class LinesSoFar:
    """The lines of one execution environment, gathered from its output and written in batches."""

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream
        self._rest = b""
        self._unwritten: list[tuple[int, str]] = []
        self._tail = ""

    def feed(self, data: bytes) -> None:
        """Raw output; an unfinished last line waits for its end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.add(line.decode("utf-8", "replace"))

    def finish_line(self) -> None:
        """An unfinished line ends with its invocation or its process."""
        if self._rest:
            self.add(self._rest.decode("utf-8", "replace"))
            self._rest = b""

    def add(self, line: str) -> None:
        # A runtime joins the lines of one event (a traceback) with carriage returns.
        text = line.rstrip("\r").replace("\r", "\n")
        now = int(time.time() * 1000)
        self._unwritten += [(now, text[at : at + EVENT_CHARS]) for at in range(0, len(text), EVENT_CHARS)]
        self._tail = f"{self._tail}{text}\n"[-TAIL_BYTES:]

    def begin(self) -> None:
        """A new invocation: its tail starts empty."""
        self._tail = ""

    @property
    def tail(self) -> str:
        """The last 4 KB of text since `begin`."""
        return self._tail.encode()[-TAIL_BYTES:].decode("utf-8", "ignore")

    def write_out(self) -> None:
        """Hand everything gathered so far to CloudWatch. Trouble there never fails an invocation, as on AWS."""
        if not self._unwritten:
            return
        # The wall clock may step back; a batch must be in order.
        latest = 0
        events = [(latest := max(latest, when), text) for when, text in self._unwritten]
        self._unwritten = []
        try:
            self._stream.write(events)
        except JsonRESTError as error:
            log.warning("log lines for %s were refused: %s", self._stream.group, error)
        for _, text in events:
            if text.startswith("{") and '"_aws"' in text:
                _put_metrics(self._stream.account, self._stream.region, text)


def _put_metrics(account: str, region: str, line: str) -> None:
    try:
        document = json.loads(line)
        batches = list(_metrics_in(document))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError):
        return  # CloudWatch too keeps a malformed document as a log line only
    backend: Any = get_backend("cloudwatch")[account][region]
    for namespace, data in batches:
        try:
            backend.put_metric_data(namespace, data)
        except Exception as error:  # noqa: BLE001  (moto's errors share no base; the line is in the log already)
            log.warning("metrics in namespace %r were refused: %s", namespace, error)


def _metrics_in(document: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Namespace and PutMetricData entries of each directive: one entry for each metric and dimension set."""
    meta = document["_aws"]
    when = datetime.datetime.fromtimestamp(meta["Timestamp"] / 1000, datetime.UTC).replace(tzinfo=None)
    for directive in meta["CloudWatchMetrics"]:
        data = []
        for dimensions in directive.get("Dimensions") or [[]]:
            named = [{"Name": name, "Value": str(document[name])} for name in dimensions]
            for metric in directive["Metrics"]:
                found = document[metric["Name"]]
                data.append(
                    {
                        "MetricName": metric["Name"],
                        "Dimensions": named,
                        "Timestamp": when,
                        "Unit": metric.get("Unit", "None"),
                        "Values": [float(value) for value in (found if isinstance(found, list) else [found])],
                    }
                )
        yield directive["Namespace"], data
