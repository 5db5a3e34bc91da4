"""`get_id`: ids of the stack's resources, for the functions besides the router.

An environment variable goes first (`TINYLLAMA_NODE_ID`, as `aistratus env export` names it), then the ledger in SSM
Parameter Store under LEDGER_PREFIX. What was read is remembered for as long as the Lambda environment lives. A
function's role needs `ssm:GetParameter` on just the entries that it asks for: the ledger also holds a password,
encrypted, and nothing here would decrypt it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, Final

from aistratus import wire

REMEMBERED: Final = 128


class _Absent(Exception):
    """The ledger has no such id."""


def get_id(key: str) -> str | None:
    """The id of the resource `key`, or None if the ledger has none, which isn't remembered: it may come.

    Raises:
        ClientError: the ledger can't be read.
    """
    try:
        return os.environ.get(wire.variable(key)) or _remembered(key)
    except _Absent:
        return None


def forget() -> None:
    """Reads everything anew: an id turned out to be of something that is gone."""
    _remembered.cache_clear()


@lru_cache(maxsize=REMEMBERED)
def _remembered(key: str) -> str:
    from botocore.exceptions import ClientError

    try:
        found = _ssm().get_parameter(Name=f"{os.environ['LEDGER_PREFIX']}/{key}")
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        raise _Absent(key) from error
    identity = wire.id_of(found["Parameter"]["Value"])
    if identity is None:
        raise _Absent(key)
    return identity


@lru_cache(maxsize=1)
def _ssm() -> Any:
    """Made by the first look into the ledger: a function whose variables say everything needs none."""
    import boto3

    return boto3.client("ssm")
