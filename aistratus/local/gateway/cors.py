"""CORS as an HTTP API does it when it is configured: the gateway answers preflights itself, adds the headers to
every answer, and drops the integration's own CORS headers.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aistratus.local.gateway.messages import Reply, Request


def preflight(config: Mapping[str, Any] | None, request: Request) -> Reply | None:
    """The answer to a preflight request, or None when this isn't one or the API has no CORS."""
    if not config or request.method != "OPTIONS":
        return None
    if "origin" not in request.headers or "access-control-request-method" not in request.headers:
        return None
    return Reply(204, preflight=True)


def add_headers(config: Mapping[str, Any] | None, request: Request, reply: Reply) -> Reply:
    """The reply as a browser's script may read it."""
    if not config:
        return reply
    kept = tuple((name, value) for name, value in reply.headers if not name.lower().startswith("access-control-"))
    return reply.with_headers((*kept, *_headers(config, request, reply.preflight)))


def _headers(config: Mapping[str, Any], request: Request, is_preflight: bool) -> list[tuple[str, str]]:
    origin = request.headers.get("origin")
    allowed = config.get("allowOrigins") or []
    if origin is None or not any(_fits(pattern, origin) for pattern in allowed):
        return []
    credentials = bool(config.get("allowCredentials"))
    anyone = "*" in allowed and not credentials
    headers = [("access-control-allow-origin", "*" if anyone else origin)]
    if not anyone:
        headers.append(("vary", "Origin"))
    if credentials:
        headers.append(("access-control-allow-credentials", "true"))
    if config.get("exposeHeaders"):
        headers.append(("access-control-expose-headers", ",".join(config["exposeHeaders"])))
    if is_preflight:
        for name, key in (("methods", "allowMethods"), ("headers", "allowHeaders")):
            if config.get(key):
                headers.append((f"access-control-allow-{name}", ",".join(config[key])))
        if config.get("maxAge") is not None:
            headers.append(("access-control-max-age", str(config["maxAge"])))
    return headers


def _fits(pattern: str, origin: str) -> bool:
    """An origin as it stands, `*`, or a scheme with a star (`https://*`)."""
    if pattern in ("*", origin):
        return True
    return pattern.endswith("://*") and origin.startswith(pattern[:-1])
