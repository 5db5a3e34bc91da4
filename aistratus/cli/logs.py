"""`aistratus logs`: what the router, the API and the worker wrote, or all of them about one request."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Absent, Interrupted, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from aistratus.cli.session import Session

FOLLOW_EVERY_S = 1.0
AN_HOUR_MIN = 60
A_DAY_MIN = 24 * 60
LOGS = {"api": "api_log", "router": "router_log", "worker": "node_log"}
"""Names of logs, and their keys in the stack, in the order in which a request passes through them."""
MOST_MIN = 5_256_000
"""Ten years: CloudWatch Logs keeps nothing for longer, unless for good."""
REPEATED_MS = 10_000
"""Events arrive out of order by a few seconds: each look reaches back this far and drops what was shown."""


def logs(
    context: typer.Context,
    source: Annotated[
        Literal["router", "api", "worker"] | None, typer.Argument(help="Which log", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines until Ctrl-C")] = False,
    minutes: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_MIN, help="How far to look back (default: 60; with --request a day)"),
    ] = None,
    request: Annotated[
        str | None, typer.Option(help="Search all logs for one request, by the id that errors name")
    ] = None,
) -> None:
    """Prints one log, oldest line first, or everything about one request from all logs."""
    from aistratus.cli.session import open_session

    options: Options = context.obj
    if request is not None:
        if source is not None or follow:
            raise UsageError("--request looks through all logs once", todo="leave out the log's name and --follow")
        _about(options, request, minutes or A_DAY_MIN)
        return
    if source is None:
        raise UsageError("no log is named", todo="name router, api or worker, or a request with --request")
    session = open_session(options)
    group = _group(session, source)
    since = int((time.time() - (minutes or AN_HOUR_MIN) * 60) * 1000)
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

    resource = session.stack.by_key[LOGS[source]]
    assert isinstance(resource, LogGroup)
    return resource.name


def _about(options: Options, request: str, minutes: int) -> None:
    """Everything about one request, from all logs."""
    from aistratus.cli import show
    from aistratus.cli.session import open_session
    from aistratus.request_log import REQUEST_ID, story

    if not REQUEST_ID.fullmatch(request):
        raise UsageError(f"{request!r} isn't a request id", todo="errors and `chat -o json` name it as `request_id`")
    session = open_session(options)
    groups = _groups(session)
    since = int((time.time() - minutes * 60) * 1000)

    def look(source: str, term: str) -> Iterable[Mapping[str, Any]]:
        try:
            yield from _events(session, groups[source], since, filterPattern=f'"{term}"')
        except Absent:
            if source in LOGS:  # a function that never ran has no log
                raise

    found = story(request, tuple(groups), look)
    if not found.lines:
        raise Absent(
            f"no log names request {request} in the last {minutes} minutes",
            todo="--minutes looks further back; API Gateway's own log may be some minutes late",
        )
    if options.json:
        events = [
            {"timestamp_ms": line.timestamp_ms, "source": line.source, "message": line.message} for line in found.lines
        ]
        show.emit({"env": session.settings.env, "request_id": request, "jobs": found.jobs, "events": events})
        return
    width = max(len(line.source) for line in found.lines)
    for line in found.lines:
        at = datetime.fromtimestamp(line.timestamp_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
        print(f"{at} {line.source:<{width}} {line.message}", flush=True)


def _groups(session: Session) -> dict[str, str]:
    """Log groups by the names of their logs: the request's way first, then the small functions'."""
    from aistratus.resources.logs import LogGroup

    way = {source: _group(session, source) for source in LOGS}
    functions = {
        key.removesuffix("_log"): resource.name
        for key, resource in session.stack.by_key.items()
        if isinstance(resource, LogGroup) and resource.name.startswith("/aws/lambda/") and key not in LOGS.values()
    }
    return way | functions


def _events(session: Session, group: str, since: int, **more: str) -> Iterator[dict[str, Any]]:
    from botocore.exceptions import ClientError

    logs = session.cloud.logs
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since, **more)
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
