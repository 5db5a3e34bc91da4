"""The server's half of Cognito's SRP: the password is proved without being sent, and a wrong one is refused.

moto answers any signature with tokens. The exchange is SRP-6a over the 3072-bit group of RFC 5054 with SHA-256;
Cognito's own parts are the identity (pool name + user id + ":"), HKDF with the info "Caldera Derived Key", and a
signature over pool name, user id, secret block and timestamp. Clients such as pycognito and amplify implement it.
Group and hashes are our client's, which `tests/unit/test_client_ways_in.py` holds against pycognito's figures.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from moto.cognitoidp.exceptions import InvalidParameterException, NotAuthorizedError
from moto.cognitoidp.models import AuthFlow, CognitoIdpBackend

from aistratus.client.srp import G, N, hashed, padded, signing_key
from aistratus.local.shim.patching import wrap


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One sign-in between its challenge and the answer to it. Numbers are SRP's own letters."""

    pool_name: str
    user_id: str
    big_a: int
    b: int
    big_b: int
    verifier: int


def patch() -> None:
    exchanges: dict[str, Exchange] = {}
    _challenge(exchanges)
    _answer(exchanges)


def begin(pool_name: str, user_id: str, password: str, salt: int, big_a: int) -> Exchange:
    """Answers a client's A with a B. The verifier is made from the password, which moto keeps in the clear."""
    identity = hashlib.sha256(f"{pool_name}{user_id}:{password}".encode()).digest()
    verifier = pow(G, hashed(padded(salt), identity), N)
    b = secrets.randbelow(N - 1) + 1
    multiplier = hashed(padded(N), padded(G))
    big_b = (multiplier * verifier + pow(G, b, N)) % N
    return Exchange(pool_name=pool_name, user_id=user_id, big_a=big_a, b=b, big_b=big_b, verifier=verifier)


def signature(exchange: Exchange, secret_block: bytes, timestamp: str) -> str:
    """What a client that knows the password sends as PASSWORD_CLAIM_SIGNATURE."""
    scramble = hashed(padded(exchange.big_a), padded(exchange.big_b))
    shared = pow(exchange.big_a * pow(exchange.verifier, scramble, N), exchange.b, N)
    key = signing_key(scramble, shared)
    message = exchange.pool_name.encode() + exchange.user_id.encode() + secret_block + timestamp.encode()
    return base64.b64encode(hmac.digest(key, message, "sha256")).decode()


def _challenge(exchanges: dict[str, Exchange]) -> None:
    @wrap(CognitoIdpBackend, "initiate_auth")
    def initiate_auth(
        original: Any, backend: CognitoIdpBackend, client_id: str, auth_flow: str, auth_parameters: dict[str, str]
    ) -> Any:
        answer = original(backend, client_id, auth_flow, auth_parameters)
        if auth_flow != AuthFlow.USER_SRP_AUTH.value:
            return answer
        try:
            big_a = int(auth_parameters["SRP_A"], 16)
        except ValueError:
            raise InvalidParameterException("Invalid SRP_A") from None
        if big_a % N == 0:
            raise NotAuthorizedError("Incorrect username or password.")  # would make the shared secret zero
        parameters = answer["ChallengeParameters"]
        _, pool = backend.sessions.pop(parameters["SECRET_BLOCK"])
        user = backend.admin_get_user(pool.id, parameters["USERNAME"])
        salt = secrets.randbits(128)
        exchange = begin(pool.id.split("_", 1)[1], user.username, user.password or secrets.token_hex(), salt, big_a)
        block = base64.b64encode(secrets.token_bytes(256)).decode()
        exchanges[block] = exchange
        backend.sessions[block] = (parameters["USERNAME"], pool)
        parameters |= {
            "SALT": f"{salt:x}",
            "SRP_B": f"{exchange.big_b:x}",
            "SECRET_BLOCK": block,
            "USER_ID_FOR_SRP": user.username,
            "USERNAME": user.username,
        }
        answer["Session"] = block
        return answer


def _answer(exchanges: dict[str, Exchange]) -> None:
    @wrap(CognitoIdpBackend, "respond_to_auth_challenge")
    def respond(
        original: Any,
        backend: CognitoIdpBackend,
        session: str,
        client_id: str,
        challenge_name: str,
        challenge_responses: dict[str, str],
    ) -> Any:
        if challenge_name == "PASSWORD_VERIFIER":
            block = challenge_responses.get("PASSWORD_CLAIM_SECRET_BLOCK", "")
            exchange = exchanges.pop(block, None)  # a challenge is answered once, rightly or not
            if exchange is None:
                raise NotAuthorizedError("Invalid session for the user.")
            expected = signature(exchange, base64.b64decode(block), challenge_responses.get("TIMESTAMP", ""))
            given = challenge_responses.get("PASSWORD_CLAIM_SIGNATURE", "")
            if not hmac.compare_digest(expected, given):
                backend.sessions.pop(block, None)
                raise NotAuthorizedError("Incorrect username or password.")
        return original(backend, session, client_id, challenge_name, challenge_responses)
