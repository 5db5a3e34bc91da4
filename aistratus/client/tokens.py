"""Tokens of a signed-in user, kept in a file that only the user can read.

One file for each env, 0600 in a folder 0700, replaced in one step, so that a reader never sees half of it. A file
that can't be read as tokens counts as none: signing in again is always possible.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from aistratus.private import make_private

_ENV: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_OTHERS: Final = 0o077


@dataclass(frozen=True)
class Tokens:
    """What Cognito gives at sign-in. `expires_at` is in seconds since the epoch and holds for access and id."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    id: str = field(repr=False)
    expires_at: float


@dataclass(frozen=True)
class TokenStore:
    """Tokens by env in one folder, which is made when something is saved."""

    folder: Path

    def load(self, env: str) -> Tokens | None:
        """The tokens of an env, or None if there are none that can be read.

        A file that others can read is closed to them.
        """
        path = self._path(env)
        try:
            if path.stat().st_mode & _OTHERS and os.name == "posix":
                path.chmod(0o600)
            return _tokens(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError):
            return None

    def save(self, env: str, tokens: Tokens) -> None:
        """Replaces the tokens of an env.

        Raises:
            OSError: the folder can't be written.
        """
        path = self._path(env)
        make_private(self.folder)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as target:
                json.dump(asdict(tokens), target)
                target.flush()
                os.fsync(target.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def forget(self, env: str) -> None:
        """Removes the tokens of an env; fine if there are none."""
        self._path(env).unlink(missing_ok=True)

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
        texts = (data["access"], data["refresh"], data["id"])
    except (KeyError, TypeError) as error:
        raise ValueError("not tokens") from error
    if not isinstance(expires_at, (int, float)) or not all(isinstance(text, str) for text in texts):
        raise ValueError("not tokens")
    return Tokens(*texts, float(expires_at))
