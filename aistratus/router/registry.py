"""Ids of resources: from the environment, else from the ledger in SSM Parameter Store.

The router's own ids arrive as environment variables. What may change without a new function, such as the node's
instance id, is read from the ledger and cached while the Lambda environment lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from aistratus import wire
from aistratus.router.aws import Aws, AwsError
from aistratus.router.clock import Deadline

REMEMBERED: Final = 128
READ_S: Final = 2.0
"""Time limit of a read of the ledger, retries included, because a prompt waits for it."""


class Registry:
    """The ledger under `prefix`, for example `/tinyllama/dev`; `variables` take precedence."""

    def __init__(self, aws: Aws, prefix: str, variables: Mapping[str, str]) -> None:
        self._aws = aws
        self._prefix = prefix
        self._variables = variables
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._read)

    def get_id(self, key: str) -> str | None:
        """The id of the resource `key`, or None if the ledger has none, which isn't remembered: it may come.

        Raises:
            AwsError: the ledger can't be read.
        """
        try:
            return self._variables.get(wire.variable(key)) or self._remembered(key)
        except LookupError:
            return None

    def forget(self) -> None:
        """Drops the cached ids, because one turned out to be outdated."""
        self._remembered.cache_clear()

    def _read(self, key: str) -> str:
        deadline = Deadline(self._aws.clock, self._aws.clock.monotonic() + READ_S)
        try:
            found = self._aws.call("ssm", "GetParameter", {"Name": f"{self._prefix}/{key}"}, deadline)
            identity = wire.id_of(found["Parameter"]["Value"])
        except AwsError as error:
            if error.code != "ParameterNotFound":
                raise
            raise LookupError(key) from error
        if identity is None:
            raise LookupError(key)
        return identity
