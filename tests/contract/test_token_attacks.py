# ruff: noqa: F401, F811 (fixtures are imported by name)
"""Tokens whose signature is right and whose content isn't: what only the holder of the pool's key could make.

The router runs from its zip with keys of ours. Forgeries without that key are shot at a whole stack in
`tests/faults/test_api_fire.py`.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jose import jws
from jose.utils import base64url_encode
from router_front import front_of
from router_function import Function
from router_signer import Signer, claims_of
from router_stack import Stack, code, moto, runtime
from test_router_tokens import read


@pytest.fixture(scope="module")
def pool_key() -> Signer:
    return Signer.create("pool-key")


@pytest.fixture(scope="module")
def stack(moto: str) -> Stack:
    return Stack.create(moto)


@pytest.fixture(scope="module")
def function(moto: str, stack: Stack, code: Path, runtime: Path, pool_key: Signer) -> Iterator[Function]:
    with front_of(moto) as front:
        front.keys = [pool_key.public_jwk]
        made = Function(code, runtime, stack.variables(front.url))
        yield made
        made.close()


def signed_text(key: Signer, payload: str) -> str:
    """A token over just this text, which need be no good JSON."""
    return str(jws.sign(payload.encode(), key.pem, headers={"kid": key.kid}, algorithm="RS256"))


def test_text_that_says_the_usual_is_let_in(function: Function, stack: Stack, pool_key: Signer) -> None:
    assert read(function, signed_text(pool_key, json.dumps(claims_of(stack)))) == 404


@pytest.mark.parametrize("twice", ['"sub":"admin"', '"exp":9999999999', '"iss":"other"', '"x":{"a":1,"a":2}'])
def test_a_claim_that_is_given_twice_is_refused(function: Function, stack: Stack, pool_key: Signer, twice: str) -> None:
    text = json.dumps(claims_of(stack))
    assert read(function, signed_text(pool_key, f"{text[:-1]},{twice}}}")) == 401
    assert read(function, signed_text(pool_key, f"{{{twice},{text[1:]}")) == 401


@pytest.mark.parametrize("moment", ["NaN", "Infinity", "1e999", "-1e999", "1" + "0" * 400, "9" * 5_000, "[]", "{}"])
def test_a_moment_that_never_comes_is_refused(function: Function, stack: Stack, pool_key: Signer, moment: str) -> None:
    text = json.dumps(claims_of(stack, exp=123456789)).replace("123456789", moment)
    assert read(function, signed_text(pool_key, text)) == 401


@pytest.mark.parametrize("payload", ["[]", "null", "5", '"text"', "", "{", "[" * 3_000, "\ufeff{}", "{}{}"])
def test_a_payload_that_is_no_object_is_refused(function: Function, pool_key: Signer, payload: str) -> None:
    assert read(function, signed_text(pool_key, payload)) == 401


def test_the_second_of_expiry_is_too_late_and_the_one_before_is_not(
    function: Function, stack: Stack, pool_key: Signer
) -> None:
    now = int(time.time())
    assert read(function, pool_key.token(claims_of(stack, exp=now))) == 401
    assert read(function, pool_key.token(claims_of(stack, exp=now + 60))) == 404
    assert read(function, pool_key.token(claims_of(stack, nbf=now + 60))) == 401
    assert read(function, pool_key.token(claims_of(stack, nbf=now))) == 404


def test_the_public_key_in_any_form_of_pem_is_no_shared_secret(
    function: Function, stack: Stack, pool_key: Signer
) -> None:
    public = load_pem_private_key(pool_key.pem.encode(), None).public_key()
    payload = base64url_encode(json.dumps(claims_of(stack)).encode()).decode()
    for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1):
        for encoding in (Encoding.PEM, Encoding.DER):
            secret = public.public_bytes(encoding, form)
            for algorithm in ("HS256", "RS256"):
                header = base64url_encode(json.dumps({"alg": algorithm, "kid": pool_key.kid}).encode()).decode()
                signature = base64.urlsafe_b64encode(hmac.digest(secret, f"{header}.{payload}".encode(), "sha256"))
                assert read(function, f"{header}.{payload}.{signature.rstrip(b'=').decode()}") == 401


def test_white_space_within_a_token_is_refused(function: Function, stack: Stack, pool_key: Signer) -> None:
    token = pool_key.token(claims_of(stack))
    for sign in (" ", "\t", "\n", "\r\n", "\u00a0", "\u2028", "\0"):
        assert read(function, token.replace(".", f"{sign}.", 1)) == 401
        assert read(function, token[:40] + sign + token[40:]) == 401
