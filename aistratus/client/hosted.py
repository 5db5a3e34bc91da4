"""Signing in on Cognito's hosted page: the authorization code flow with PKCE, for a program on the user's machine.

A program on a user's machine can't keep a client secret, so the authorization code is useless without a `code_verifier`
that never leaves this process (RFC 7636, S256). `state` ties the redirect to our request, `nonce` ties the id token to
it. The id token comes straight from the token endpoint over TLS, which replaces checking its signature (OpenID Connect
Core, 3.1.3.7).

The endpoints' addresses come from the pool's OpenID configuration.
Source: https://docs.aws.amazon.com/cognito/latest/developerguide/authorization-endpoint.html and token-endpoint.html
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from aistratus.callbacks import SCOPES
from aistratus.client.errors import SignInError
from aistratus.client.signin import claims
from aistratus.client.tokens import Tokens

BROWSER: Final = "browser"
TIMEOUT_S: Final = 20.0

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

REFUSALS: Final = {
    "access_denied": "you declined it",
    "invalid_scope": "the app client doesn't allow what is asked for; `aistratus up` repairs it",
    "unauthorized_client": "the app client isn't allowed to sign in by a browser; `aistratus up` repairs it",
    "invalid_grant": "the code was used before, has expired or belongs to another sign-in; try it again",
    "invalid_request": "the sign-in page didn't understand the request",
    "invalid_client": "the app client doesn't exist any more",
}
"""OAuth error codes (RFC 6749, 4.1.2.1 and 5.2), in words."""


@dataclass(frozen=True)
class Pages:
    """Addresses of a pool's sign-in pages."""

    authorize: str
    token: str


class Visit(Protocol):
    """Sends the user to an address and returns the parameters of the redirect.

    by_hand: a person brings them, perhaps only the code.
    """

    @property
    def by_hand(self) -> bool: ...

    @property
    def redirect_uri(self) -> str: ...

    def __call__(self, address: str) -> Mapping[str, str]:
        """Raises:
        SignInError: nobody came back.
        """
        ...


def is_safe(address: str) -> bool:
    """Whether the connection can't be eavesdropped: TLS, or this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def discover(http: httpx.Client, cognito: str, pool: str) -> Pages:
    """The pages of a pool.

    Args:
        cognito: address of Cognito's API.

    Raises:
        SignInError: they can't be found, or lie where others could read along.
    """
    document = _answered(lambda: http.get(f"{cognito}/{pool}/.well-known/openid-configuration"), "pages")
    pages = Pages(
        authorize=str(document.get("authorization_endpoint", "")), token=str(document.get("token_endpoint", ""))
    )
    if not (is_safe(pages.authorize) and is_safe(pages.token)):
        raise SignInError("The user pool has no sign-in page; `aistratus up` makes one.")
    return pages


@dataclass(frozen=True)
class HostedSignIn:
    """One sign-in; each has secrets of its own.

    Args:
        visit: sends the user to the page and waits for their return.
    """

    http: httpx.Client
    pages: Pages
    client_id: str
    visit: Visit
    now: Callable[[], float] = time.time
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(64), repr=False)

    @property
    def address(self) -> str:
        """Where the user signs in."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.visit.redirect_uri,
            "scope": " ".join(SCOPES),
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self.pages.authorize}?{urlencode(query)}"

    def sign_in(self) -> Tokens:
        """New tokens.

        Raises:
            SignInError: declined, not for this sign-in, or the code isn't taken.
        """
        back = self.visit(self.address)
        if not (self.visit.by_hand and set(back) == {"code"}):
            self._require_our(back)
        if "error" in back:
            raise SignInError(f"Signing in failed: {_why(back)}.")
        return self.redeem(back.get("code", ""))

    def redeem(self, code: str) -> Tokens:
        """Tokens for a code, which is valid once and for five minutes.

        Raises:
            SignInError: it isn't taken, or the tokens aren't for this sign-in.
        """
        form = {
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "code": code,
            "redirect_uri": self.visit.redirect_uri,
            "code_verifier": self.verifier,
        }
        answer = _answered(lambda: self.http.post(self.pages.token, data=form), "code")
        try:
            tokens = Tokens(
                access=str(answer["access_token"]),
                refresh=str(answer["refresh_token"]),
                id=str(answer["id_token"]),
                expires_at=self.now() + float(answer["expires_in"]),
                way=BROWSER,
            )
        except (KeyError, TypeError, ValueError):
            raise SignInError("The sign-in page answered something that isn't Cognito's.") from None
        self._require_meant_for_us(tokens)
        return tokens

    def _require_our(self, back: Mapping[str, str]) -> None:
        if not hmac.compare_digest(back.get("state", "").encode(), self.state.encode()):
            raise SignInError(
                "Signing in failed: the answer belongs to another sign-in (its `state` is not ours); try it again."
            )

    def _require_meant_for_us(self, tokens: Tokens) -> None:
        told = claims(tokens.id)
        right = told.get("nonce") == self.nonce and told.get("aud") == self.client_id
        if not right or claims(tokens.access).get("client_id") != self.client_id:
            raise SignInError("Signing in failed: the tokens were made for another sign-in; try it again.")


def returned(pasted: str) -> dict[str, str]:
    """The parameters of a redirect address that the user pastes, or of the bare code.

    Such a code needs no `state`: it is only taken together with this sign-in's `code_verifier`.
    """
    text = pasted.strip().strip("\"'")
    if "=" not in text and "/" not in text:
        return {"code": text}
    query = urlsplit(text).query or text
    return {name: values[0] for name, values in parse_qs(query).items()}


def _why(back: Mapping[str, str]) -> str:
    """The error of a refused sign-in; the page's own words are used, in one line, where the code is unknown."""
    error = back.get("error", "")
    words = " ".join(back.get("error_description", error).split())[:200]
    return REFUSALS.get(error, words or "the page didn't say why")


def _answered(ask: Callable[[], httpx.Response], what: str) -> dict[str, Any]:
    """The JSON object in an answer."""
    try:
        response = ask()
        content = response.json()
    except httpx.HTTPError as error:
        raise SignInError(f"Cognito's sign-in {what} can't be reached: {error or type(error).__name__}") from error
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise SignInError("The sign-in page answered something that isn't Cognito's.")
    if response.is_error or "error" in content:
        told = {"error": str(content.get("error") or f"HTTP {response.status_code}")}
        raise SignInError(f"Signing in failed: {_why(told)}.")
    return content
