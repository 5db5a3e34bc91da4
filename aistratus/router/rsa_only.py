"""python-jose, loaded for RS256 and nothing else.

Lambda compiles a package's code in each new environment, because bytecode can't be stored there, so every imported
module delays the first caller. python-jose imports `ecdsa` for elliptic curves and `pyasn1` for PEM files: most of its
import time (78 ms against 13 ms, from source) for code that a Cognito token never reaches. Without `cryptography`, as
in the function's zip, empty modules replace these two, and neither ships. RSA itself, and all parsing of tokens, is
python-jose's and rsa's own code.

With `cryptography` installed nothing is replaced: python-jose then uses that and imports neither.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

from aistratus.router.problems import Unsupported

ALGORITHM: Final = "RS256"
"""What Cognito signs with. Anything else, `none` and HS256 with the public key above all, is a forgery."""

_STAND_INS: Final[dict[str, tuple[str, ...]]] = {
    "ecdsa": (),
    "ecdsa.ecdsa": ("int_to_string",),
    "jose.backends.ecdsa_backend": ("ECDSAECKey",),
    "jose.backends._asn1": (
        "rsa_private_key_pkcs1_to_pkcs8",
        "rsa_private_key_pkcs8_to_pkcs1",
        "rsa_public_key_pkcs1_to_pkcs8",
    ),
}
"""What python-jose imports by name on its way to RSA and doesn't call for a public key in JWK form."""


_NATIVE_BACKEND: Final = "jose.backends.cryptography_backend"


class TokenError(Exception):
    """The token can't be read, or its signature is wrong."""


def header_of(token: str) -> Mapping[str, Any]:
    """The header of a token, which nobody has vouched for yet.

    Raises:
        TokenError: it is none.
    """
    jose = _load()
    try:
        return dict(jose.jws.get_unverified_header(token))
    except (jose.JOSEError, ValueError, RecursionError) as error:
        raise TokenError("the header is damaged") from error


def verified_payload(token: str, key: Mapping[str, Any]) -> bytes:
    """The payload of a token that `key`, a public RSA key in JWK form, has signed with RS256.

    Raises:
        TokenError: it hasn't.
    """
    jose = _load()
    try:
        return bytes(jose.jws.verify(token, dict(key), algorithms=[ALGORITHM]))
    except (jose.JOSEError, ValueError, TypeError, RecursionError) as error:
        raise TokenError("the signature is wrong") from error


def _load() -> Any:
    """The package `jose` with its module `jws`; Python itself remembers that it was loaded."""
    if "jose.jws" not in sys.modules and find_spec("cryptography") is None:
        for name, attributes in _STAND_INS.items():
            if name not in sys.modules:
                sys.modules[name] = _stand_in(name, attributes)
        # Its import fails without `cryptography`, and is tried, and its source compiled, once for each kind of key.
        sys.modules.setdefault(_NATIVE_BACKEND, None)  # type: ignore[arg-type]  # None: "can't be imported"
    import jose
    import jose.jws

    return jose


def _stand_in(name: str, attributes: tuple[str, ...]) -> ModuleType:
    module = ModuleType(name, f"Stands in for {name}: this function verifies RS256 only.")
    for attribute in attributes:
        setattr(module, attribute, _refuse)
    return module


def _refuse(*_: object, **__: object) -> None:
    raise Unsupported("this function verifies RS256 tokens only")
