"""Cognito: own signing keys, token lifetimes as configured, flows as allowed, and SRP that checks the password.

moto signs all tokens of all pools with one key that is public in its source. Here each pool has a fresh key, so a
token of another pool, or one that somebody made at home, fails the signature check as it does on AWS.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Final

from joserfc import jwk, jwt
from moto.cognitoidp import models, urls
from moto.cognitoidp.exceptions import (
    InvalidParameterException,
    NotAuthorizedError,
    UserNotFoundError,
)
from moto.cognitoidp.models import CognitoIdpBackend, CognitoIdpUserPool, CognitoIdpUserPoolClient, cognitoidp_backends
from moto.cognitoidp.responses import CognitoIdpJsonWebKeyResponse, CognitoIdpResponse
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult

from aistratus.local.shim import cognito_openid, cognito_people, cognito_pools, cognito_srp
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import add, wrap

UNIT_S: Final = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
DEFAULT_S: Final = {"access": 3_600, "id": 3_600, "refresh": 30 * 86_400}
FIELDS: Final = {
    "access": ("AccessTokenValidity", "AccessToken", "hours"),
    "id": ("IdTokenValidity", "IdToken", "hours"),
    "refresh": ("RefreshTokenValidity", "RefreshToken", "days"),
}
"""Token use → setting of the client, its key in `TokenValidityUnits`, and the unit where none is given."""
OLD_NAMES: Final = {"REFRESH_TOKEN": "REFRESH_TOKEN_AUTH", "ADMIN_NO_SRP_AUTH": "ADMIN_USER_PASSWORD_AUTH"}
DEFAULT_FLOWS: Final = ("ALLOW_USER_SRP_AUTH", "ALLOW_CUSTOM_AUTH", "ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_AUTH")
"""What a client without `ExplicitAuthFlows` may do, per CreateUserPoolClient's reference."""


class UnsupportedTokenType(JsonRESTError):
    """400: only refresh tokens can be revoked."""

    def __init__(self) -> None:
        super().__init__("UnsupportedTokenTypeException", "Unsupported token type")


def patch(cloud: Cloud) -> None:
    _signing_keys()
    _lifetimes()
    _flows()
    _revocation()
    cognito_openid.patch()
    cognito_srp.patch()
    cognito_pools.patch()
    cognito_people.patch(cloud)


def _signing_keys() -> None:
    """A key for each pool, published under its own id."""

    @wrap(CognitoIdpUserPool, "__init__")
    def create(original: Any, pool: CognitoIdpUserPool, *args: Any, **kwargs: Any) -> None:
        original(pool, *args, **kwargs)
        pool.json_web_key = jwk.RSAKey.generate_key(2048, auto_kid=True)

    setattr(models, "jwt", _Signer())  # noqa: B010 - moto does not export the name

    def serve(request: Any, url: str, headers: Any) -> tuple[int, dict[str, str], bytes]:
        pool_id = request.path.strip("/").split("/")[0]
        pool = find_pool(pool_id)
        kind = {"Content-Type": "application/json"}
        if pool is None:
            return 404, kind, json.dumps({"message": f"User pool {pool_id} does not exist."}).encode()
        key = {**pool.json_web_key.as_dict(private=False), "use": "sig", "alg": "RS256"}
        return 200, kind, json.dumps({"keys": [key]}).encode()

    served = CognitoIdpJsonWebKeyResponse.serve_json_web_key
    for path, handler in urls.url_paths.items():
        if handler is served:
            urls.url_paths[path] = serve


class _Signer:
    """Stands for the `jwt` module inside moto's models, where the key's id is a constant."""

    @staticmethod
    def encode(header: dict[str, Any], payload: dict[str, Any], key: Any) -> str:
        return str(jwt.encode({**header, "kid": key.kid}, payload, key))


def find_pool(pool_id: str) -> CognitoIdpUserPool | None:
    """The pool in any account and region: its keys are public and asked for without a signature."""
    for regions in cognitoidp_backends.values():
        for backend in list(regions.values()):
            pool = backend.user_pools.get(pool_id)
            if pool is not None:
                found: CognitoIdpUserPool = pool
                return found
    return None


def lifetime(client: CognitoIdpUserPoolClient | None, use: str) -> int:
    """Seconds that a token of this client is good for."""
    field, unit_field, unit = FIELDS[use]
    config = client.extended_config if client is not None else {}
    if not config.get(field):
        return DEFAULT_S[use]
    return int(config[field]) * UNIT_S[(config.get("TokenValidityUnits") or {}).get(unit_field, unit)]


