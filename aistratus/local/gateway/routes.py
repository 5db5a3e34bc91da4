"""Which API, stage and route a request is for.

Addresses: `http://127.0.0.1:<port>/<api-id>/…`, or a host name that begins with the API's id as on AWS
(`<api-id>.execute-api.…`, `<api-id>.localhost`). With only one API in the cloud its id may be left out of the path.

Routes: the most specific path that fits the method wins, then a route for just this method over `ANY`; a greedy
`{proxy+}` comes after all others and `$default` last.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from moto.backends import get_backend

METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""The methods that an HTTP API knows; `ANY` means these."""
DEFAULT: Final = "$default"

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_API_HOST = re.compile(r"([a-z0-9]+)\.(?:execute-api\..+|localhost)", re.IGNORECASE)


class BadPath(Exception):
    """The request target isn't a path, or its percent-escapes aren't UTF-8 text."""


class ForeignHost(Exception):
    """The Host header names somebody else: a page of a stranger may be behind it (DNS rebinding)."""


@dataclass(frozen=True)
class DeployedApi:
    """An HTTP API of moto's, with the account and region that it lives in. `api` is moto's own object."""

    account: str
    region: str
    api: Any

    @property
    def id(self) -> str:
        return str(self.api.api_id)

    @property
    def domain(self) -> str:
        return f"{self.id}.execute-api.{self.region}.amazonaws.com"


@dataclass(frozen=True)
class Matched:
    """A route and the values of its path parameters."""

    route: Any
    parameters: dict[str, str]


def segments_of(raw_path: bytes) -> list[str]:
    """The decoded segments of a request target's path: `/a/b%20c` is `["a", "b c"]`, `/` is `[]`.

    Raises:
        BadPath: as the name says.
    """
    text = raw_path.decode("latin-1")
    if not text.startswith("/") or _BAD_ESCAPE.search(text):
        raise BadPath
    try:
        segments = [unquote_to_bytes(part).decode() for part in text[1:].split("/")]
    except UnicodeDecodeError:
        raise BadPath from None
    if any("\0" in segment for segment in segments):
        raise BadPath
    return _rest(segments, 0)


def _rest(segments: list[str], begin: int) -> list[str]:
    """The segments from `begin` on; a bare slash has none."""
    rest = segments[begin:]
    return [] if rest == [""] else rest


def find_api(host: str, segments: list[str]) -> tuple[DeployedApi | None, list[str]]:
    """The addressed API (None when there is none of that id) and the rest of the path.

    Raises:
        ForeignHost: the name is neither of this machine nor of an API here.
    """
    apis = {found.id: found for found in _all_apis()}
    name = _host_name(host)
    if _is_loopback(name):
        if segments and segments[0] in apis:
            return apis[segments[0]], _rest(segments, 1)
        return (next(iter(apis.values())) if len(apis) == 1 else None), segments
    in_name = _API_HOST.fullmatch(name)
    if in_name is None or in_name[1].lower() not in apis:
        raise ForeignHost
    return apis[in_name[1].lower()], segments


def _all_apis() -> Iterator[DeployedApi]:
    backends: Any = get_backend("apigatewayv2")
    for account, regions in list(backends.items()):
        for region, backend in list(regions.items()):
            for api in list(backend.apis.values()):
                if api.protocol_type == "HTTP":
                    yield DeployedApi(account, region, api)


def _host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".").lower()


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def find_stage(api: DeployedApi, segments: list[str]) -> tuple[Any | None, list[str]]:
    """The stage whose name the path begins with, else `$default`, else None; and the path within the stage."""
    stages = api.api.stages
    if segments and segments[0] != DEFAULT and segments[0] in stages:
        return stages[segments[0]], _rest(segments, 1)
    return stages.get(DEFAULT), segments


def match_route(api: DeployedApi, method: str, segments: list[str]) -> Matched | None:
    """The route for this method and path within the stage."""
    best: tuple[tuple[object, ...], Matched] | None = None
    fallback: Matched | None = None
    for route in list(api.api.routes.values()):
        if route.route_key == DEFAULT:
            fallback = Matched(route, {})
            continue
        wanted, _, pattern = route.route_key.partition(" ")
        if wanted not in (method, "ANY") or method not in METHODS:
            continue
        parameters = _fit(pattern, segments)
        if parameters is not None:
            rank = (*_rank(pattern), wanted == "ANY")
            if best is None or rank < best[0]:
                best = rank, Matched(route, parameters)
    return best[1] if best is not None else fallback


def _parts(pattern: str) -> list[str]:
    inner = pattern.removeprefix("/")
    return inner.split("/") if inner else []


def _fit(pattern: str, segments: list[str]) -> dict[str, str] | None:
    parts = _parts(pattern)
    parameters: dict[str, str] = {}
    for position, part in enumerate(parts):
        if part.startswith("{") and part.endswith("+}"):
            rest = "/".join(segments[position:])
            return {**parameters, part[1:-2]: rest} if rest else None
        if position >= len(segments):
            return None
        if part.startswith("{") and part.endswith("}"):
            if not segments[position]:
                return None
            parameters[part[1:-1]] = segments[position]
        elif part != segments[position]:
            return None
    return parameters if len(parts) == len(segments) else None


def _rank(pattern: str) -> tuple[object, ...]:
    """Smaller is more specific: greedy ones last, then the first segment in which two patterns differ decides."""
    kinds = tuple(2 if part.endswith("+}") else 1 if part.startswith("{") else 0 for part in _parts(pattern))
    return (2 in kinds, kinds)
