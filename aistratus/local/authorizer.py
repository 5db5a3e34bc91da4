"""The JWT authorizer of an HTTP API.

The issuer is AWS's URL of the user pool, while the pool's keys are read from the embedded cloud's own endpoint. Only
RSA signatures are accepted; the algorithm, the key and the issuer are determined by the configuration and the key set,
never by the token.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import parse_qsl

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from moto.backends import get_backend

ALGORITHMS: Final = ("RS256", "RS384", "RS512")
KEYS_WITHIN_S: Final = 1.5
"""API Gateway waits this long for a key set (HTTP API quotas)."""
KEYS_BYTES: Final = 150_000
KEYS_KEPT_S: Final = 7200.0
"""API Gateway keeps a key set for two hours."""
KEYS_AGAIN_S: Final = 10.0
"""An unknown `kid` makes the keys be read again, but no oftener than this."""
FAR_FUTURE_S: Final = 1e12
"""No real moment is so far from the epoch; NaN and infinity fail the comparison with it."""

_POOL_ISSUER = re.compile(r"https://cognito-idp\.([a-z0-9-]+)\.amazonaws\.com/([A-Za-z0-9_-]+)")
_NO_PROXY = urllib.request.ProxyHandler({})


class Refused(Exception):
    """The request may not pass: 401 without a valid token, 403 with a token that lacks the route's scopes."""

    def __init__(self, status: int, reason: str, challenge: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.challenge = challenge


class _Invalid(Exception):
    """The token doesn't hold; the text is for the `error_description`."""


@dataclass(frozen=True)
class Passed:
    """The token's claims; `scopes` are the token's own when the route asks for some."""

    claims: Mapping[str, Any]
    scopes: list[str] | None


@dataclass(frozen=True)
class _Keys:
    by_id: Mapping[str, RSAKey]
    read_at: float


class JwtAuthorizer:
    """Checks tokens. `endpoint` stands for all of AWS; `now` gives seconds since the epoch."""

    def __init__(self, endpoint: str, now: Callable[[], float] = time.time) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._now = now
        self._lock = threading.Lock()
        self._keys: dict[str, _Keys] = {}

    def check(self, authorizer: Any, *, headers: Mapping[str, str], query: str, scopes: list[str] | None) -> Passed:
        """Apply an authorizer as it is configured in moto; `scopes` are the route's.

        Raises:
            Refused: with the status and the `www-authenticate` header to answer.
        """
        wanted = " ".join(scopes or [])
        token = _token(authorizer.identity_source, headers, query)
        if not token:
            raise Refused(401, "no token in the identity source", "Bearer")
        try:
            claims = self._verified(token, authorizer.jwt_config or {})
        except _Invalid as invalid:
            challenge = f'Bearer scope="{wanted}" error="invalid_token" error_description="{invalid}"'
            raise Refused(401, str(invalid), challenge) from None
        held = _scopes_of(claims)
        if scopes and not set(scopes) & set(held):
            reason = "the token does not have the required scope"
            challenge = f'Bearer scope="{wanted}" error="insufficient_scope" error_description="{reason}"'
            raise Refused(403, reason, challenge)
        return Passed(claims, held if scopes else None)

    def _verified(self, token: str, config: Mapping[str, Any]) -> dict[str, Any]:
        header = _decoded_part(token.partition(".")[0])
        if header.get("alg") not in ALGORITHMS:
            raise _Invalid("the token's signing method is invalid")
        issuer = str(config.get("Issuer") or config.get("issuer") or "")
        key = self._key(issuer, header.get("kid"))
        try:
            signed = jws.deserialize_compact(token, key, algorithms=list(ALGORITHMS))
            claims = json.loads(signed.payload)
        except (JoseError, ValueError, RecursionError):
            raise _Invalid("the token's signature is invalid") from None
        if not isinstance(claims, dict):
            raise _Invalid("the token's claims are not an object")
        self._check_claims(claims, issuer, config.get("Audience") or config.get("audience") or [])
        return claims

    def _check_claims(self, claims: Mapping[str, Any], issuer: str, audience: list[str]) -> None:
        if claims.get("iss") != issuer:
            raise _Invalid("the token does not have a valid issuer")
        given = claims["aud"] if "aud" in claims else claims.get("client_id")
        values = given if isinstance(given, list) else [given]
        if not any(isinstance(value, str) and value in audience for value in values):
            raise _Invalid("the token does not have a valid audience")
        now = self._now()
        if _moment(claims, "exp") is None or now >= (_moment(claims, "exp") or 0):
            raise _Invalid("the token has expired")
        if (_moment(claims, "nbf") or 0) > now:
            raise _Invalid("the token is not valid yet")
        if (_moment(claims, "iat") or 0) > now:
            raise _Invalid("the token was issued in the future")

    # --- keys ---------------------------------------------------------------------------------------------------

    def _key(self, issuer: str, key_id: object) -> RSAKey:
        pool = _POOL_ISSUER.fullmatch(issuer)
        if pool is None or not _pool_exists(pool[1], pool[2]):
            raise _Invalid("OIDC discovery endpoint communication error")
        if not isinstance(key_id, str):
            raise _Invalid("the token has no key id")
        with self._lock:
            keys = self._keys.get(issuer)
            age = math.inf if keys is None else self._now() - keys.read_at
            unknown = keys is not None and key_id not in keys.by_id
            if keys is None or age > KEYS_KEPT_S or (unknown and age > KEYS_AGAIN_S):
                keys = self._keys[issuer] = _Keys(self._read_keys(pool[2]), self._now())
        if key_id not in keys.by_id:
            raise _Invalid("the token's key id is unknown")
        return keys.by_id[key_id]

    def _read_keys(self, pool_id: str) -> dict[str, RSAKey]:
        url = f"{self._endpoint}/{pool_id}/.well-known/jwks.json"
        try:
            with urllib.request.build_opener(_NO_PROXY).open(url, timeout=KEYS_WITHIN_S) as answer:
                document = json.loads(answer.read(KEYS_BYTES))
            entries = [entry for entry in document["keys"] if entry.get("kty") == "RSA" and "d" not in entry]
            return {str(entry["kid"]): RSAKey.import_key(entry) for entry in entries}
        except (URLError, OSError, ValueError, KeyError, TypeError, JoseError):
            raise _Invalid("the key set could not be read") from None


def _pool_exists(region: str, pool_id: str) -> bool:
    backends: Any = get_backend("cognito-idp")
    return any(region in regions and pool_id in regions[region].user_pools for _, regions in list(backends.items()))


def _token(sources: object, headers: Mapping[str, str], query: str) -> str:
    """The token from the first identity source that has one, without `Bearer`."""
    for source in sources if isinstance(sources, list) else [sources]:
        kind, _, name = str(source).removeprefix("$request.").partition(".")
        if kind == "header":
            found = headers.get(name.lower(), "")
        elif kind == "querystring":
            found = dict(parse_qsl(query)).get(name, "")
        else:
            found = ""
        if found:
            scheme, space, rest = found.strip().partition(" ")
            return rest.strip() if space and scheme.lower() == "bearer" else found.strip()
    return ""


def _decoded_part(part: str) -> dict[str, Any]:
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        decoded = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError):
        raise _Invalid("the token could not be decoded") from None
    if not isinstance(decoded, dict):
        raise _Invalid("the token could not be decoded")
    return decoded


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate claim; None when it is missing.

    Raises:
        _Invalid: it is there but isn't a moment.
    """
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < FAR_FUTURE_S:
        raise _Invalid(f"the token's {name} is not a moment")
    return float(value)


def _scopes_of(claims: Mapping[str, Any]) -> list[str]:
    value = claims.get("scope", claims.get("scp", ""))
    if isinstance(value, list):
        return [str(entry) for entry in value]
    return str(value).split()
