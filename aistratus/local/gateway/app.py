"""Processes a request through an HTTP API.

In order, as on AWS: limits of the request itself, the API and its stage, a CORS preflight, the route, the throttle,
the authorizer, the integration and its permission, the function, its answer, CORS headers, the access log. Each
step either goes on or makes the reply.

Processing has two halves, each on a thread: deciding (fast) and invoking (as long as the function takes). The
integration's timeout ends only the wait: the client gets its 503, and the function runs to its own end.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.to_thread
from moto.awslambda.exceptions import UnknownFunctionException
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from aistratus.local.authorizer import JwtAuthorizer, Refused
from aistratus.local.deployed_function import FunctionNotFound, split_name
from aistratus.local.gateway import cors, payload, permission, routes
from aistratus.local.gateway.access_log import AccessLog
from aistratus.local.gateway.messages import Exchange, Reply, Request, message
from aistratus.local.gateway.throttle import Throttle
from aistratus.local.runner import FunctionRunner, FunctionUnusable, Invocation, PayloadTooLarge, Throttled

log = logging.getLogger(__name__)

BODY_BYTES: Final = 10 * 1024 * 1024
"""HTTP API quotas: payload size."""
HEAD_BYTES: Final = 10_240
"""HTTP API quotas: total combined size of request line and header values."""
INTEGRATION_MS: Final = 30_000
"""HTTP API quotas: maximum integration timeout."""
RESERVED_PATHS: Final = (["ping"], ["sping"])
"""AWS's own health checks; they never reach a route."""
DECIDING_THREADS: Final = 16
INVOKING_THREADS: Final = 64
"""Enough for some dozens of chats that poll at the same time; invocations beyond wait for a thread."""

_FUNCTION_ARN = re.compile(r"arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:(?P<rest>[^/]+)")
_STAGE_VARIABLE = re.compile(r"\$\{stageVariables\.([A-Za-z0-9_]+)\}")

