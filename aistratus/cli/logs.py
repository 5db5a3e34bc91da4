"""`aistratus logs`: what the router, the API and the worker wrote."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Absent, Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aistratus.cli.session import Session

FOLLOW_EVERY_S = 1.0
REPEATED_MS = 10_000
"""Events arrive out of order by a few seconds: each look reaches back this far and drops what was shown."""


def logs(
    context: typer.Context,
    source: Annotated[Literal["router", "api", "worker"], typer.Argument(help="Whose log")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C")] = False,
    minutes: Annotated[int, typer.Option(min=1, help="How far to look back")] = 60,
) -> None:
    """Prints a log, oldest line first."""
    from aistratus.cli.session import open_session

    options: Options = context.obj
    session = open_session(options)
    group = _group(session, source)
    since = int((time.time() - minutes * 60) * 1000)
    shown: set[str] = set()
    while True:
        for event in _events(session, group, since):
            if event["eventId"] not in shown:
                shown.add(event["eventId"])
                since = max(since, event["timestamp"] - REPEATED_MS)
                _print(options, event)
        if not follow:
            return
        try:
            session.clock.wait(FOLLOW_EVERY_S)
        except (KeyboardInterrupt, Interrupted):
            return


def _group(session: Session, source: str) -> str:
    from aistratus.resources.logs import LogGroup

    resource = session.stack.by_key[{"router": "router_log", "api": "api_log", "worker": "node_log"}[source]]
    assert isinstance(resource, LogGroup)
    return resource.name


def _events(session: Session, group: str, since: int) -> Iterator[dict[str, Any]]:
    from botocore.exceptions import ClientError

    pages = session.cloud.logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since)
    try:
        for page in pages:
            yield from page["events"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise Absent(f"there is no log group {group}", todo="`aistratus up` makes it") from error
        raise


def _print(options: Options, event: dict[str, Any]) -> None:
    import json

    message = event["message"].rstrip("\n")
    if options.json:
        print(json.dumps({"schema": 1, "timestamp_ms": event["timestamp"], "message": message}), flush=True)
    else:
        at = datetime.fromtimestamp(event["timestamp"] / 1000, UTC).strftime("%H:%M:%S")
        print(f"{at} {message}", flush=True)
