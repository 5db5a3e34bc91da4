"""The key, from the operating system's keyring, with which stored tokens are encrypted.

The keyring holds one key of 44 characters, and the tokens are in a file: Windows limits a secret to 2,560 bytes, which
Cognito's tokens exceed, macOS may prompt for each item that is read, and a file can be replaced atomically.
Source: https://github.com/jaraco/keyring/issues/540, https://learn.microsoft.com/windows/win32/api/wincred (CRED_MAX…)

Without a keyring, or with one that is locked or doesn't answer, the tokens are stored unencrypted, in a file that only
their user can read.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

SERVICE: Final = "aistratus"
NAME: Final = "tokens"
ANSWERS_WITHIN_S: Final = 15.0
"""Time limit (seconds): a keyring may have to ask its user to unlock it, and one that hangs isn't used."""

NO_KEYRING: Final = ("keyring.backends.fail", "keyring.backends.null")
"""The library's stand-ins for a missing keyring: one raises errors, the other stores nothing."""


class Keychain:
    """A `tokens.Seal`."""

    def __init__(self) -> None:
        self._key: bytes | None = None
        self._asked = False

    def close(self, text: str) -> str | None:
        key = self._known_key(make=True)
        if key is None:
            return None
        from cryptography.fernet import Fernet

        return Fernet(key).encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str | None:
        key = self._known_key(make=False)
        if key is None:
            return None
        from cryptography.fernet import Fernet, InvalidToken

        try:
            return Fernet(key).decrypt(sealed.encode()).decode()
        except (InvalidToken, ValueError):
            return None

    def _known_key(self, *, make: bool) -> bytes | None:
        """The key, read once; created where the keyring has none."""
        if self._key is None and not (self._asked and not make):
            self._asked = True
            self._key = _within(lambda: _key(make=make))
        return self._key


def keychain() -> Keychain | None:
    """Whether this machine may have a keyring. On Linux it needs the session's D-Bus, which servers don't have."""
    chosen = os.environ.get("PYTHON_KEYRING_BACKEND", "")
    if chosen.startswith(NO_KEYRING):
        return None
    if chosen or sys.platform in ("darwin", "win32") or os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return Keychain()
    return None


def _key(*, make: bool) -> bytes | None:
    import keyring  # here, because looking for backends takes longer than most commands

    if type(keyring.get_keyring()).__module__.startswith(NO_KEYRING):
        return None
    known = keyring.get_password(SERVICE, NAME)
    if known is None and make:
        from cryptography.fernet import Fernet

        keyring.set_password(SERVICE, NAME, Fernet.generate_key().decode())
        known = keyring.get_password(SERVICE, NAME)  # read back: of two processes the last one's counts for both
    return known.encode() if known else None


def _within(ask: Callable[[], T]) -> T | None:
    """The result of `ask`; `None` if it raises anything or takes too long.

    A keyring is a plug-in that talks to another program, so that anything may be raised; there is always a fallback.
    """
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception:  # noqa: BLE001 - a keyring is a plug-in and may raise anything; there is a fallback
            answers.append(None)

    thread = threading.Thread(target=run, name="keyring", daemon=True)
    thread.start()
    thread.join(ANSWERS_WITHIN_S)
    return answers[0] if answers else None