NOT_FOUND: Final = message(404, "Not Found")
BROKEN: Final = message(500, "Internal Server Error")
UNAVAILABLE: Final = message(503, "Service Unavailable")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A decided invocation. `timeout` is seconds."""

    exchange: Exchange
    account: str
    region: str
    name: str
    qualifier: str | None
    event: bytes
    timeout: float


def build_gateway(
    runner: FunctionRunner, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
) -> Starlette:
    """The ASGI application that answers for every HTTP API in the cloud; functions run in `runner`.

    `clock` (seconds, any start) refills the throttles, `now` (seconds since the epoch) judges tokens.
    """
    app = Starlette()
    # Not a route: a route's pattern would refuse paths that only our own rules may judge.
    app.router.default = Gateway(runner, clock=clock, now=now)
    return app


class Gateway:
    """An ASGI application."""

    def __init__(self, runner: FunctionRunner, *, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._runner = runner
        self._throttle = Throttle(clock)
        self._authorizer = JwtAuthorizer(runner.endpoint, now)
        self._access_log = AccessLog()
        self._deciding = anyio.CapacityLimiter(DECIDING_THREADS)
        self._invoking = anyio.CapacityLimiter(INVOKING_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        reply = await self._reply(scope, receive)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
        bare = reply.status in (204, 304)
        if not bare:
            headers.append((b"content-length", str(len(reply.body)).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if bare else reply.body})

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        if _head_size(scope) > HEAD_BYTES:
            return _identified(message(431, "Request Header Fields Too Large"))
        if _ambiguous(scope):
            return _identified(message(400, "Bad Request"))
        body = await _read_body(scope, receive)
        if body is None:
            return _identified(message(413, "Request Entity Too Large"))
        step = await anyio.to_thread.run_sync(self._decide, scope, body, limiter=self._deciding)
        if isinstance(step, Reply):
            return step
        with anyio.move_on_after(step.timeout):
            return await anyio.to_thread.run_sync(self._perform, step, abandon_on_cancel=True, limiter=self._invoking)
        return await anyio.to_thread.run_sync(self._give_up, step, limiter=self._deciding)

    # --- deciding -----------------------------------------------------------------------------------------------

    def _decide(self, scope: Scope, body: bytes) -> Reply | Call:
        headers, cookies = _headers(scope)
        try:
            segments = routes.segments_of(scope.get("raw_path") or scope["path"].encode())
            api, segments = routes.find_api(headers.get("host", ""), segments)
        except routes.BadPath:
            return _identified(message(400, "Bad Request"))
        except routes.ForeignHost:
            return _identified(message(403, "Forbidden"))
        if segments in RESERVED_PATHS:
            return _identified(Reply(200, (("content-type", "text/plain"),), b"Healthy Connection"))
        if api is None:
            return _identified(NOT_FOUND)
        exchange = Exchange(_request(scope, segments, headers, cookies, body), api)
        step = self._route(exchange)
        return self._conclude(exchange, step) if isinstance(step, Reply) else step

    def _route(self, exchange: Exchange) -> Reply | Call:
        request, api = exchange.request, exchange.api
        exchange.stage, within_stage = routes.find_stage(api, list(request.segments))
        if exchange.stage is None or api.api.disable_execute_api_endpoint in (True, "true"):
            return exchange.refuse(NOT_FOUND, "NOT_FOUND")
        if (preflight := cors.preflight(api.api.cors_configuration, request)) is not None:
            return preflight
        matched = routes.match_route(api, request.method, within_stage)
        if matched is None:
            return exchange.refuse(NOT_FOUND, "NOT_FOUND")
        exchange.route_key = matched.route.route_key
        if not self._throttle.admits(
            account=api.account, region=api.region, api_id=api.id, stage=exchange.stage, route_key=exchange.route_key
        ):
            return exchange.refuse(message(429, "Too Many Requests"), "THROTTLED")
        refused = self._authorize(exchange, matched.route)
        return refused if refused is not None else self._integrate(exchange, matched)

    def _authorize(self, exchange: Exchange, route: Any) -> Reply | None:
        kind = route.authorization_type or "NONE"
        if kind == "NONE":
            return None
        authorizer = exchange.api.api.authorizers.get(route.authorizer_id)
        if kind != "JWT" or authorizer is None or authorizer.authorizer_type != "JWT":
            exchange.authorizer_error = f"the authorizer of {exchange.route_key} is missing or of a kind not run here"
            log.warning("%s", exchange.authorizer_error)
            return exchange.refuse(BROKEN, "AUTHORIZER_CONFIGURATION_ERROR")
        try:
            passed = self._authorizer.check(
                authorizer,
                headers=exchange.request.headers,
                query=exchange.request.query,
                scopes=route.authorization_scopes,
            )
        except Refused as refused:
            exchange.authorizer_error = refused.reason
            text, kind = ("Forbidden", "ACCESS_DENIED") if refused.status == 403 else ("Unauthorized", "UNAUTHORIZED")
            challenge = ("www-authenticate", refused.challenge)
            return exchange.refuse(message(refused.status, text, challenge), kind)
        exchange.claims, exchange.scopes = passed.claims, passed.scopes
        return None

    def _integrate(self, exchange: Exchange, matched: routes.Matched) -> Reply | Call:
        integration = exchange.api.api.integrations.get(str(matched.route.target or "").removeprefix("integrations/"))
        if integration is None:
            return self._misconfigured(exchange, "the route has no integration")
        if integration.integration_type != "AWS_PROXY" or integration.payload_format_version != "2.0":
            return self._misconfigured(exchange, "only AWS_PROXY integrations of payload format 2.0 are run here")
        variables = exchange.stage.stage_variables or {}
        uri = _STAGE_VARIABLE.sub(lambda found: str(variables.get(found[1], "")), integration.integration_uri or "")
        function = _FUNCTION_ARN.search(uri)
        if function is None:
            return self._misconfigured(exchange, "the integration's URI names no function")
        name, qualifier = split_name(function["rest"], None)
        account, region = function["account"], function["region"]
        try:
            allowed = integration.credentials_arn or permission.may_invoke(
                account=account,
                region=region,
                name=name,
                qualifier=qualifier,
                source_arn=_source_arn(exchange),
                source_account=exchange.api.account,
            )
        except (UnknownFunctionException, KeyError):
            return self._misconfigured(exchange, f"the function {name} doesn't exist")
        if not allowed:
            return self._misconfigured(
                exchange,
                "The IAM role configured on the integration or API Gateway doesn't have permissions to call "
                "the integration. Check the permissions and try again.",
            )
        milliseconds = min(integration.timeout_in_millis or INTEGRATION_MS, INTEGRATION_MS)
        return Call(
            exchange=exchange,
            account=account,
            region=region,
            name=name,
            qualifier=qualifier,
            event=payload.build_event(exchange, matched.parameters),
            timeout=milliseconds / 1000,
        )

    def _misconfigured(self, exchange: Exchange, reason: str) -> Reply:
        log.warning("%s %s: %s", exchange.api.id, exchange.route_key, reason)
        exchange.integration_error = reason
        return exchange.refuse(BROKEN, "INTEGRATION_FAILURE")

    # --- invoking -------------------------------------------------------------------------------------------------

    def _perform(self, call: Call) -> Reply:
        exchange = call.exchange
        began = time.monotonic()
        try:
            done = self._runner.invoke(
                account=call.account, region=call.region, name=call.name, qualifier=call.qualifier, payload=call.event
            )
            elapsed = int((time.monotonic() - began) * 1000)
            return self._conclude(exchange, lambda: self._answered(exchange, done, elapsed))
        except PayloadTooLarge:
            reply, reason = message(413, "Request Entity Too Large"), "the event is larger than Lambda takes"
        except Throttled:
            reply, reason = UNAVAILABLE, "the function's concurrency is in use"
        except (FunctionNotFound, FunctionUnusable) as error:
            log.warning("%s %s: %s", exchange.api.id, exchange.route_key, error)
            reply, reason = BROKEN, str(error)
        return self._conclude(exchange, lambda: self._failed(exchange, reply, reason))

    def _answered(self, exchange: Exchange, done: Invocation, elapsed: int) -> Reply:
        exchange.integration_ms = elapsed
        exchange.integration_status = 200
        if done.function_error is not None:
            return self._failed(exchange, BROKEN, f"the function failed: {_error_type(done.payload)}")
        try:
            return payload.read_answer(done.payload)
        except payload.MalformedAnswer as error:
            log.warning("%s %s: %s", exchange.api.id, exchange.route_key, error)
            return self._failed(exchange, BROKEN, f"the function's answer is malformed: {error}")

    def _failed(self, exchange: Exchange, reply: Reply, reason: str) -> Reply:
        exchange.integration_error = reason
        return exchange.refuse(reply, "INTEGRATION_FAILURE")

    def _give_up(self, call: Call) -> Reply:
        call.exchange.integration_ms = int(call.timeout * 1000)
        return self._conclude(
            call.exchange,
            lambda: self._failed(call.exchange, UNAVAILABLE, "the integration didn't answer in time"),
        )

    def _conclude(self, exchange: Exchange, made: Reply | Callable[[], Reply]) -> Reply:
        """The final reply, logged once: whoever comes second (a late function) gets what was sent already."""
        with exchange.lock:
            if exchange.reply is None:
                reply = cors.add_headers(
                    exchange.api.api.cors_configuration, exchange.request, made if isinstance(made, Reply) else made()
                )
                exchange.reply = reply.with_headers((*reply.headers, ("apigw-requestid", exchange.request_id)))
                self._access_log.write(exchange, exchange.reply)
            return exchange.reply


# --- reading a request ---------------------------------------------------------------------------------------------


def _head_size(scope: Scope) -> int:
    line = len(scope["method"]) + len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) + 12
    return line + sum(len(value) for _, value in scope["headers"])


def _ambiguous(scope: Scope) -> bool:
    """A version of HTTP that isn't spoken here, or a body with two lengths (request smuggling)."""
    names = [name for name, _ in scope["headers"]]
    two_lengths = b"transfer-encoding" in names and b"content-length" in names
    return scope["http_version"] not in ("1.0", "1.1") or two_lengths


