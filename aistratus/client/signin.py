"""Signing in to the user pool, and staying signed in without asking.

The way in here is the operator's: somebody with AWS credentials for the account signs in with a name and a password
through Cognito's admin API, which needs no browser. Other ways in give the same `Tokens` and are kept by the same
session.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aistratus.client.errors import SignInError
from aistratus.client.tokens import Tokens, TokenStore

RENEW_BEFORE_S: Final = 120.0
"""A token is renewed this long before it expires, so that it outlives the request it is sent with."""

_REJECTED: Final = frozenset({"NotAuthorizedException", "UserNotFoundException", "UserNotConfirmedException"})


class WayIn(Protocol):
    """A way to get tokens from nothing."""

    def sign_in(self) -> Tokens:
        """Raises:
        SignInError: it didn't work, and why.
        """
        ...


@dataclass(frozen=True)
class AdminSignIn:
    """Name and password through `AdminInitiateAuth`.

    Args:
        cognito: boto3's `cognito-idp` client; its credentials need `cognito-idp:AdminInitiateAuth` on the pool.
        password: asked only when it is needed.
    """

    cognito: Any
    pool_id: str
    client_id: str
    username: str
    password: Callable[[], str]
    now: Callable[[], float] = time.time

    def sign_in(self) -> Tokens:
        """New tokens.

        Raises:
            SignInError: wrong password, or the user must do something first.
        """
        answer = _asked(
            lambda: self.cognito.admin_initiate_auth(
                UserPoolId=self.pool_id,
                ClientId=self.client_id,
                AuthFlow="ADMIN_USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": self.username, "PASSWORD": self.password()},
            ),
            f"{self.username} can't be signed in",
        )
        return _tokens(answer, refresh="", now=self.now(), who=self.username)


@dataclass(frozen=True)
class Session:
    """A user's tokens in one env: kept, renewed in silence, and got anew when that fails.

    Args:
        cognito: boto3's `cognito-idp` client; renewing needs no permission.
        way_in: None when nobody can be asked; then an expired session is an error.
    """

    env: str
    store: TokenStore
    cognito: Any
    client_id: str
    way_in: WayIn | None
    now: Callable[[], float] = time.time

    def access_token(self) -> str:
        """An access token that is valid for the next request. Fits `Api(token=…)`.

        Raises:
            SignInError: there is none and none can be got.
        """
        tokens = self.store.load(self.env)
        if tokens is None or not self._is_ours(tokens):
            return self.sign_in().access
        if tokens.expires_at - self.now() > RENEW_BEFORE_S:
            return tokens.access
        return self._renewed(tokens).access

    def sign_in(self) -> Tokens:
        """Signs in anew and keeps the tokens.

        Raises:
            SignInError: it can't be done.
        """
        if self.way_in is None:
            raise SignInError(f"You are not signed in to {self.env}; type `aistratus login -e {self.env}`.")
        tokens = self.way_in.sign_in()
        self.store.save(self.env, tokens)
        return tokens

    def sign_out(self) -> None:
        """Forgets the tokens on this machine."""
        self.store.forget(self.env)

    def _is_ours(self, tokens: Tokens) -> bool:
        """Whether they were made for this client: an env that was taken down and built again has another one."""
        return _unverified_claims(tokens.access).get("client_id") == self.client_id

    def _renewed(self, tokens: Tokens) -> Tokens:
        """With the refresh token; by the way in when Cognito doesn't take it any more."""
        if not tokens.refresh:
            return self.sign_in()
        try:
            answer = _asked(
                lambda: self.cognito.initiate_auth(
                    ClientId=self.client_id,
                    AuthFlow="REFRESH_TOKEN_AUTH",
                    AuthParameters={"REFRESH_TOKEN": tokens.refresh},
                ),
                f"The session in {self.env} can't be renewed",
            )
        except _Rejected:
            return self.sign_in()
        renewed = _tokens(answer, refresh=tokens.refresh, now=self.now(), who="the user")
        self.store.save(self.env, renewed)
        return renewed


def _unverified_claims(token: str) -> Mapping[str, Any]:
    """What a token of our own says, which only the API can check."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


class _Rejected(SignInError):
    """Cognito was asked and said no."""


def _asked(call: Callable[[], Mapping[str, Any]], what: str) -> Mapping[str, Any]:
    """Cognito's answer, or its refusal in a sentence that quotes no secret."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _REJECTED:
            raise _Rejected(f"{what}: the name, password or session is not valid.") from error
        raise SignInError(f"{what}: {error.response.get('Error', {}).get('Message') or code}") from error
    except BotoCoreError as error:
        raise SignInError(f"{what}: {error}") from error


def _tokens(answer: Mapping[str, Any], *, refresh: str, now: float, who: str) -> Tokens:
    """Tokens from Cognito's answer. A refresh token is only in it when a new one was made."""
    result = answer.get("AuthenticationResult")
    if not result:
        challenge = answer.get("ChallengeName", "something unknown")
        raise SignInError(f"Cognito asks {who} for {challenge} first; set a permanent password for the user.")
    return Tokens(
        access=result["AccessToken"],
        refresh=result.get("RefreshToken") or refresh,
        id=result.get("IdToken", ""),
        expires_at=now + result["ExpiresIn"],
    )
