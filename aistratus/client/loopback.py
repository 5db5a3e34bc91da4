"""Receives the redirect after a browser sign-in: a small HTTP server on this machine, for one request.

A browser may resolve `localhost` to 127.0.0.1 or to ::1. So the port is bound on both or on neither: if another process
held it on one of them, that process would receive the code.
"""

from __future__ import annotations

import errno
import html
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

from aistratus.callbacks import PATH, PORTS, callback
from aistratus.client.errors import SignInError

WITHIN_S: Final = 300.0
"""Time limit (seconds): finding a password and a second factor takes minutes; the page's own session ends by then."""
LOOK_EVERY_S: Final = 0.5
"""Interval of checking for Ctrl-C, which doesn't interrupt a wait on some systems."""
REQUEST_BYTES: Final = 16_384
REQUEST_WITHIN_S: Final = 5.0

PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>aistratus</title>
<body style="font: 16px/1.5 system-ui, sans-serif; margin: 15vh auto; max-width: 32em; padding: 0 1em">
<h1 style="font-size: 1.4em">{title}</h1><p>{text}</p></body></html>"""


@dataclass(frozen=True)
class Loopback:
    """A `hosted.Visit` by a browser on this machine. A context manager that holds the port from the start.

    Args:
        opens: sends the user to an address.
    """

    opens: Callable[[str], object]
    ports: tuple[int, ...] = PORTS
    within: float = WITHIN_S
    _listening: list[socket.socket] = field(default_factory=list, init=False, repr=False)
    _held: ExitStack = field(default_factory=ExitStack, init=False, repr=False)

    def __enter__(self) -> Self:
        for port in self.ports:
            with suppress(OSError):
                self._listening.extend(_both(port, self._held))
                return self
        taken = ", ".join(map(str, self.ports))
        raise SignInError(f"All ports that a browser may come back to are taken ({taken}); use --no-browser.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    @property
    def by_hand(self) -> bool:
        return False

    @property
    def redirect_uri(self) -> str:
        return callback(self._listening[0].getsockname()[1])

    def __call__(self, address: str) -> Mapping[str, str]:
        """Raises:
        SignInError: nobody came back in time.
        """
        self.opens(address)
        deadline = time.monotonic() + self.within
        with selectors.DefaultSelector() as selector:
            for listening in self._listening:
                selector.register(listening, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                for key, _ in selector.select(LOOK_EVERY_S):
                    assert isinstance(key.fileobj, socket.socket)
                    if back := _served(key.fileobj):
                        return back
        raise SignInError(f"Nobody signed in within {self.within / 60:.0f} minutes; try it again.")


def _both(port: int, held: ExitStack) -> list[socket.socket]:
    """Raises:
    OSError: somebody has one of them.
    """
    with ExitStack() as taken:
        found = [taken.enter_context(_listening(socket.AF_INET, "127.0.0.1", port))]
        try:
            found.append(taken.enter_context(_listening(socket.AF_INET6, "::1", port)))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # a machine without IPv6 has no other half
                raise
        held.push(taken.pop_all())
    return found


def _listening(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows lets others take the same port otherwise
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(8)
    except OSError:
        bound.close()
        raise
    return bound


def _served(listening: socket.socket) -> dict[str, str]:
    """Answers one request; returns its parameters if it is the redirect."""
    visitor, _ = listening.accept()
    with visitor:
        visitor.settimeout(REQUEST_WITHIN_S)
        try:
            target = _target(visitor)
            back = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
            ours = urlsplit(target).path == PATH and bool(back.keys() & {"code", "error"})
            visitor.sendall(_page(back) if ours else _answer(HTTPStatus.NOT_FOUND, "Nothing here", ""))
        except OSError:
            return {}  # a connection that a browser opened in advance, or one that was given up
    return back if ours else {}


def _target(visitor: socket.socket) -> str:
    """The requested path of a GET; empty for anything else."""
    received = b""
    while b"\r\n\r\n" not in received and len(received) < REQUEST_BYTES:
        part = visitor.recv(4096)
        if not part:
            break
        received += part
    method, _, rest = received.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
    return rest.rpartition(" ")[0] if method == "GET" else ""


def _page(back: Mapping[str, str]) -> bytes:
    if "code" in back:
        return _answer(HTTPStatus.OK, "Thank you", "You can close this page; the terminal goes on.")
    return _answer(HTTPStatus.OK, "Not signed in", "The terminal says why. You can close this page.")


def _answer(status: HTTPStatus, title: str, text: str) -> bytes:
    body = PAGE.format(title=html.escape(title), text=html.escape(text)).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\nCache-Control: no-store\r\n"
        # The address holds the code: it goes nowhere else, and no other page may look at this one.
        "Referrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\n"
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\r\n"
    )
    return head.encode() + body
