"""Cognito in the embedded cloud: tokens that nobody else can make, and a password that is really checked."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from embedded_cloud_parts import Connect, refused, unique
from jose import jwt
from jose.exceptions import JWTError

from aistratus.client.srp import N, Proof
from aistratus.local.process import Running

PASSWORD = "Correct-horse-7"


@dataclass(frozen=True)
class Pool:
    """A pool with a client and a confirmed user in the group `operators`."""

    cognito: Any
    endpoint: str
    id: str
    client: str
    user: str

    def sign_in(self, password: str = PASSWORD) -> dict[str, Any]:
        answer = self.cognito.admin_initiate_auth(
            UserPoolId=self.id,
            ClientId=self.client,
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": self.user, "PASSWORD": password},
        )
        result: dict[str, Any] = answer["AuthenticationResult"]
        return result

    def keys(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.endpoint}/{self.id}/.well-known/jwks.json", timeout=20) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def claims(self, token: str) -> dict[str, Any]:
        issuer = f"https://cognito-idp.eu-central-1.amazonaws.com/{self.id}"
        found: dict[str, Any] = jwt.decode(
            token, self.keys(), algorithms=["RS256"], issuer=issuer, options={"verify_aud": False}
        )
        return found


@pytest.fixture
def pool(connect: Connect, embedded_cloud: Running) -> Pool:
    return make_pool(connect, embedded_cloud)


def make_pool(connect: Connect, cloud: Running, **client: Any) -> Pool:
    cognito, user = connect("cognito-idp"), f"{unique('user')}@example.org"
    pool_id = cognito.create_user_pool(PoolName=unique(), UsernameAttributes=["email"])["UserPool"]["Id"]
    wanted = {
        "AccessTokenValidity": 10,
        "TokenValidityUnits": {"AccessToken": "minutes"},
        "ExplicitAuthFlows": ["ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH"],
    }
    client_id = cognito.create_user_pool_client(UserPoolId=pool_id, ClientName="c", **{**wanted, **client})
    cognito.admin_create_user(
        UserPoolId=pool_id,
        Username=user,
        MessageAction="SUPPRESS",
        UserAttributes=[{"Name": "email", "Value": user}, {"Name": "email_verified", "Value": "true"}],
    )
    cognito.admin_set_user_password(UserPoolId=pool_id, Username=user, Password=PASSWORD, Permanent=True)
    cognito.create_group(UserPoolId=pool_id, GroupName="operators")
    cognito.admin_add_user_to_group(UserPoolId=pool_id, Username=user, GroupName="operators")
    return Pool(cognito, cloud.endpoint, pool_id, client_id["UserPoolClient"]["ClientId"], user)


def test_an_access_token_says_who_and_for_how_long(pool: Pool) -> None:
    result = pool.sign_in()
    claims = pool.claims(result["AccessToken"])
    assert (claims["client_id"], claims["token_use"]) == (pool.client, "access")
    assert claims["cognito:groups"] == ["operators"]
    assert claims["username"] == claims["sub"]
    assert "aud" not in claims
    assert (claims["exp"] - claims["iat"], result["ExpiresIn"]) == (600, 600)


def test_an_id_token_names_its_audience(pool: Pool) -> None:
    claims = pool.claims(pool.sign_in()["IdToken"])
    assert (claims["aud"], claims["token_use"], claims["email"]) == (pool.client, "id", pool.user)


def test_each_pool_signs_with_a_key_of_its_own(connect: Connect, pool: Pool, embedded_cloud: Running) -> None:
    other = make_pool(connect, embedded_cloud)
    assert pool.keys()["keys"][0]["n"] != other.keys()["keys"][0]["n"]
    with pytest.raises(JWTError):
        pool.claims(other.sign_in()["AccessToken"])


def test_no_private_part_is_published(pool: Pool) -> None:
    (key,) = pool.keys()["keys"]
    assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}


@pytest.mark.parametrize(
    ("password", "lacks"),
    [
        ("Short-1", "Password not long enough"),
        ("CORRECT-HORSE-7", "Password must have lowercase characters"),
        ("correct-horse-7", "Password must have uppercase characters"),
        ("Correct-horse-s", "Password must have numeric characters"),
        ("Correct0horse07", "Password must have symbol characters"),
    ],
)
def test_a_weak_password_is_refused_with_what_it_lacks_first(
    connect: Connect, embedded_cloud: Running, password: str, lacks: str
) -> None:
    cognito = connect("cognito-idp")
    switches = {f"Require{need}": True for need in ("Lowercase", "Uppercase", "Numbers", "Symbols")}
    policies = {"PasswordPolicy": {"MinimumLength": 12, **switches}}
    pool = cognito.create_user_pool(PoolName=unique(), Policies=policies)["UserPool"]["Id"]
    with pytest.raises(cognito.exceptions.InvalidPasswordException) as refusal:
        cognito.admin_create_user(UserPoolId=pool, Username="bob", MessageAction="SUPPRESS", TemporaryPassword=password)
    assert refusal.value.response["Error"]["Message"] == f"Password did not conform with policy: {lacks}"


def test_an_address_that_is_none_is_refused(pool: Pool) -> None:
    attributes = [{"Name": "email", "Value": "ann"}]
    with pytest.raises(pool.cognito.exceptions.InvalidParameterException, match="Invalid email address format"):
        pool.cognito.admin_create_user(UserPoolId=pool.id, Username="ann@example.org", UserAttributes=attributes)


def test_a_flow_that_the_client_does_not_allow_is_refused(pool: Pool) -> None:
    assert (
        refused(
            pool.cognito.initiate_auth,
            ClientId=pool.client,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": pool.user, "PASSWORD": PASSWORD},
        )
        == "InvalidParameterException"
    )


def sign_in_with_srp(pool: Pool, user: str, password: str) -> dict[str, Any]:
    """With the client's half, which `tests/unit/test_client_ways_in.py` holds against pycognito's figures."""
    proof = Proof()
    challenge = pool.cognito.initiate_auth(
        ClientId=pool.client, AuthFlow="USER_SRP_AUTH", AuthParameters={"USERNAME": user, "SRP_A": proof.public}
    )["ChallengeParameters"]
    answer = pool.cognito.respond_to_auth_challenge(
        ClientId=pool.client,
        ChallengeName="PASSWORD_VERIFIER",
        ChallengeResponses=proof.responses(pool.id, password, challenge, datetime(2026, 11, 21, 7, tzinfo=UTC)),
    )
    result: dict[str, Any] = answer["AuthenticationResult"]
    return result


def test_srp_lets_the_right_password_in_and_no_other(pool: Pool) -> None:
    assert pool.claims(sign_in_with_srp(pool, pool.user, PASSWORD)["AccessToken"])["client_id"] == pool.client
    assert refused(sign_in_with_srp, pool=pool, user=pool.user, password="wrong") == "NotAuthorizedException"


def test_srp_refuses_a_public_value_that_would_void_the_secret(pool: Pool) -> None:
    for value in (N, 2 * N, 0):
        assert (
            refused(
                pool.cognito.initiate_auth,
                ClientId=pool.client,
                AuthFlow="USER_SRP_AUTH",
                AuthParameters={"USERNAME": pool.user, "SRP_A": f"{value:x}"},
            )
            == "NotAuthorizedException"
        )


def test_an_unknown_user_looks_like_a_wrong_password_if_the_client_says_so(
    connect: Connect, pool: Pool, embedded_cloud: Running
) -> None:
    hiding = make_pool(connect, embedded_cloud, PreventUserExistenceErrors="ENABLED")
    ask = {"AuthFlow": "USER_SRP_AUTH", "AuthParameters": {"USERNAME": "nobody@example.org", "SRP_A": "2"}}
    assert refused(pool.cognito.initiate_auth, ClientId=pool.client, **ask) == "UserNotFoundException"
    assert refused(hiding.cognito.initiate_auth, ClientId=hiding.client, **ask) == "NotAuthorizedException"


def test_a_revoked_refresh_token_and_its_access_tokens_are_over(pool: Pool) -> None:
    result = pool.sign_in()
    refresh = {
        "ClientId": pool.client,
        "AuthFlow": "REFRESH_TOKEN_AUTH",
        "AuthParameters": {"REFRESH_TOKEN": result["RefreshToken"]},
    }
    assert pool.cognito.initiate_auth(**refresh)["AuthenticationResult"]["AccessToken"]
    assert (
        refused(pool.cognito.revoke_token, ClientId=pool.client, Token=result["AccessToken"])
        == "UnsupportedTokenTypeException"
    )
    pool.cognito.revoke_token(ClientId=pool.client, Token=result["RefreshToken"])
    assert refused(pool.cognito.initiate_auth, **refresh) == "NotAuthorizedException"
    assert refused(pool.cognito.get_user, AccessToken=result["AccessToken"]) == "NotAuthorizedException"
