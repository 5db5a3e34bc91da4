"""Access logging: the stage's format with its `$context` variables filled in, one event a request.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging-variables.html
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from moto.core.exceptions import JsonRESTError

from aistratus.local.gateway.messages import Exchange, Reply
from aistratus.local.log_events import LogEvents, NoSuchGroup

log = logging.getLogger(__name__)

MISSING: Final = "-"
_VARIABLE = re.compile(r"\$context\.([A-Za-z0-9_]+(?:\.[A-Za-z0-9_:-]*[A-Za-z0-9_])*)")


class AccessLog:
    """Writes to the log groups that stages name. One stream for each gateway process."""

    def __init__(self) -> None:
        self._stream = uuid.uuid4().hex
        self._log_events = LogEvents()
        self._told: set[str] = set()

    def write(self, exchange: Exchange, reply: Reply) -> None:
        """Log one request; a missing group is told once in our own log and never disturbs the request."""
        settings: dict[str, str] = getattr(exchange.stage, "access_log_settings", None) or {}
        destination, template = settings.get("destinationArn"), settings.get("format")
        if not destination or not template:
            return
        parts = destination.split(":")
        if len(parts) < 7 or parts[2] != "logs":
            self._tell_once(destination)
            return
        event = (int(time.time() * 1000), render(template, exchange, reply))
        try:
            self._log_events.put(
                account=parts[4],
                region=parts[3],
                group=parts[6],
                stream=self._stream,
                events=[event],
                make_group=False,
            )
        except NoSuchGroup:
            self._tell_once(destination)
        except JsonRESTError as error:
            log.warning("an access log line for %s was refused: %s", destination, error)

    def _tell_once(self, destination: str) -> None:
        if destination not in self._told:
            self._told.add(destination)
            log.warning("access logs go nowhere: there is no log group %s", destination)


def render(template: str, exchange: Exchange, reply: Reply) -> str:
    """The line; values are escaped so that they stay within the quotes of a JSON format, unknown ones are `-`."""
    line = _VARIABLE.sub(lambda found: _escaped(_value(found[1], exchange, reply)), template)
    return line.rstrip("\r\n")


def _escaped(value: str) -> str:
    return json.dumps(value)[1:-1]


def _value(name: str, exchange: Exchange, reply: Reply) -> str:
    if name.startswith("authorizer.claims."):
        return _text((exchange.claims or {}).get(name.removeprefix("authorizer.claims.")))
    found = _VALUES.get(name)
    return _text(found(exchange, reply)) if found else MISSING


def _text(value: object) -> str:
    return MISSING if value is None or value == "" else str(value)


def _request_time(exchange: Exchange) -> str:
    return f"{datetime.fromtimestamp(exchange.request.received, UTC):%d/%b/%Y:%H:%M:%S} +0000"


def _elapsed_ms(exchange: Exchange) -> int:
    return int((time.monotonic() - exchange.began) * 1000)


_Source = Callable[[Exchange, Reply], object]
_VALUES: Final[dict[str, _Source]] = {
    "accountId": lambda exchange, _: exchange.api.account,
    "apiId": lambda exchange, _: exchange.api.id,
    "authorizer.error": lambda exchange, _: exchange.authorizer_error,
    "dataProcessed": lambda exchange, reply: len(exchange.request.body) + len(reply.body),
    "domainName": lambda exchange, _: exchange.api.domain,
    "domainPrefix": lambda exchange, _: exchange.api.id,
    "error.message": lambda exchange, _: exchange.error,
    "error.messageString": lambda exchange, _: json.dumps(exchange.error) if exchange.error else None,
    "error.responseType": lambda exchange, _: exchange.error_type,
    "extendedRequestId": lambda exchange, _: exchange.request_id,
    "httpMethod": lambda exchange, _: exchange.request.method,
    "identity.sourceIp": lambda exchange, _: exchange.request.source_ip,
    "identity.userAgent": lambda exchange, _: exchange.request.headers.get("user-agent"),
    "integration.error": lambda exchange, _: exchange.integration_error,
    "integration.integrationStatus": lambda exchange, _: exchange.integration_status,
    "integration.latency": lambda exchange, _: exchange.integration_ms,
    "integration.status": lambda exchange, _: exchange.integration_status,
    "integrationErrorMessage": lambda exchange, _: exchange.integration_error,
    "integrationLatency": lambda exchange, _: exchange.integration_ms,
    "integrationStatus": lambda exchange, _: exchange.integration_status,
    "path": lambda exchange, _: exchange.request.path,
    "protocol": lambda exchange, _: exchange.request.protocol,
    "requestId": lambda exchange, _: exchange.request_id,
    "requestTime": lambda exchange, _: _request_time(exchange),
    "requestTimeEpoch": lambda exchange, _: int(exchange.request.received * 1000),
    "responseLatency": lambda exchange, _: _elapsed_ms(exchange),
    "responseLength": lambda _, reply: len(reply.body),
    "routeKey": lambda exchange, _: exchange.route_key,
    "stage": lambda exchange, _: exchange.stage.name,
    "status": lambda _, reply: reply.status,
}
