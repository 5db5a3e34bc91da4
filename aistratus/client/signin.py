"""Signing in to the user pool, and renewing tokens without asking.

The way to sign in here is the operator's: with AWS credentials for the account, by name and password through Cognito's
admin API, which needs no browser. Other ways (`hosted.py`, `password.py`) return the same `Tokens`, which the same
session keeps.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from aistratus.client.errors import SignInError
from aistratus.client.tokens import BY_ITSELF, Tokens, TokenStore

RENEW_BEFORE_S: Final = 120.0
"""A token is renewed this long before it expires, so that it outlives the request it is sent with."""

_REJECTED: Final = frozenset({"NotAuthorizedException", "UserNotFoundException", "UserNotConfirmedException"})
_TELLING: Final = re.compile("Temporary password has expired|User is disabled|Password attempts exceeded")
"""Cognito's messages for a refusal that isn't about a wrong password."""
STRENGTH: Final = "12 characters, with upper and lower case, digits and signs"
"""The password rules (`UserPool.password_min`, `password_needs`); Cognito names only the first one violated."""
_SAID: Final = {
    "PasswordResetRequiredException": "the password must be reset first, on the page that `aistratus login` opens",
    "CodeMismatchException": "the code is not right",
    "ExpiredCodeException": "the code has expired; sign in again for another one",
    "InvalidPasswordException": f"the new password needs {STRENGTH}",
    "TooManyRequestsException": "there were too many tries; wait a few minutes",
    "LimitExceededException": "there were too many tries; wait a few minutes",
    "TooManyFailedAttemptsException": "there were too many tries; wait a few minutes",
    "ResourceNotFoundException": "the env's app client is gone; `aistratus up` makes another",
}
"""Cognito's refusals, in words for the user."""


class WayIn(Protocol):
    """A way to sign in."""

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
        answer = asked(
            lambda: self.cognito.admin_initiate_auth(
                UserPoolId=self.pool_id,
                ClientId=self.client_id,
                AuthFlow="ADMIN_USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": self.username, "PASSWORD": self.password()},
            ),
            f"{self.username} can't be signed in",
        )
        return tokens_of(answer, refresh="", now=self.now(), who=self.username)


