"""A request to the hosted pages, and the kinds of answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs

from moto.cognitoidp.models import CognitoIdpUserPool, cognitoidp_backends

from aistratus.local.front import Answer
from aistratus.local.hosted import page

COOKIE: Final = "cognito"


@dataclass(frozen=True)
class Asked:
    """One request to the pages of one pool."""

    pool: CognitoIdpUserPool
    base: str
    """Path of the pool's domain, with a slash at its end."""
    query: Mapping[str, str]
    raw_query: str
    form: Mapping[str, str]
    browser: str
    """The browser's cookie."""
    authorization: str


def basic(asked: Asked) -> tuple[str, str]:
    """Client id and secret of HTTP's basic authentication."""
    kind, _, given = asked.authorization.partition(" ")
    try:
        name, _, secret = base64.b64decode(given if kind.lower() == "basic" else "").decode().partition(":")
    except ValueError:
        return "", ""
    return name, secret


def pool_at(domain: str) -> CognitoIdpUserPool | None:
    for regions in cognitoidp_backends.values():
        for backend in list(regions.values()):
            if domain in backend.user_pool_domains:
                return backend.user_pools.get(backend.user_pool_domains[domain].user_pool_id)
    return None


def asked_of(environ: dict[str, Any], pool: CognitoIdpUserPool, base: str) -> Asked:
    raw = environ.get("QUERY_STRING", "")
    body = environ["wsgi.input"].read() if environ["REQUEST_METHOD"] == "POST" else b""
    return Asked(
        pool=pool,
        base=base,
        query=_parsed(raw),
        raw_query=raw,
        form=_parsed(body.decode("utf-8", "replace")),
        browser=_cookie(environ.get("HTTP_COOKIE", "")),
        authorization=environ.get("HTTP_AUTHORIZATION", ""),
    )


def _parsed(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def redirect(address: str, *headers: tuple[str, str]) -> Answer:
    return Answer("302 Found", (("Location", address), ("Cache-Control", "no-store"), *headers), b"")


def page_of(status: HTTPStatus, text: str, leads_to: str = "") -> Answer:
    headers = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", page.policy(leads_to)),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "same-origin"),  # with `no-referrer` a browser says `Origin: null` of our own form
        ("X-Frame-Options", "DENY"),
    )
    return Answer(f"{status.value} {status.phrase}", headers, text.encode())


def document(status: HTTPStatus, content: Mapping[str, Any]) -> Answer:
    headers = (("Content-Type", "application/json;charset=UTF-8"), ("Cache-Control", "no-store"))
    return Answer(f"{status.value} {status.phrase}", headers, json.dumps(content).encode())


def error(name: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> Answer:
    return document(status, {"error": name})
