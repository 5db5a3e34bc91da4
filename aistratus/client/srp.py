"""The client's half of Cognito's SRP: proves a password without sending it.

SRP-6a over the 3072-bit group of RFC 5054 with SHA-256. Cognito's own parts are the identity (the pool's name, the
user's id, ":" and the password), HKDF with the info "Caldera Derived Key", and a signature over pool name, user id,
secret block and timestamp. Implemented here, because the usual library (pycognito) brings a second HTTP client,
a second JWT library and AWS credential handling; `tests/unit/test_client_ways_in.py` compares the results with that
library's. The embedded cloud's half shares the group and the hashes, which must be identical on both sides.
Source: https://www.rfc-editor.org/rfc/rfc5054, and https://github.com/NabuCasa/pycognito, `aws_srp.py`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

N: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05"
    "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB"
    "9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718"
    "3995497CEA956AE515D2261898FA051015728E5A8AAAC42DAD33170D04507A33"
    "A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7"
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864"
    "D87602733EC86A64521F2B18177B200CBBE117577A615D6C770988C0BAD946E2"
    "08E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
    16,
)
"""The prime of the 3072-bit group, RFC 5054 appendix A."""
G: Final = 2
INFO: Final = b"Caldera Derived Key"

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""English in any locale: Cognito compares the text."""


class Cheating(ValueError):
    """The server sent a number that would disclose the secret."""


@dataclass(frozen=True)
class Proof:
    """One attempt to prove one password; its secret number is used once."""

    secret: int = field(default_factory=lambda: secrets.randbelow(N - 1) + 1, repr=False)

    @property
    def public(self) -> str:
        """The client's public number (`SRP_A`), in hex."""
        return f"{pow(G, self.secret, N):x}"

    def responses(self, pool: str, password: str, challenge: Mapping[str, str], at: datetime) -> dict[str, str]:
        """The answer to Cognito's `PASSWORD_VERIFIER`.

        Args:
            pool: id of the user pool.
            at: now, in UTC.

        Raises:
            Cheating: Cognito's number is zero modulo N, which no honest server sends (RFC 5054, 2.5.4).
        """
        user, block, timestamp = challenge["USER_ID_FOR_SRP"], challenge["SECRET_BLOCK"], told(at)
        name = pool.split("_", 1)[1]
        key = self._key(f"{name}{user}:{password}", int(challenge["SRP_B"], 16), int(challenge["SALT"], 16))
        message = name.encode() + user.encode() + base64.b64decode(block) + timestamp.encode()
        return {
            "USERNAME": user,
            "PASSWORD_CLAIM_SECRET_BLOCK": block,
            "TIMESTAMP": timestamp,
            "PASSWORD_CLAIM_SIGNATURE": base64.b64encode(hmac.digest(key, message, "sha256")).decode(),
        }

    def _key(self, identity: str, big_b: int, salt: int) -> bytes:
        big_a = int(self.public, 16)
        scramble = hashed(padded(big_a), padded(big_b))
        if big_b % N == 0 or scramble == 0:
            raise Cheating("SRP_B is no proof of anything")
        x = hashed(padded(salt), hashlib.sha256(identity.encode()).digest())
        multiplier = hashed(padded(N), padded(G))
        shared = pow(big_b - multiplier * pow(G, x, N), self.secret + scramble * x, N)
        return signing_key(scramble, shared)


def padded(number: int) -> bytes:
    """A number as Cognito hashes it: whole bytes, with a leading zero byte where it would read as negative."""
    text = f"{number:x}"
    text = "0" + text if len(text) % 2 else text
    return bytes.fromhex("00" + text if text[0] in "89abcdef" else text)


def told(at: datetime) -> str:
    """`Thu Nov 6 07:05:09 UTC 2026`, the day without a zero in front, the hour with one."""
    return f"{DAYS[at.weekday()]} {MONTHS[at.month - 1]} {at.day} {at:%H:%M:%S} UTC {at.year}"


def signing_key(scramble: int, shared: int) -> bytes:
    """The signing key: HKDF over the shared secret, 16 bytes."""
    extracted = hmac.digest(padded(scramble), padded(shared), "sha256")
    return hmac.digest(extracted, INFO + b"\x01", "sha256")[:16]


def hashed(*parts: bytes) -> int:
    """SHA-256 over all parts, as a number."""
    return int.from_bytes(hashlib.sha256(b"".join(parts)).digest(), "big")