def _lifetimes() -> None:
    """moto's tokens live for an hour whatever the client says, and refresh tokens for ever."""

    @wrap(CognitoIdpUserPool, "create_jwt")
    def create_jwt(
        original: Any,
        pool: CognitoIdpUserPool,
        client_id: str,
        username: str,
        token_use: str,
        expires_in: int = 3_600,
        extra_data: dict[str, Any] | None = None,
    ) -> tuple[str, int]:
        data = dict(extra_data or {})
        if "cognito:groups" in data:
            data["cognito:groups"] = sorted(data["cognito:groups"])
        if token_use == "id":  # noqa: S105 - no password, a kind of token
            known = pool._get_user(username).attribute_lookup
            data = {name: known[name] for name in ("email", "email_verified") if name in known} | data
        seconds = lifetime(pool.clients.get(client_id), token_use)
        token: tuple[str, int] = original(pool, client_id, username, token_use, seconds, data)
        return token

    @wrap(CognitoIdpUserPool, "create_refresh_token")
    def create_refresh_token(original: Any, pool: CognitoIdpUserPool, client_id: str, username: str) -> Any:
        token, origin = original(pool, client_id, username)
        ends = time.time() + lifetime(pool.clients.get(client_id), "refresh")
        pool.__dict__.setdefault("refresh_ends", {})[token] = ends
        return token, origin

    @wrap(CognitoIdpUserPool, "create_tokens_from_refresh_token")
    def refresh(original: Any, pool: CognitoIdpUserPool, refresh_token: str) -> Any:
        if pool.refresh_tokens.get(refresh_token) is None:
            raise NotAuthorizedError("Invalid Refresh Token")
        if time.time() > pool.__dict__.get("refresh_ends", {}).get(refresh_token, float("inf")):
            raise NotAuthorizedError("Refresh Token has expired")
        return original(pool, refresh_token)


def _flows() -> None:
    """A client may use the flows that it was made with, and unknown users look like wrong passwords if it says so."""

    def check(backend: CognitoIdpBackend, client_id: str, flow: str) -> CognitoIdpUserPoolClient | None:
        client = next(
            (pool.clients[client_id] for pool in backend.user_pools.values() if client_id in pool.clients), None
        )
        if client is not None:
            allowed = {
                one.removeprefix("ALLOW_") for one in client.extended_config.get("ExplicitAuthFlows") or DEFAULT_FLOWS
            }
            name = OLD_NAMES.get(flow, flow)
            if name not in allowed and flow not in allowed:
                raise InvalidParameterException(f"{flow} flow not enabled for this client")
        return client

    @wrap(CognitoIdpBackend, "initiate_auth")
    def initiate_auth(
        original: Any, backend: CognitoIdpBackend, client_id: str, auth_flow: str, auth_parameters: dict[str, str]
    ) -> Any:
        client = check(backend, client_id, auth_flow)
        try:
            return original(backend, client_id, auth_flow, auth_parameters)
        except UserNotFoundError:
            if client is not None and client.extended_config.get("PreventUserExistenceErrors") == "ENABLED":
                raise NotAuthorizedError("Incorrect username or password.") from None
            raise

    @wrap(CognitoIdpBackend, "admin_initiate_auth")
    def admin_initiate_auth(
        original: Any,
        backend: CognitoIdpBackend,
        user_pool_id: str,
        client_id: str,
        auth_flow: str,
        auth_parameters: dict[str, str],
    ) -> Any:
        check(backend, client_id, auth_flow)
        try:
            return original(backend, user_pool_id, client_id, auth_flow, auth_parameters)
        except NotAuthorizedError as error:
            if error.message == auth_parameters.get("USERNAME"):  # moto's text for a wrong password
                raise NotAuthorizedError("Incorrect username or password.") from None
            raise


def _revocation() -> None:
    """RevokeToken is missing. It ends a refresh token and the access tokens that came from it."""

    @add(CognitoIdpResponse)
    def revoke_token(self: CognitoIdpResponse) -> ActionResult:
        token, client_id = self._get_param("Token"), self._get_param("ClientId")
        for regions in cognitoidp_backends.values():
            for backend in list(regions.values()):
                for pool in backend.user_pools.values():
                    if client_id in pool.clients:
                        revoke(pool, token)
        return ActionResult({})


def revoke(pool: CognitoIdpUserPool, token: str) -> None:
    """Ends `token` in `pool`; one that is unknown or ended already is fine (RFC 7009)."""
    if token in pool.access_tokens or token in pool.id_tokens:
        raise UnsupportedTokenType()
    known = pool.refresh_tokens.get(token)
    if known is None:
        return
    pool.refresh_tokens[token] = None
    for access_token in [one for one in pool.access_tokens if _claims(one).get("origin_jti") == known[2]]:
        del pool.access_tokens[access_token]


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims
