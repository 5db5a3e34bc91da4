"""Tokens that tests sign themselves, with claims and keys of their choice."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk, jws
from router_stack import REGION, Stack


@dataclass(frozen=True)
class Signer:
    """An RSA key, and tokens signed with it in good and bad ways."""

    pem: str
    kid: str

    @classmethod
    def create(cls, kid: str) -> Signer:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return cls(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode(), kid)

    @property
    def public_jwk(self) -> dict[str, Any]:
        public = jwk.construct(self.pem, "RS256").public_key().to_dict()
        public = {name: v.decode() if isinstance(v, bytes) else v for name, v in public.items()}
        return {**public, "kid": self.kid, "use": "sig"}

    def token(self, claims: Mapping[str, Any], algorithm: str = "RS256", **header: Any) -> str:
        return str(jws.sign(dict(claims), self.pem, headers={"kid": self.kid, **header}, algorithm=algorithm))


def claims_of(stack: Stack, **changed: Any) -> dict[str, Any]:
    """Claims of a good access token; None removes one."""
    now = int(time.time())
    claims = {
        "iss": f"https://cognito-idp.{REGION}.amazonaws.com/{stack.pool_id}",
        "sub": "3f1c-user",
        "client_id": stack.client_id,
        "token_use": "access",
        "iat": now,
        "exp": now + 600,
    } | changed
    return {name: value for name, value in claims.items() if value is not None}


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes = b"x") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
