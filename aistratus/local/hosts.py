"""Who may talk to the embedded cloud: programs on this machine, and no web page.

A page on the internet can't read from 127.0.0.1, but with a name that first resolves to its own server and then
to 127.0.0.1 (DNS rebinding) the browser takes the two for one site. Such a request still carries the page's name
in its `Host` header, so only names that can't point anywhere but to this machine are served. `*.localhost` is
among them (RFC 6761; botocore puts a bucket's name there when the endpoint is called `localhost`).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_NAMES: Final = frozenset({"127.0.0.1", "localhost"})


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
