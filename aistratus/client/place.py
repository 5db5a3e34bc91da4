"""An env's endpoint, for users without an AWS account: four addresses and ids, none of them secret.

An operator hands them over as one word, the invitation. It may come from an untrusted mail, so its addresses are
checked before a password is entered for them: they must be Cognito's, or this machine's.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from aistratus.client.hosted import LOOPBACK, is_safe
from aistratus.private import make_private

_COGNITO: Final = re.compile(r"cognito-idp(-fips)?\.[a-z0-9-]+\.(amazonaws\.com|api\.aws)")
_ENV: Final = re.compile(r"[a-z]([a-z0-9-]{0,14}[a-z0-9])?")
_POOL: Final = re.compile(r"[a-z0-9-]{1,54}_[0-9A-Za-z]{1,55}")
_CLIENT: Final = re.compile(r"[\w+]{1,128}")
_BEGIN: Final = "aistratus-"


class NotAnInvitation(ValueError):
    """The word isn't an invitation, or its addresses aren't trusted."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """An env's API and sign-in.

    cognito: address of Cognito's API.
    """

    env: str
    api: str
    cognito: str
    pool: str
    client: str

    @property
    def region(self) -> str:
        return self.pool.partition("_")[0]

    @property
    def invitation(self) -> str:
        """The invitation: everything in one word."""
        text = json.dumps(list(asdict(self).values()), separators=(",", ":"))
        return _BEGIN + base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def invited(word: str) -> Place:
    """From an invitation.

    Raises:
        NotAnInvitation: it can't be read, or an address in it isn't one to type a password for.
    """
    try:
        text = word.strip().removeprefix(_BEGIN)
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        env, api, cognito, pool, client = values
    except (ValueError, TypeError):
        raise NotAnInvitation("this isn't an invitation") from None
    return _checked(Place(env=env, api=api, cognito=cognito, pool=pool, client=client))


def _checked(place: Place) -> Place:
    if not all(isinstance(value, str) for value in asdict(place).values()):
        raise NotAnInvitation("this isn't an invitation")
    host = urlsplit(place.cognito).hostname or ""
    ours = host in LOOPBACK or (_COGNITO.fullmatch(host) and is_safe(place.cognito))
    if not (
        _ENV.fullmatch(place.env)
        and ours
        and is_safe(place.api)
        and _POOL.fullmatch(place.pool)
        and _CLIENT.fullmatch(place.client)
    ):
        raise NotAnInvitation("this invitation leads somewhere else than to Cognito")
    return place


@dataclass(frozen=True)
class Places:
    """Stored places, one file (0600) per env; an unreadable one counts as missing."""

    folder: Path

    def load(self, env: str) -> Place | None:
        try:
            data: Any = json.loads(self._path(env).read_text("utf-8"))
            return _checked(Place(**data))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, place: Place) -> None:
        """Raises:
        OSError: the folder can't be written.
        """
        make_private(self.folder)
        beside = self.folder / f".{place.env}.{secrets.token_hex(8)}"
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as target:
            json.dump(asdict(place), target)
        beside.replace(self._path(place.env))

    def forget(self, env: str) -> None:
        """Removes the env's place, if there is one."""
        self._path(env).unlink(missing_ok=True)

    def _path(self, env: str) -> Path:
        return self.folder / f"{env}.json"
