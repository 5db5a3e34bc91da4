"""Authenticates the caller: verifies the token again, behind the API's authorizer.

The authorizer has verified it at the edge, but the function can also be invoked directly, with any event. So the
claims in the event are never read; the only identity is the `sub` of a token whose signature was verified here. One
algorithm, one issuer, one client, and access tokens only: an ID token is meant for an application, not for an API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from aistratus.router.clock import Clock, Deadline
from aistratus.router.environment import Environment
from aistratus.router.keys import KeySet, KeysUnavailable
from aistratus.router.problems import Problem, forbidden, service_unavailable, unauthorized
from aistratus.router.rsa_only import ALGORITHM, TokenError, header_of, verified_payload

TOKEN_CHARS: Final = 8_192
OPERATORS: Final = "operators"
"""The group of those who run the stack, as `stack/people.py` declares it."""
FAR_FUTURE_S: Final = 1e12
"""No token's moment is so far from the epoch."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SUBJECT: Final = re.compile(r"[!-~]{1,128}")


class _Refused(Exception):
    """The token isn't good, and in how far: a sentence that helps its owner and no forger."""


@dataclass(frozen=True)
class Caller:
    """Who a good token is for: `subject` is their `sub`."""

    subject: str
    groups: frozenset[str]


@dataclass(frozen=True)
class Gate:
    """Lets a caller in by the token in the `authorization` header."""

    environment: Environment
    keys: KeySet
    clock: Clock

    def owner(self, authorization: str | None, deadline: Deadline) -> str:
        """The `sub` of whoever calls; see `caller`."""
        return self.caller(authorization, deadline).subject

    def operator(self, authorization: str | None, deadline: Deadline) -> Caller:
        """The same for what only an operator may do.

        Raises:
            Problem: 403 for anybody else, 401 and 503 as for `caller`.
        """
        caller = self.caller(authorization, deadline)
        if OPERATORS not in caller.groups:
            raise forbidden(f"Only members of the group {OPERATORS} may do this.")
        return caller

    def caller(self, authorization: str | None, deadline: Deadline) -> Caller:
        """Whoever the token is for.

        Args:
            authorization: the header's value, with or without `Bearer `, as the authorizer takes it.

        Raises:
            Problem: 401, or 503 while the pool's keys can't be fetched.
        """
        if not authorization:
            raise unauthorized("The request has no access token.")
        try:
            claims = self._verified(_without_scheme(authorization), deadline)
            return Caller(self._subject(claims), _groups(claims))
        except _Refused as refusal:
            raise unauthorized(f"The access token {refusal}.") from refusal
        except KeysUnavailable as error:
            raise _no_keys() from error

    def _verified(self, token: str, deadline: Deadline) -> Mapping[str, Any]:
        """The claims of a token with a good signature."""
        if len(token) > TOKEN_CHARS or not _TOKEN.fullmatch(token):
            raise _Refused("is malformed")
        key = self.keys.find(_key_name(token), deadline)
        if key is None:
            raise _Refused("is signed with a key that the user pool doesn't have")
        try:
            claims = json.loads(verified_payload(token, key), object_pairs_hook=_unambiguous, parse_constant=_no_moment)
        except (TokenError, ValueError, RecursionError) as error:
            raise _Refused("has a wrong signature or a damaged body") from error
        if not isinstance(claims, dict):
            raise _Refused("is malformed")
        return claims

    def _subject(self, claims: Mapping[str, Any]) -> str:
        now = self.clock.now()
        expires, not_before = claims.get("exp"), claims.get("nbf", 0)
        if not _is_number(expires) or not _is_number(not_before):
            raise _Refused("is malformed")
        if not now < expires:
            raise _Refused("has expired")
        if not now >= not_before:
            raise _Refused("is not valid yet")
        if claims.get("iss") != self.environment.issuer:
            raise _Refused("is from another user pool")
        if claims.get("token_use") != "access":
            raise _Refused("is no access token")
        if claims.get("client_id") != self.environment.client_id:
            raise _Refused("is for another client")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise _Refused("names no user")
        return subject


def _groups(claims: Mapping[str, Any]) -> frozenset[str]:
    """Cognito's groups of the user; a token of somebody without any has no such claim."""
    groups = claims.get("cognito:groups")
    return frozenset(name for name in groups if isinstance(name, str)) if isinstance(groups, list) else frozenset()


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique (RFC 7519, section 4): another reader might take the other of two."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a claim is given twice")
    return found


def _no_moment(name: str) -> Any:
    """NaN and Infinity are no JSON; as an expiry they would never come."""
    raise ValueError(name)


def _without_scheme(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else authorization.strip()


def _key_name(token: str) -> str:
    """The name of the key that the header asks for, once the header is one that Cognito could have written."""
    try:
        header = header_of(token)
    except TokenError as error:
        raise _Refused("is malformed") from error
    if header.get("alg") != ALGORITHM:
        raise _Refused("is signed in a way that isn't allowed")
    if "crit" in header:  # RFC 7515, 4.1.11: extensions that aren't understood must be refused
        raise _Refused("asks for an extension that isn't supported")
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise _Refused("names no key")
    return kid


def _is_number(value: Any) -> TypeGuard[float]:
    """A moment in seconds. `1e999` reads as infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < FAR_FUTURE_S


def _no_keys() -> Problem:
    return service_unavailable("The user pool's keys can't be read at the moment; the token couldn't be checked.")
