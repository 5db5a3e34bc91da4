"""The user pool's public keys (JWKS), fetched when a token first needs one.

Keys are cached while the Lambda environment lives, refreshed once an hour, and refreshed when a token names an unknown
key, because the pool may have been created, or its key rotated, meanwhile. Anybody can invent key names, so these
refreshes are rate limited.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from aistratus.router.clock import Clock, Deadline
from aistratus.router.connections import CONNECT_AND_READ_S, Connections, Endpoint

KEPT_S: Final = 3_600.0
LOOK_AGAIN_S: Final = 10.0
"""Between two looks for an unknown key, when the last one succeeded."""
TRY_AGAIN_S: Final = 1.0
"""After a look that failed."""


class KeysUnavailable(Exception):
    """The pool's keys couldn't be fetched, so nothing can be said about the token."""


@dataclass
class KeySet:
    """Public RSA keys by `kid`; its state is what a warm Lambda environment remembers."""

    url: str
    connections: Connections
    clock: Clock
    _keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _fetched: float | None = None
    _next_look: float = float("-inf")

    def find(self, kid: str, deadline: Deadline) -> Mapping[str, Any] | None:
        """The key of that name, or None if the pool has none.

        Raises:
            KeysUnavailable: the key isn't known and the pool couldn't be asked.
        """
        now = self.clock.monotonic()
        stale = self._fetched is None or now - self._fetched > KEPT_S
        if (kid not in self._keys or stale) and now >= self._next_look:
            try:
                self._fetch(deadline)
            except KeysUnavailable:
                if kid not in self._keys:
                    raise
        if self._fetched is None:
            raise KeysUnavailable("the last try failed a moment ago")
        return self._keys.get(kid)

    def _fetch(self, deadline: Deadline) -> None:
        self._next_look = self.clock.monotonic() + TRY_AGAIN_S
        self._keys = _rsa_keys(self._download(deadline))
        self._fetched = self.clock.monotonic()
        self._next_look = self._fetched + LOOK_AGAIN_S

    def _download(self, deadline: Deadline) -> bytes:
        endpoint = Endpoint.parse(self.url)
        headers = {"host": endpoint.authority, "accept": "application/json"}
        timeout = min(CONNECT_AND_READ_S, max(0.1, deadline.left()))
        try:
            answer = self.connections.exchange(endpoint, "GET", urlsplit(self.url).path, headers, None, timeout)
        except (OSError, http.client.HTTPException) as error:
            raise KeysUnavailable(type(error).__name__) from error
        if answer.status != 200:
            raise KeysUnavailable(f"HTTP {answer.status}")
        return answer.body


def _rsa_keys(document: bytes) -> dict[str, Mapping[str, Any]]:
    """The keys that may sign with RS256; others in the set are passed over."""
    try:
        keys = json.loads(document)["keys"]
        return {key["kid"]: key for key in keys if _signs_rs256(key)}
    except (ValueError, KeyError, TypeError) as error:
        raise KeysUnavailable("not a set of keys") from error


def _signs_rs256(key: Mapping[str, Any]) -> bool:
    return (
        key.get("kty") == "RSA"
        and key.get("use", "sig") == "sig"
        and key.get("alg", "RS256") == "RS256"
        and all(isinstance(key.get(name), str) for name in ("kid", "n", "e"))
    )