@dataclass(frozen=True)
class Session:
    """A user's tokens in one env: stored, renewed silently, and replaced by a new sign-in where that needs no user.

    It is a function that gives an access token that is valid now: fits `Api(token=…)`.

    Args:
        cognito: boto3's `cognito-idp` client; renewing and revoking need no permission.
        way_in: the operator's; None where there are no AWS credentials. Whoever signed in by another way is asked to do
            so again, instead of going on as somebody else.
    """

    env: str
    store: TokenStore
    cognito: Any
    client_id: str
    way_in: WayIn | None
    now: Callable[[], float] = time.time

    def __call__(self) -> str:
        """As `access_token`."""
        return self.access_token()

    def access_token(self) -> str:
        """An access token that is valid for the next request.

        Raises:
            SignInError: there is none and none can be got.
        """
        return self.tokens().access

    def instead_of(self, refused: str) -> str:
        """A new access token in place of this one, which the API refused although it looked valid here.

        That happens when this machine's clock is wrong, or when the token was revoked elsewhere.

        Raises:
            SignInError: there is none and none can be got.
        """
        return self.tokens(refused).access

    def tokens(self, refused: str = "") -> Tokens:
        """Tokens that are valid for the next request.

        Raises:
            SignInError: there are none and none can be got.
        """
        kept = self.kept()
        if kept is not None and self._is_good(kept, refused):
            return kept
        with self.store.held(self.env):
            kept = self.kept()  # another process may have renewed them meanwhile
            if kept is None:
                return self.sign_in()
            if self._is_good(kept, refused):
                return kept
            try:
                return self._renewed(kept)
            except _NotAsked:
                if kept.access != refused and kept.expires_at > self.now():
                    return kept  # it is good for this request, and the next one tries again
                raise

    def kept(self) -> Tokens | None:
        """The stored tokens of this env's app client: an env that was taken down and built again has another client."""
        tokens = self.store.load(self.env)
        ours = tokens is not None and claims(tokens.access).get("client_id") == self.client_id
        return tokens if ours else None

    def sign_in(self) -> Tokens:
        """Signs in and stores the tokens.

        Raises:
            SignInError: it can't be done without asking somebody.
        """
        if self.way_in is None:
            raise SignInError(f"You are not signed in to {self.env}; type `aistratus login -e {self.env}`.")
        return self._keep(self.way_in.sign_in())

    def replace(self, tokens: Tokens) -> Tokens | None:
        """Stores tokens from another way to sign in; returns those that they replace.

        Nobody renews meanwhile, who would then put the old ones back.
        """
        with self.store.held(self.env):
            earlier = self.kept()
            self._keep(tokens)
        return earlier

    def _keep(self, tokens: Tokens) -> Tokens:
        self.store.save(self.env, tokens)
        return tokens

    def sign_out(self) -> None:
        """Revokes the session at Cognito and deletes its tokens on this machine, the latter in any case.

        Raises:
            SignInError: Cognito couldn't be asked, so that the session goes on there until it expires.
        """
        with self.store.held(self.env):
            tokens = self.kept()
            self.store.forget(self.env)
        if tokens is None or not tokens.refresh:
            return
        asked(
            lambda: self.cognito.revoke_token(ClientId=self.client_id, Token=tokens.refresh),
            f"The session in {self.env} is forgotten here, but it can't be revoked",
        )

    def _is_good(self, tokens: Tokens, refused: str) -> bool:
        return tokens.access != refused and tokens.expires_at - self.now() > RENEW_BEFORE_S

    def _renewed(self, tokens: Tokens) -> Tokens:
        """Renews by the refresh token, which Cognito may rotate; signs in again when it is refused."""
        if not tokens.refresh:
            return self._again(tokens)
        try:
            answer = asked(
                lambda: self.cognito.initiate_auth(
                    ClientId=self.client_id,
                    AuthFlow="REFRESH_TOKEN_AUTH",
                    AuthParameters={"REFRESH_TOKEN": tokens.refresh},
                ),
                f"The session in {self.env} can't be renewed",
            )
        except _Rejected:
            return self._again(tokens)
        renewed = tokens_of(answer, refresh=tokens.refresh, now=self.now(), who="the user")
        return self._keep(replace(renewed, way=tokens.way))

    def _again(self, tokens: Tokens) -> Tokens:
        """The operator's sign-in needs no user; the others do."""
        if tokens.way == BY_ITSELF:
            return self.sign_in()
        raise SignInError(f"Your session in {self.env} has expired; type `aistratus login -e {self.env}`.")


def claims(token: str) -> Mapping[str, Any]:
    """A token's claims, unverified: only the API checks tokens."""
    try:
        payload = token.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


class _Rejected(SignInError):
    """Cognito refused."""


class _NotAsked(SignInError):
    """Cognito didn't answer."""


def asked(call: Callable[[], Mapping[str, Any]], what: str) -> Mapping[str, Any]:
    """Cognito's answer, or its refusal in a sentence that quotes no secret."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _REJECTED:
            said = error.response["Error"].get("Message", "").rstrip(".")
            told = said if _TELLING.match(said) else "the name, password or session is not valid"
            raise _Rejected(f"{what}: {told}.") from error
        said = _SAID.get(code) or error.response.get("Error", {}).get("Message") or code
        raise SignInError(f"{what}: {said.rstrip('.')}.") from error
    except BotoCoreError as error:
        raise _NotAsked(f"{what}: {error}") from error


def tokens_of(answer: Mapping[str, Any], *, refresh: str, now: float, who: str, way: str = BY_ITSELF) -> Tokens:
    """Tokens from Cognito's answer, which holds a refresh token only when a new one was issued."""
    result = answer.get("AuthenticationResult")
    if not result:
        challenge = answer.get("ChallengeName", "something unknown")
        raise SignInError(f"Cognito asks {who} for {challenge} first; set a permanent password for the user.")
    return Tokens(
        access=result["AccessToken"],
        refresh=result.get("RefreshToken") or refresh,
        id=result.get("IdToken", ""),
        expires_at=now + result["ExpiresIn"],
        way=way,
    )
