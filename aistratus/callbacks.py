"""The callback URLs of the hosted sign-in page, which redirects to a program on the user's machine.

Cognito compares the URL with its client's list exactly, including the port, and allows plain HTTP for this machine only
(by its name; by 127.0.0.1 and ::1 since August 2025). So a few ports are declared, and `aistratus login` uses a free
one.
Source: Cognito API reference, CreateUserPoolClient, CallbackURLs; https://github.com/microsoft/vscode/issues/256122
"""

from __future__ import annotations

from typing import Final

PORTS: Final = (17380, 17381, 17382, 17383, 17384)
"""Below what systems give out by themselves (32768 on Linux, 49152 elsewhere), and nobody's by IANA's list."""
PATH: Final = "/callback"
SCOPES: Final = ("openid", "email", "profile")
"""What the tokens tell of the user. Signing in needs `openid` for the token that carries the nonce."""


def callback(port: int) -> str:
    """The address that leads back to this port."""
    return f"http://localhost:{port}{PATH}"


CALLBACKS: Final = tuple(callback(port) for port in PORTS)
