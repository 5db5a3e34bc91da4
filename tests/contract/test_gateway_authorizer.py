"""Who passes the JWT authorizer: the pool's own tokens, for the configured audience, and nothing like them."""

from __future__ import annotations

import base64
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from gateway_cloud import ECHO, REGION, Api, Workshop
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from moto.utilities.utils import load_resource

KEY = RSAKey.import_key(load_resource("cognitoidp/resources/jwks-private.json"))
"""The key that moto signs with: the attacks need tokens that are right but for one thing."""


@dataclass(frozen=True)
class Pool:
    """A user pool with one client and one signed-in user."""

    id: str
    client: str
    access_token: str
    id_token: str

    @property
    def issuer(self) -> str:
        return f"https://cognito-idp.{REGION}.amazonaws.com/{self.id}"


def make_pool(workshop: Workshop) -> Pool:
    cognito = workshop.cloud.client("cognito-idp")
    pool = cognito.create_user_pool(PoolName=f"pool-{uuid.uuid4().hex[:8]}")["UserPool"]["Id"]
    client = cognito.create_user_pool_client(
        UserPoolId=pool, ClientName="app", ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"]
    )["UserPoolClient"]["ClientId"]
    cognito.create_group(UserPoolId=pool, GroupName="operators")
    cognito.admin_create_user(UserPoolId=pool, Username="ada")
    cognito.admin_set_user_password(UserPoolId=pool, Username="ada", Password="Long-enough-1", Permanent=True)
    cognito.admin_add_user_to_group(UserPoolId=pool, Username="ada", GroupName="operators")
    tokens = cognito.initiate_auth(
        ClientId=client,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "ada", "PASSWORD": "Long-enough-1"},
    )["AuthenticationResult"]
    return Pool(pool, client, tokens["AccessToken"], tokens["IdToken"])


