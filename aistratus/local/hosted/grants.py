"""The hosted pages' state between two requests: codes, browser sessions, passwords to be changed.

All tokens are random (`secrets`) and expire; single-use ones are deleted with their first use.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from moto.cognitoidp.models import CognitoIdpUserPool

T = TypeVar("T")

CODE_S: Final = 300.0
"""https://docs.aws.amazon.com/cognito/latest/developerguide/token-endpoint.html: a code is good for five minutes."""
BROWSER_S: Final = 3_600.0
"""https://docs.aws.amazon.com/cognito/latest/developerguide/managed-login.html: the session cookie is, for an hour."""


@dataclass(frozen=True)
class Grant:
    """What somebody agreed to: a code stands for it."""

    pool: str
    client: str
    redirect_uri: str
    username: str
    scope: str
    nonce: str
    challenge: str


@dataclass
class Remembered(Generic[T]):
    """Things behind random names, each for a while."""

    lasts: float
    now: Callable[[], float] = time.time
    _things: dict[str, tuple[float, T]] = field(default_factory=dict)

    def add(self, thing: T) -> str:
        self._things = {name: kept for name, kept in self._things.items() if kept[0] > self.now()}
        name = secrets.token_urlsafe(32)
        self._things[name] = (self.now() + self.lasts, thing)
        return name

    def get(self, name: str) -> T | None:
        ends, thing = self._things.get(name, (0.0, None))
        return thing if ends > self.now() else None

    def take(self, name: str) -> T | None:
        """The same, for the last time."""
        thing = self.get(name)
        self._things.pop(name, None)
        return thing


def proves(verifier: str, challenge: str) -> bool:
    """PKCE's S256, https://www.rfc-editor.org/rfc/rfc7636#section-4.6; a code without a challenge needs no verifier."""
    if not challenge:
        return True
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(digest, challenge)


def tokens(pool: CognitoIdpUserPool, grant: Grant) -> dict[str, Any]:
    """The token endpoint's answer to a code."""
    refresh, origin = pool.create_refresh_token(grant.client, grant.username)
    user = pool._get_user(grant.username)
    groups = {"cognito:groups": [group.group_name for group in user.groups]} if user.groups else {}
    access, expires_in = pool.create_jwt(
        grant.client, grant.username, "access", extra_data={"origin_jti": origin, "scope": grant.scope, **groups}
    )
    pool.access_tokens[access] = (grant.client, grant.username)
    nonce = {"nonce": grant.nonce} if grant.nonce else {}
    told = pool.get_user_extra_data_by_client_id(grant.client, grant.username)
    identity, _ = pool.create_jwt(
        grant.client, grant.username, "id", extra_data={**told, "origin_jti": origin, **groups, **nonce}
    )
    pool.id_tokens[identity] = (grant.client, grant.username)
    return {
        "access_token": access,
        **({"id_token": identity} if "openid" in grant.scope.split() else {}),
        "refresh_token": refresh,
        "expires_in": expires_in,
        "token_type": "Bearer",
    }
