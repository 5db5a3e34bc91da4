"""The gateway's data types: a request, its reply, and the exchange that collects both for the access log."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aistratus.local.gateway.routes import DeployedApi

JSON_TYPE = ("content-type", "application/json")


@dataclass(frozen=True)
class Reply:
    """Status, headers and body as they go to the client."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    preflight: bool = False

    def with_headers(self, headers: tuple[tuple[str, str], ...]) -> Reply:
        return replace(self, headers=headers)


def message(status: int, text: str, *headers: tuple[str, str]) -> Reply:
    """API Gateway's own answers: `{"message":"…"}`."""
    return Reply(status, (JSON_TYPE, *headers), json.dumps({"message": text}, separators=(",", ":")).encode())


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it arrived. `segments` is the decoded path behind the API's address, header names are lower-cased
    and several headers of one name joined by commas, `received` is seconds since the epoch."""

    method: str
    segments: tuple[str, ...]
    query: str
    headers: Mapping[str, str]
    cookies: tuple[str, ...]
    body: bytes
    source_ip: str
    port: int
    protocol: str
    received: float

    @property
    def path(self) -> str:
        return "/" + "/".join(self.segments)


@dataclass
class Exchange:
    """One request on its way through an API: what the access log and the event need to know of it."""

    request: Request
    api: DeployedApi
    stage: Any = None
    route_key: str = ""
    claims: Mapping[str, Any] | None = None
    scopes: list[str] | None = None
    error: str = ""
    error_type: str = ""
    authorizer_error: str = ""
    integration_error: str = ""
    integration_status: int | None = None
    integration_ms: int | None = None
    request_id: str = field(default_factory=lambda: base64.urlsafe_b64encode(os.urandom(11)).decode())
    began: float = field(default_factory=time.monotonic)
    reply: Reply | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def refuse(self, reply: Reply, error_type: str) -> Reply:
        """A reply of the gateway's own, noted for the access log."""
        self.error_type = error_type
        self.error = str(json.loads(reply.body)["message"])
        return reply
