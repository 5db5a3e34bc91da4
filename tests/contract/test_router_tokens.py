# ruff: noqa: F401, F811 (fixtures are imported by name)
"""Forged, stolen and stale tokens, against the router from its zip with keys of our own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jose import jws
from router_front import Front, failing, front_of, reset
from router_function import Function, event
from router_signer import Signer, claims_of, unsigned
from router_stack import Stack, code, moto, runtime

from aistratus import wire


@pytest.fixture(scope="module")
def pool_key() -> Signer:
    return Signer.create("pool-key")


@pytest.fixture(scope="module")
def stranger() -> Signer:
    return Signer.create("pool-key")


@pytest.fixture(scope="module")
def stack(moto: str) -> Stack:
    return Stack.create(moto)


@pytest.fixture(scope="module")
def front(moto: str, pool_key: Signer) -> Iterator[Front]:
    with front_of(moto) as made:
        made.keys = [pool_key.public_jwk]
        yield made


@pytest.fixture(scope="module")
def function(stack: Stack, front: Front, code: Path, runtime: Path) -> Iterator[Function]:
    made = Function(code, runtime, stack.variables(front.url))
    yield made
    made.close()


def read(function: Function, token: str | None) -> int:
    """401, or 404 for somebody who was let in and has no such job."""
    answer = function.job(token, "no-such-job") if token else function.invoke(event("GET /jobs/{id}", None))
    if answer.status == 401:
        assert answer.body["type"] == wire.UNAUTHORIZED
        assert answer.headers["www-authenticate"] == "Bearer"
    return answer.status


def test_a_good_token_is_let_in_with_and_without_its_scheme(function: Function, stack: Stack, pool_key: Signer) -> None:
    token = pool_key.token(claims_of(stack))
    assert read(function, token) == 404
    for header in (token, f"bearer {token}", f"  Bearer   {token} "):
        asked = event("GET /jobs/{id}", None, headers={"Authorization": header}, path={"id": "x"})
        assert function.invoke(asked).status == 404


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": int(time.time()) - 1},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": [1]},
        {"nbf": int(time.time()) + 600},
        {"nbf": "soon"},
        {"iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_other"},
        {"iss": None},
        {"client_id": "other"},
        {"client_id": None, "aud": "other"},
        {"token_use": "id"},
        {"token_use": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "a b"},
        {"sub": "x" * 129},
    ],
)
def test_claims_that_are_not_ours_are_refused(
    function: Function, stack: Stack, pool_key: Signer, changed: dict[str, Any]
) -> None:
    assert read(function, pool_key.token(claims_of(stack, **changed))) == 401


def test_an_id_token_opens_nothing(function: Function, stack: Stack, pool_key: Signer) -> None:
    claims = claims_of(stack, token_use="id", client_id=None, aud=stack.client_id)
    assert read(function, pool_key.token(claims)) == 401


def test_another_key_under_the_same_name_is_refused(function: Function, stack: Stack, stranger: Signer) -> None:
    assert read(function, stranger.token(claims_of(stack))) == 401


def test_no_algorithm_and_other_algorithms_are_refused(function: Function, stack: Stack, pool_key: Signer) -> None:
    claims = claims_of(stack)
    for algorithm in ("none", "None", "NONE", "", "HS256", "RS384", "ES256", None, ["RS256"], {"RS256": 1}, 5):
        assert read(function, unsigned({"alg": algorithm, "kid": "pool-key"}, claims)) == 401
    assert read(function, unsigned({"kid": "pool-key"}, claims)) == 401
    assert read(function, pool_key.token(claims, algorithm="RS512")) == 401


def test_the_public_key_as_a_shared_secret_is_refused(function: Function, stack: Stack, pool_key: Signer) -> None:
    numbers = json.dumps(pool_key.public_jwk)
    for secret in (numbers, pool_key.public_jwk["n"]):
        forged = jws.sign(claims_of(stack), secret, headers={"kid": "pool-key"}, algorithm="HS256")
        assert read(function, forged) == 401
        assert read(function, forged.replace(forged.split(".")[0], pool_key.token({}).split(".")[0], 1)) == 401


@pytest.mark.parametrize(
    "kid",
    ["../../dev/null", "", "' OR 1=1", "http://example.com/key", "pool-key\0", "POOL-KEY", None, 5, ["pool-key"], {}],
)
def test_tricks_with_the_keys_name_are_refused(function: Function, stack: Stack, pool_key: Signer, kid: Any) -> None:
    assert read(function, pool_key.token(claims_of(stack), kid=kid)) == 401


def test_a_key_brought_along_in_the_header_is_ignored(function: Function, stack: Stack, stranger: Signer) -> None:
    for extra in ({"jwk": stranger.public_jwk}, {"jku": "http://127.0.0.1:1/keys"}, {"x5u": "http://127.0.0.1:1"}):
        assert read(function, stranger.token(claims_of(stack), **extra)) == 401


def test_extensions_that_are_not_understood_are_refused(function: Function, stack: Stack, pool_key: Signer) -> None:
    assert read(function, pool_key.token(claims_of(stack), crit=["exp"], exp=1)) == 401


def test_a_changed_body_or_signature_is_refused(function: Function, stack: Stack, pool_key: Signer) -> None:
    header, _payload, signature = pool_key.token(claims_of(stack)).split(".")
    other = pool_key.token(claims_of(stack, sub="mallory")).split(".")
    assert read(function, f"{header}.{other[1]}.{signature}") == 401
    assert read(function, f"{header}.{other[1]}.{other[2][:-6]}AAAAAA") == 401


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "e30.e30.e30",
        "W10.W10.W10",
        "bnVsbA.bnVsbA.bnVsbA",
        "💥.💥.💥",
        "Bearer Bearer x",
        "x" * 9000,
        ".".join(["A" * 2700] * 3),
        "W1tb" * 600 + ".e30.e30",
    ],
)
def test_what_is_no_token_is_refused(function: Function, token: str) -> None:
    assert read(function, token) == 401


def test_no_token_is_refused(function: Function) -> None:
    assert read(function, None) == 401
    for header in ("", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz"):
        assert function.invoke(event("POST /infer", None, headers={"authorization": header})).status == 401


def test_claims_of_the_event_are_never_believed(function: Function, stack: Stack, stranger: Signer) -> None:
    forged = event("GET /jobs/{id}", stranger.token(claims_of(stack)), path={"id": "x"})
    forged["requestContext"]["authorizer"] = {"jwt": {"claims": claims_of(stack)}}
    assert function.invoke(forged).status == 401


def test_keys_are_fetched_once_and_again_only_for_an_unknown_name(
    moto: str, stack: Stack, code: Path, runtime: Path, pool_key: Signer
) -> None:
    with front_of(moto) as front:
        front.keys = [pool_key.public_jwk]
        function = Function(code, runtime, stack.variables(front.url))
        good = pool_key.token(claims_of(stack))
        assert [read(function, good) for _ in range(3)] == [404, 404, 404]
        assert front.key_requests == 1
        unknown = [pool_key.token(claims_of(stack), kid=f"invented-{n}") for n in range(20)]
        assert {read(function, token) for token in unknown} == {401}
        assert front.key_requests == 1, "invented names must not drive requests to the pool"
        assert read(function, good) == 404
        function.close()


def test_keys_of_a_pool_that_was_not_there_yet_are_found_later(
    moto: str, stack: Stack, code: Path, runtime: Path, pool_key: Signer
) -> None:
    with front_of(moto) as front:
        front.keys = [pool_key.public_jwk]
        front.break_next(f"/{stack.pool_id}/.well-known/jwks.json", failing, reset)
        front.keys, published = None, front.keys
        function = Function(code, runtime, stack.variables(front.url))
        token = pool_key.token(claims_of(stack))
        answer = function.job(token, "x")
        assert (answer.status, answer.body["type"]) == (503, wire.SERVICE_UNAVAILABLE)
        assert int(answer.headers["retry-after"]) >= 1
        front.keys = published
        # The failed look is repeated after a second, which the router counts on its own clock.
        deadline = time.monotonic() + 10
        while read_any(function, token) == 503 and time.monotonic() < deadline:
            time.sleep(0.1)  # capped by the deadline above
        assert read(function, token) == 404
        function.close()


def read_any(function: Function, token: str) -> int:
    return function.job(token, "x").status


def test_other_kinds_of_keys_in_the_pools_set_are_passed_over(
    moto: str, stack: Stack, code: Path, runtime: Path, pool_key: Signer
) -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}
    encryption = {**pool_key.public_jwk, "kid": "for-encryption", "use": "enc"}
    with front_of(moto) as front:
        front.keys = [secret, encryption, pool_key.public_jwk]
        function = Function(code, runtime, stack.variables(front.url))
        assert read(function, pool_key.token(claims_of(stack))) == 404
        assert read(function, pool_key.token(claims_of(stack), kid="for-encryption")) == 401
        assert read(function, jws.sign(claims_of(stack), "secret", headers={"kid": "shared"}, algorithm="HS256")) == 401
        function.close()
