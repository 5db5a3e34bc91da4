"""Protects the embedded cloud from web pages: only requests with a local `Host` header are served.

A web page can't read from 127.0.0.1, but with a name that first resolves to its own server and then to 127.0.0.1 (DNS
rebinding) the browser treats both as one site. Such a request still has the page's name in its `Host` header, so only
names that always mean this machine are served. `*.localhost` is among them (RFC 6761; botocore puts a bucket's name
there when the endpoint is `localhost`).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

_NAMES: Final = frozenset({"127.0.0.1", "localhost"})
_OWN_SITES: Final = frozenset({None, "none", "same-origin"})
"""What `Sec-Fetch-Site` says of an address that was typed, and of a page that the embedded cloud itself served."""


def is_own_host(header: str | None) -> bool:
    """Whether a `Host` header (`name` or `name:port`) names this machine's loopback."""
    if not header:
        return False
    name = header.rsplit(":", 1)[0].lower()
    return name in _NAMES or name.endswith(".localhost")


def is_own_origin(header: str | None) -> bool:
    """Whether an `Origin` header names this machine; programs other than browsers send none, which is fine.

    A page may *send* a simple POST to any address without asking; what it can't do is leave out its origin.
    """
    return header is None or is_own_host(urlsplit(header).netloc)


def is_from_page(origin: str | None, fetch_site: str | None) -> bool:
    """Whether a page from elsewhere had a browser send this, by its `Origin` and `Sec-Fetch-Site` headers.

    An image, a frame or a link makes the browser GET any address without telling the origin; then it says by itself
    whether the page is of the same site. Programs send neither, an address typed by a person has `none`, and a page of
    this machine that calls by script tells its origin. https://www.w3.org/TR/fetch-metadata/
    """
    if origin is not None:
        return not is_own_origin(origin)
    return fetch_site not in _OWN_SITES


def is_link_to_an_action(method: str, query: str, authorization: str) -> bool:
    """Whether an operation of a query-protocol service stands in an address, with no signature in a header.

    Such an address works wherever a browser opens it, also in one that is too old for `Sec-Fetch-Site`. SDKs POST
    their operations, and whoever does send a GET can sign it in a header, which no image and no link can.
    """
    if method not in ("GET", "HEAD") or authorization.startswith("AWS4-"):
        return False
    return "Action" in parse_qs(query, keep_blank_values=True)