async def _read_body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, or None when it is larger than an HTTP API takes."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if declared.isdigit() and int(declared) > BODY_BYTES:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return b"".join(parts)
        part = event.get("body", b"")
        size += len(part)
        if size > BODY_BYTES:
            return None
        parts.append(part)
        if not event.get("more_body"):
            return b"".join(parts)


def _headers(scope: Scope) -> tuple[dict[str, str], tuple[str, ...]]:
    """Headers as the event has them, and the cookies, which are kept apart."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "cookie":
            cookies += [cookie.strip() for cookie in value.split(";") if cookie.strip()]
        else:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers, tuple(cookies)


def _request(
    scope: Scope, segments: list[str], headers: dict[str, str], cookies: tuple[str, ...], body: bytes
) -> Request:
    source_ip = scope["client"][0] if scope.get("client") else "127.0.0.1"
    port = scope["server"][1] if scope.get("server") else 0
    forwarded = headers.get("x-forwarded-for")
    received = time.time()
    headers.setdefault("content-length", str(len(body)))
    headers.pop("transfer-encoding", None)
    headers["x-amzn-trace-id"] = f"Root=1-{int(received):08x}-{secrets.token_hex(12)}"
    headers["x-forwarded-for"] = f"{forwarded}, {source_ip}" if forwarded else source_ip
    headers["x-forwarded-port"] = str(port)
    headers["x-forwarded-proto"] = scope.get("scheme", "http")
    return Request(
        method=scope["method"],
        segments=tuple(segments),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        cookies=cookies,
        body=body,
        source_ip=source_ip,
        port=port,
        protocol=f"HTTP/{scope['http_version']}",
        received=received,
    )


def _identified(reply: Reply) -> Reply:
    """A reply that belongs to no API has a request id of its own."""
    return reply.with_headers((*reply.headers, ("apigw-requestid", secrets.token_urlsafe(11) + "=")))


def _source_arn(exchange: Exchange) -> str:
    """What API Gateway tells Lambda of itself: the stage and the route, not the path that was asked for."""
    api = exchange.api
    route = exchange.route_key.replace(" ", "", 1) if " " in exchange.route_key else exchange.route_key
    return f"arn:aws:execute-api:{api.region}:{api.account}:{api.id}/{exchange.stage.name}/{route}"


def _error_type(answer: bytes) -> str:
    """The kind of a function's error for the log; never its message, which may hold a user's words."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return "unknown"
    return str(document.get("errorType", "timed out")) if isinstance(document, dict) else "unknown"
