"""Payload format 2.0: from a request to the function's event, and from the function's result to the reply.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from aistratus.local.gateway.messages import JSON_TYPE, Exchange, Reply

_TEXT_TYPE = re.compile(r"text/.*|application/(?:.*\+)?(?:json|xml)|application/javascript", re.IGNORECASE)
"""Bodies of these types reach the function as text, all others (also form posts) as Base64."""
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OWN_HEADERS: Final = frozenset({"content-length", "transfer-encoding", "connection", "apigw-requestid", "date"})
"""Set by the gateway, whatever the function says."""
STATUS: Final = range(200, 600)
"""An informational status can't end a request."""


class MalformedAnswer(Exception):
    """The function's answer isn't of format 2.0; the text says in what."""


def build_event(exchange: Exchange, parameters: Mapping[str, str]) -> bytes:
    """The event as JSON. Keys that have nothing to say are left out, as on AWS."""
    request, stage = exchange.request, exchange.stage
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": exchange.route_key,
        "rawPath": request.path,
        "rawQueryString": request.query,
    }
    if request.cookies:
        event["cookies"] = list(request.cookies)
    event["headers"] = dict(request.headers)
    if query := _query_parameters(request.query):
        event["queryStringParameters"] = query
    event["requestContext"] = _request_context(exchange)
    if parameters:
        event["pathParameters"] = dict(parameters)
    if stage.stage_variables:
        event["stageVariables"] = dict(stage.stage_variables)
    text = _as_text(request.body, request.headers)
    if request.body:
        event["body"] = base64.b64encode(request.body).decode() if text is None else text
    event["isBase64Encoded"] = text is None
    return json.dumps(event, separators=(",", ":")).encode()


def _query_parameters(query: str) -> dict[str, str]:
    """Decoded; several values of one name are joined by commas."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
        found.setdefault(name, []).append(value)
    return {name: ",".join(values) for name, values in found.items()}


def _request_context(exchange: Exchange) -> dict[str, Any]:
    request, api = exchange.request, exchange.api
    context: dict[str, Any] = {
        "accountId": api.account,
        "apiId": api.id,
        "domainName": api.domain,
        "domainPrefix": api.id,
        "http": {
            "method": request.method,
            "path": request.path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": request.headers.get("user-agent", ""),
        },
        "requestId": exchange.request_id,
        "routeKey": exchange.route_key,
        "stage": exchange.stage.name,
        "time": f"{datetime.fromtimestamp(request.received, UTC):%d/%b/%Y:%H:%M:%S} +0000",
        "timeEpoch": int(request.received * 1000),
    }
    if exchange.claims is not None:
        claims = {name: claim_text(value) for name, value in exchange.claims.items()}
        context["authorizer"] = {"jwt": {"claims": claims, "scopes": exchange.scopes}}
    return context


def claim_text(value: object) -> str:
    """A claim as API Gateway hands it on: always text, arrays as `[a b]`, maps as `map[a:b]`."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{' '.join(claim_text(entry) for entry in value)}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{claim_text(entry)}' for key, entry in sorted(value.items()))}]"
    return str(value)


def _as_text(body: bytes, headers: Mapping[str, str]) -> str | None:
    """The body as text, or None when it must travel as Base64."""
    if not body:
        return ""
    kind = headers.get("content-type", "text/plain").partition(";")[0].strip()
    if not _TEXT_TYPE.fullmatch(kind) or headers.get("content-encoding", "identity") != "identity":
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


# --- the answer -----------------------------------------------------------------------------------------------


def read_answer(payload: bytes) -> Reply:
    """The reply that a function's answer stands for. Without a `statusCode` all of it is the body of a 200.

    Raises:
        MalformedAnswer: API Gateway would answer 500.
    """
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        raise MalformedAnswer("the answer isn't JSON") from None
    if not isinstance(answer, dict) or "statusCode" not in answer:
        body = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        return Reply(200, (JSON_TYPE,), body.encode("utf-8", "replace"))
    status = _status(answer["statusCode"])
    headers = _headers(answer)
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", "text/plain;charset=UTF-8"))
    return Reply(status, tuple(headers), _body(answer))


def _status(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value not in STATUS:
        raise MalformedAnswer("statusCode isn't an HTTP status")
    return value


def _headers(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    given, cookies = answer.get("headers"), answer.get("cookies")
    given, cookies = {} if given is None else given, [] if cookies is None else cookies
    if not isinstance(given, dict) or not isinstance(cookies, list):
        raise MalformedAnswer("headers isn't an object or cookies isn't a list")
    pairs = [*given.items(), *(("set-cookie", cookie) for cookie in cookies)]
    headers = []
    for name, value in pairs:
        if value is None or isinstance(value, (dict, list)):
            raise MalformedAnswer(f"the header {name!r} isn't text")
        text = claim_text(value)
        if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(text):
            raise MalformedAnswer(f"the header {name!r} can't be sent")
        if name.lower() not in _OWN_HEADERS:
            headers.append((name.lower(), text))
    return headers


def _body(answer: Mapping[str, Any]) -> bytes:
    body = answer.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise MalformedAnswer("body isn't text")
    if not answer.get("isBase64Encoded"):
        return body.encode("utf-8", "replace")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        raise MalformedAnswer("body isn't Base64") from None
