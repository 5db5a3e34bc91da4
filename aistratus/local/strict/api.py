"""API Gateway and Cognito: issuers that must answer, domains that are taken, and what must go first."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from moto.apigatewayv2.exceptions import BadRequestException
from moto.apigatewayv2.models import ApiGatewayV2Backend
from moto.cognitoidp.exceptions import InvalidParameterException
from moto.cognitoidp.models import CognitoIdpBackend, cognitoidp_backends

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

_COGNITO: Final = re.compile(r"https://cognito-idp\.([a-z0-9-]+)\.amazonaws\.com/([^/]+)/?")

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?")
_RESERVED: Final = ("aws", "amazon", "cognito")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

book = Book()


@book.rule(
    "issuer-unreachable",
    code="BadRequestException",
    source="https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html",
)
def issuer_unreachable(cloud: Cloud, delays: Delays) -> None:
    """The issuer's discovery document is read when an authorizer is made or changed.

    Issuers on the internet can't be asked from here: only user pools are looked up.
    """

    def check(wanted: dict[str, Any]) -> None:
        issuer = (wanted.get("jwt_config") or {}).get("issuer") or ""
        match = _COGNITO.fullmatch(issuer)
        if match is None:
            return
        region, pool = match.groups()
        regions = cognitoidp_backends[cloud.account]
        if region not in regions or pool not in regions[region].user_pools:
            raise BadRequestException(
                f"Caught exception when connecting to {issuer.rstrip('/')}/.well-known/openid-configuration for issuer "
                f"{issuer}. Please try again later. Error: Invalid issuer: {issuer}. Issuer must have a valid "
                "discovery endpoint ended with '/.well-known/openid-configuration'"
            )

    @wrap(ApiGatewayV2Backend, "create_authorizer")
    def create_authorizer(original: Any, backend: Any, api_id: str, **wanted: Any) -> Any:
        check(wanted)
        return original(backend, api_id, **wanted)

    @wrap(ApiGatewayV2Backend, "update_authorizer")
    def update_authorizer(original: Any, backend: Any, api_id: str, authorizer_id: str, **wanted: Any) -> Any:
        check(wanted)
        return original(backend, api_id, authorizer_id, **wanted)


@book.rule(
    "domain-taken",
    code="InvalidParameterException",
    source="https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-user-pools-assign-domain-prefix.html",
)
def domain_taken(cloud: Cloud, delays: Delays) -> None:
    """A domain prefix is given once in a region, and a pool has one."""

    @wrap(CognitoIdpBackend, "create_user_pool_domain")
    def create_user_pool_domain(
        original: Any, backend: Any, user_pool_id: str, domain: str, *args: Any, **wanted: Any
    ) -> Any:
        taken = any(
            domain in regions[backend.region_name].user_pool_domains
            for regions in cognitoidp_backends.values()
            if backend.region_name in regions
        )
        if taken:
            raise InvalidParameterException("Domain already associated with another user pool.")
        if backend.describe_user_pool(user_pool_id).domain:
            raise InvalidParameterException("User pool already has a domain configured.")
        return original(backend, user_pool_id, domain, *args, **wanted)


@book.rule(
    "domain-name",
    code="InvalidParameterException",
    source="https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-user-pools-assign-domain-prefix.html",
)
def domain_name(cloud: Cloud, delays: Delays) -> None:
    """A prefix is a label of a host name, without words that would make it look like AWS's own."""

    @wrap(CognitoIdpBackend, "create_user_pool_domain")
    def create_user_pool_domain(
        original: Any, backend: Any, user_pool_id: str, domain: str, custom: Any = None, **wanted: Any
    ) -> Any:
        if not custom and (word := next((word for word in _RESERVED if word in domain), None)):
            raise InvalidParameterException(f"Domain cannot contain reserved word: {word}")
        if not custom and not _LABEL.fullmatch(domain):
            raise InvalidParameterException(
                "The domain name contains an invalid character. Domain names can only contain lower-case letters, "
                f"numbers, and hyphens. Please enter a different name that follows this format: ^{_LABEL.pattern}$"
            )
        return original(backend, user_pool_id, domain, custom, **wanted)


@book.rule(
    "callback-over-http",
    code="InvalidParameterException",
    source="https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/API_CreateUserPoolClient.html",
)
def callback_over_http(cloud: Cloud, delays: Delays) -> None:
    """Browsers are led back over TLS, or to this machine. The words are those of amplify-cli's issue 5419."""

    def check(config: dict[str, Any]) -> None:
        for address in [*(config.get("CallbackURLs") or ()), *(config.get("LogoutURLs") or ())]:
            parts = urlsplit(address)
            if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
                raise InvalidParameterException(f"{address} cannot use the HTTP protocol.")

    @wrap(CognitoIdpBackend, "create_user_pool_client")
    def create_user_pool_client(original: Any, backend: Any, pool: str, secret: bool, config: dict[str, Any]) -> Any:
        check(config)
        return original(backend, pool, secret, config)

    @wrap(CognitoIdpBackend, "update_user_pool_client")
    def update_user_pool_client(original: Any, backend: Any, pool: str, client: str, config: dict[str, Any]) -> Any:
        check(config)
        return original(backend, pool, client, config)


@book.rule(
    "pool-domain-first",
    code="InvalidParameterException",
    source="https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/API_DeleteUserPool.html",
)
def pool_domain_first(cloud: Cloud, delays: Delays) -> None:
    @wrap(CognitoIdpBackend, "delete_user_pool")
    def delete_user_pool(original: Any, backend: Any, user_pool_id: str) -> Any:
        pool = backend.describe_user_pool(user_pool_id)
        if pool.domain:
            raise InvalidParameterException(
                "User pool cannot be deleted. It has a domain configured that should be deleted first."
            )
        if pool.extended_config.get("DeletionProtection") == "ACTIVE":
            raise InvalidParameterException(
                "The user pool cannot be deleted because deletion protection is activated. "
                "Deletion protection must be inactivated first."
            )
        return original(backend, user_pool_id)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