@dataclass(frozen=True)
class Guarded:
    api: Api
    pool: Pool

    def call(self, token: str | None, path: str = "/jobs") -> httpx.Response:
        return self.api.get(path, headers={} if token is None else {"authorization": token})


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    made = Workshop(tmp_path_factory.mktemp("state"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def guarded(workshop: Workshop) -> Guarded:
    pool = make_pool(workshop)
    api = workshop.api().stage()
    authorizer = api.control.create_authorizer(
        ApiId=api.id,
        AuthorizerType="JWT",
        Name="jwt",
        IdentitySource=["$request.header.Authorization"],
        JwtConfiguration={"Issuer": pool.issuer, "Audience": ["another", pool.client]},
    )["AuthorizerId"]
    integration = api.integration(workshop.cloud.function(ECHO))
    guard = {"AuthorizationType": "JWT", "AuthorizerId": authorizer}
    api.route("GET /jobs", integration, **guard)
    api.route("GET /scoped", integration, AuthorizationScopes=["api/read", "api/write"], **guard)
    api.route("GET /open", integration)
    return Guarded(api, pool)


def claims_of(guarded: Guarded, **changes: Any) -> dict[str, Any]:
    """An access token's claims; a change to None leaves the claim out."""
    now = int(time.time())
    claims = {
        "iss": guarded.pool.issuer,
        "sub": "somebody",
        "client_id": guarded.pool.client,
        "token_use": "access",
        "iat": now,
        "exp": now + 600,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def signed(claims: object, *, key: Any = KEY, header: dict[str, Any] | None = None) -> str:
    head = {"alg": "RS256", "kid": "dummy", **(header or {})}
    registry = jws.JWSRegistry(algorithms=[head["alg"]], strict_check_header=False)
    return jws.serialize_compact(head, json.dumps(claims).encode(), key, registry=registry)


def part(data: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


# --- those who pass -----------------------------------------------------------------------------------------------


def test_an_access_token_of_the_pool_passes(guarded: Guarded) -> None:
    answer = guarded.call(f"Bearer {guarded.pool.access_token}")
    assert answer.status_code == 200
    authorizer = answer.json()["requestContext"]["authorizer"]["jwt"]
    claims = authorizer["claims"]
    assert claims["client_id"] == guarded.pool.client
    assert claims["iss"] == guarded.pool.issuer
    assert claims["token_use"] == "access"
    assert claims["cognito:groups"] == "[operators]"
    assert all(isinstance(value, str) for value in claims.values())
    assert authorizer["scopes"] is None


def test_an_id_token_passes_by_its_audience(guarded: Guarded) -> None:
    assert guarded.call(f"Bearer {guarded.pool.id_token}").status_code == 200


@pytest.mark.parametrize("prefix", ["", "bearer ", "BEARER  "])
def test_the_word_bearer_is_optional_in_any_case(guarded: Guarded, prefix: str) -> None:
    assert guarded.call(prefix + guarded.pool.access_token).status_code == 200


def test_the_token_crafted_here_is_right_but_for_what_a_test_changes(guarded: Guarded) -> None:
    assert guarded.call(signed(claims_of(guarded))).status_code == 200


def test_claims_arrive_as_text(guarded: Guarded) -> None:
    token = signed(claims_of(guarded, flag=True, number=7, listed=["a", 1], nested={"k": "v"}))
    claims = guarded.call(token).json()["requestContext"]["authorizer"]["jwt"]["claims"]
    assert (claims["flag"], claims["number"], claims["listed"], claims["nested"]) == ("true", "7", "[a 1]", "map[k:v]")


def test_a_route_without_authorizer_is_open(guarded: Guarded) -> None:
    answer = guarded.call(None, "/open")
    assert answer.status_code == 200
    assert "authorizer" not in answer.json()["requestContext"]


# --- those who don't ------------------------------------------------------------------------------------------------


def test_no_token_is_401_with_a_bare_challenge(guarded: Guarded) -> None:
    answer = guarded.call(None)
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})
    assert answer.headers["www-authenticate"] == "Bearer"


def refused(answer: httpx.Response, words: str) -> None:
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer scope="" error="invalid_token" error_description="')
    assert words in challenge


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "expired"),
        ({"exp": "9999999999"}, "not a moment"),
        ({"exp": True}, "not a moment"),
        ({"exp": float("nan")}, "not a moment"),
        ({"exp": float("inf")}, "not a moment"),
        ({"exp": 10**400}, "not a moment"),
        ({"nbf": int(time.time()) + 3600}, "not valid yet"),
        ({"nbf": "soon"}, "not a moment"),
        ({"iat": int(time.time()) + 3600}, "in the future"),
        ({"iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_other"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": ["x"]}, "issuer"),
        ({"client_id": "stranger"}, "audience"),
        ({"client_id": None}, "audience"),
        ({"client_id": {"a": 1}}, "audience"),
        ({"aud": "stranger"}, "audience"),
        ({"aud": ["stranger", 5]}, "audience"),
        ({"aud": []}, "audience"),
    ],
)
def test_a_wrong_claim_is_401(guarded: Guarded, changes: dict[str, Any], words: str) -> None:
    claims = {**claims_of(guarded), **changes}
    refused(guarded.call(signed({name: value for name, value in claims.items() if value is not None})), words)


def test_a_token_that_expired_a_second_ago_is_401(guarded: Guarded) -> None:
    refused(guarded.call(signed(claims_of(guarded, exp=int(time.time()) - 1))), "expired")


def test_another_pools_token_is_401_though_its_key_is_the_same(workshop: Workshop, guarded: Guarded) -> None:
    refused(guarded.call(make_pool(workshop).access_token), "issuer")


def test_alg_none_is_401(guarded: Guarded) -> None:
    for alg in ("none", "None", "NONE", ""):
        token = f"{part({'alg': alg, 'kid': 'dummy'})}.{part(claims_of(guarded))}."
        refused(guarded.call(token), "signing method")


def test_hs256_signed_with_the_public_key_is_401(guarded: Guarded) -> None:
    public = KEY.public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = f"{part({'alg': 'HS256', 'kid': 'dummy'})}.{part(claims_of(guarded))}"
    signature = base64.urlsafe_b64encode(hmac.digest(public, text.encode(), "sha256")).rstrip(b"=").decode()
    refused(guarded.call(f"{text}.{signature}"), "signing method")


def test_an_elliptic_curve_signature_is_401(guarded: Guarded) -> None:
    token = signed(claims_of(guarded), key=ECKey.generate_key("P-256"), header={"alg": "ES256"})
    refused(guarded.call(token), "signing method")


def test_a_strangers_key_is_401(guarded: Guarded) -> None:
    refused(guarded.call(signed(claims_of(guarded), key=RSAKey.generate_key(2048))), "signature")


def test_a_key_that_the_token_brings_along_is_401(guarded: Guarded) -> None:
    stranger = RSAKey.generate_key(2048)
    token = signed(claims_of(guarded), key=stranger, header={"jwk": stranger.as_dict(private=False)})
    refused(guarded.call(token), "signature")


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "unknown", "", None, 5, ["dummy"], {"a": 1}])
def test_a_kid_that_is_not_the_pools_is_401(guarded: Guarded, kid: object) -> None:
    head = {"alg": "RS256", "kid": kid}
    genuine = signed(claims_of(guarded)).split(".")
    refused(guarded.call(f"{part(head)}.{genuine[1]}.{genuine[2]}"), "key id")


