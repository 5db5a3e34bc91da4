"""The operator's SSH key for a node: made once per env on this machine, the private half never leaves it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import platformdirs

from aistratus.private import make_private

NOTE: Final = ".used"
"""How the name of a note ends that a key is used somewhere."""


def key_path(env: str, folder: Path | None = None) -> Path:
    """Where the private key of this env is kept (0600 in a 0700 folder)."""
    base = folder or platformdirs.user_data_path("aistratus")
    return base / "keys" / f"{env}.ed25519"


def taken(env: str, place: str, folder: Path | None = None) -> None:
    """Notes that the env of this name in one account and region has a node with the key.

    Args:
        place: the account and region, in a form that a file's name may have.
    """
    path = key_path(env, folder)
    if path.exists():
        _note(path, place).touch(mode=0o600)


def given_back(env: str, place: str, folder: Path | None = None) -> None:
    """Takes the pair and the pinned host keys away when nothing uses them any more.

    Envs of one name in other accounts or regions have the same pair; as long as there is one, it stays.
    """
    path = key_path(env, folder)
    _note(path, place).unlink(missing_ok=True)
    if not any(path.parent.glob(f"{env}.*{NOTE}")):
        for file in (path, path.with_suffix(".hosts")):
            file.unlink(missing_ok=True)


def _note(path: Path, place: str) -> Path:
    return path.with_suffix(f".{place}{NOTE}")


def public_key(env: str, folder: Path | None = None) -> str:
    """The public half in OpenSSH's form, after making the pair if this machine has none."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_ssh_private_key,
    )

    path = key_path(env, folder)
    make_private(path.parent)
    if not path.exists():
        made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        part = path.with_suffix(f".{os.getpid()}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(made)
        # Whoever comes second takes the first one's key.
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    private = load_ssh_private_key(path.read_bytes(), password=None)
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
