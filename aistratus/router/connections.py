"""HTTP keep-alive connections on the standard library's client.

A Lambda environment is frozen between requests, and servers close idle connections, so a kept connection may be dead
when it is used next. Such a call is repeated once on a new connection.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final
from urllib.parse import urlsplit

CONNECT_AND_READ_S: Final = 4.0
"""Longest silence of one exchange. DynamoDB and SQS answer within milliseconds; the next try is worth more."""

_DEAD: Final = (
    http.client.RemoteDisconnected,
    http.client.CannotSendRequest,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    ssl.SSLError,
)


@dataclass(frozen=True)
class Endpoint:
    """Where a service answers."""

    secure: bool
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """From `http://host:port` or `https://host`; a path is ignored."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an endpoint must begin with http:// or https:// and name a host")
        secure = parts.scheme == "https"
        return cls(secure, parts.hostname, parts.port or (443 if secure else 80))

    @property
    def authority(self) -> str:
        """The Host header: the port only where it isn't the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


@dataclass(frozen=True)
class Connections:
    """Open connections by endpoint. Each is used by one exchange at a time, so threads may share this."""

    _idle: dict[Endpoint, list[http.client.HTTPConnection]] = field(default_factory=dict)

    def exchange(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float = CONNECT_AND_READ_S,
    ) -> Answer:
        """One request and its answer.

        Raises:
            ConnectionNotMade: nothing was sent.
            OSError, http.client.HTTPException: it may or may not have been carried out.
        """
        idle = self._idle.setdefault(endpoint, [])
        if idle:
            connection = idle.pop()
            try:
                return self._use(connection, idle, method, path, headers, body, timeout)
            except _DEAD:
                connection.close()
        return self._use(self._open(endpoint, timeout), idle, method, path, headers, body, timeout)

    def _open(self, endpoint: Endpoint, timeout: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if endpoint.secure:
            connection = http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout, context=self._tls)
        else:
            connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise ConnectionNotMade(str(error)) from error
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Reading the system's certificates takes milliseconds: once."""
        return ssl.create_default_context()

    @staticmethod
    def _use(
        connection: http.client.HTTPConnection,
        idle: list[http.client.HTTPConnection],
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
    ) -> Answer:
        try:
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            answer = Answer(response.status, response.read())
        except BaseException:  # whatever breaks it off: a half-read answer would spoil the connection for the next call
            connection.close()
            raise
        if not response.will_close:
            idle.append(connection)
        return answer


class ConnectionNotMade(OSError):
    """No connection came about, so nothing can have been carried out."""