def test_a_changed_payload_is_401(guarded: Guarded) -> None:
    head, _, signature = guarded.pool.access_token.split(".")
    refused(guarded.call(f"{head}.{part(claims_of(guarded, sub='admin'))}.{signature}"), "signature")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b.c",
        "..",
        "Bearer",
        "Basic YTpi",
        "e30.e30.e30",
        "[.[.[",
        "\xff\xfe",
        "W10.W10.x",
        base64.urlsafe_b64encode(b"[" * 5000).decode() + ".x.y",
    ],
)
def test_what_is_no_token_is_401(guarded: Guarded, token: str) -> None:
    answer = guarded.api.get("/jobs", headers=[(b"authorization", token.encode("latin-1"))])
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("claims", [[], "text", 5, None])
def test_claims_that_are_no_object_are_401(guarded: Guarded, claims: object) -> None:
    refused(guarded.call(signed(claims)), "claims")


# --- scopes -----------------------------------------------------------------------------------------------------------


def test_one_of_the_routes_scopes_is_enough(guarded: Guarded) -> None:
    for held in ("api/read other", "api/write"):
        answer = guarded.call(signed(claims_of(guarded, scope=held)), "/scoped")
        assert answer.json()["requestContext"]["authorizer"]["jwt"]["scopes"] == held.split()


def test_a_valid_token_without_the_scope_is_403(guarded: Guarded) -> None:
    answer = guarded.call(guarded.pool.access_token, "/scoped")
    assert (answer.status_code, answer.json()) == (403, {"message": "Forbidden"})
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


# --- the pool ---------------------------------------------------------------------------------------------------------


def test_a_deleted_pools_tokens_are_401(workshop: Workshop) -> None:
    pool = make_pool(workshop)
    api = workshop.api().stage()
    authorizer = api.control.create_authorizer(
        ApiId=api.id,
        AuthorizerType="JWT",
        Name="jwt",
        IdentitySource=["$request.header.Authorization"],
        JwtConfiguration={"Issuer": pool.issuer, "Audience": [pool.client]},
    )["AuthorizerId"]
    api.route("GET /", api.integration(workshop.cloud.function()), AuthorizationType="JWT", AuthorizerId=authorizer)
    headers = {"authorization": pool.access_token}
    assert api.get("/", headers=headers).status_code == 200
    workshop.cloud.client("cognito-idp").delete_user_pool(UserPoolId=pool.id)
    assert api.get("/", headers=headers).status_code == 401


def test_a_token_in_the_query_string_counts_where_it_is_configured(workshop: Workshop, guarded: Guarded) -> None:
    api = workshop.api().stage()
    authorizer = api.control.create_authorizer(
        ApiId=api.id,
        AuthorizerType="JWT",
        Name="jwt",
        IdentitySource=["$request.querystring.token"],
        JwtConfiguration={"Issuer": guarded.pool.issuer, "Audience": [guarded.pool.client]},
    )["AuthorizerId"]
    api.route("GET /", api.integration(workshop.cloud.function()), AuthorizationType="JWT", AuthorizerId=authorizer)
    assert api.get(f"/?token={guarded.pool.access_token}").status_code == 200
    assert api.get("/", headers={"authorization": guarded.pool.access_token}).status_code == 401
