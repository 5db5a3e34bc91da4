"""Stores a signed-in user's tokens, in a file that only the user can read.

One file per env, mode 0600 in a folder of mode 0700, replaced atomically. A file that doesn't hold tokens counts as
missing: signing in again is always possible. Where the operating system has a keyring, the content is encrypted with a
key from it (`keychain.py`).
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from aistratus.exclusive import Busy, exclusive
from aistratus.private import make_private

_ENV: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_OTHERS: Final = 0o077
_SEALED: Final = "sealed"

BY_ITSELF: Final = "credentials"
"""The operator's way to sign in: by AWS credentials, so that it can be repeated without asking."""

RENEWED_WITHIN_S: Final = 20.0
"""Time limit (seconds) for another process to renew the same tokens; a retried call takes less."""


@dataclass(frozen=True)
class Tokens:
    """The tokens that Cognito issues at sign-in.

    expires_at: seconds since the epoch, of access and id.
    way: how the user signed in: `credentials`, `browser` or `password`.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    id: str = field(repr=False)
    expires_at: float
    way: str = BY_ITSELF


class Seal(Protocol):
    """Encrypts stored tokens with a key that is kept elsewhere."""

    def close(self, text: str) -> str | None:
        """The encrypted text; `None` if there is no key, so that the text is stored as it is."""
        ...

    def open(self, sealed: str) -> str | None:
        """The decrypted text; `None` if there is no key, or another one."""
        ...


@dataclass(frozen=True)
class TokenStore:
    """Tokens by env, in one folder that is created by the first save."""

    folder: Path
    seal: Seal | None = None

    def load(self, env: str) -> Tokens | None:
        """The tokens of an env, or None if there are no readable ones.

        A file that others can read is closed to them.
        """
        path = self._path(env)
        try:
            if path.stat().st_mode & _OTHERS and os.name == "posix":
                path.chmod(0o600)
            return _tokens(self._opened(json.loads(path.read_text("utf-8"))))
        except (OSError, ValueError):
            return None

    def save(self, env: str, tokens: Tokens) -> None:
        """Replaces the tokens of an env.

        Raises:
            OSError: the folder can't be written.
        """
        path = self._path(env)
        make_private(self.folder)
        text = json.dumps(asdict(tokens))
        sealed = self.seal.close(text) if self.seal else None
        content = asdict(tokens) if sealed is None else {_SEALED: sealed}
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as target:
                json.dump(content, target)
                target.flush()
                os.fsync(target.fileno())
            beside.replace(path)
        except BaseException:  # Ctrl-C too: no half-written file with tokens stays behind
            beside.unlink(missing_ok=True)
            raise

    def forget(self, env: str) -> None:
        """Removes the tokens of an env, if there are any."""
        self._path(env).unlink(missing_ok=True)

    @contextmanager
    def held(self, env: str) -> Iterator[None]:
        """Lets one process at a time renew the tokens of an env: a rotating refresh token is valid once.

        Whoever has waited long enough goes on without the lock; the worst that can happen is one more sign-in.
        """
        with ExitStack() as stack:
            try:
                make_private(self.folder)
                stack.enter_context(exclusive(self._path(env).with_suffix(".lock"), within=RENEWED_WITHIN_S))
            except (Busy, OSError):
                pass
            yield

    def _opened(self, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(sealed := data.get(_SEALED), str):
            return data
        text = self.seal.open(sealed) if self.seal else None
        return None if text is None else json.loads(text)

    def _path(self, env: str) -> Path:
        if not _ENV.fullmatch(env):
            raise ValueError(f"{env!r} can't be an env's name")
        return self.folder / f"{env}.json"


def _tokens(data: Any) -> Tokens:
    """From a file's content.

    Raises:
        ValueError: it isn't tokens.
    """
    try:
        expires_at = data["expires_at"]
        texts = (data["access"], data["refresh"], data["id"], data.get("way", BY_ITSELF))
    except (KeyError, TypeError) as error:
        raise ValueError("not tokens") from error
    if not isinstance(expires_at, (int, float)) or not all(isinstance(text, str) for text in texts):
        raise ValueError("not tokens")
    access, refresh, identity, way = texts
    return Tokens(access, refresh, identity, float(expires_at), way)
