"""The ledger's store: SSM Parameter Store.

Not a resource kind: parameters are where the ids of resources are kept, and where the lock of an env is.

SSM accepts about three writes a second and throttles the rest, so at most three are made at once, and throttled ones
are retried for long. A create whose answer got lost is retried by the SDK and then answered with "exists already", so
`create` returns False for our own first write: the ledger then overwrites with the same value, the lock recognises its
own text, a secret is read back. The version that an overwrite returns shows the lock whether another process wrote in
between, so `overwrite` accounts for its own retries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, error_code
from aistratus.core.ledger import Parameter
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import tag_list
from aistratus.retries import THROTTLED

WRITES_AT_ONCE = 3
"""PutParameter's default rate is three a second. Source: AWS General Reference, Systems Manager quotas."""

BATCH = 10
"""Names that GetParameters and DeleteParameters take in one call. Source: SSM API reference."""

LONGEST_VALUE = 4096
"""Bytes of a standard parameter; larger ones cost money. Source: SSM user guide, "Managing parameter tiers"."""

WRITE_ACCEPTED = Wait(
    what="SSM accepts the write", within=180, codes=THROTTLED | {"TooManyUpdates"}, first=1.0, longest=10.0
)
"""After the SDK's own ten tries: a crowded account's writes share one rate. Source: SSM API reference, PutParameter."""


class SsmStore:
    """Parameters of one env (a `core.ledger.Store`); safe to use from many threads."""

    def __init__(self, aws: Cloud) -> None:
        self._aws = aws
        self._writing = threading.BoundedSemaphore(WRITES_AT_ONCE)

    def get(self, names: Iterable[str]) -> Mapping[str, Parameter]:
        """The parameters that exist among `names`, secrets decrypted."""
        found = self._in_batches(names, lambda batch: self._aws.ssm.get_parameters(Names=batch, WithDecryption=True))
        return {
            parameter["Name"]: Parameter(parameter["Value"], parameter["Version"])
            for answer in found
            for parameter in answer["Parameters"]
        }

    def create(self, name: str, value: str, *, key: str, secret: bool = False) -> bool:
        """Creates a parameter tagged as ours with `key`; False if the name exists already.

        Raises:
            Failure: the value is too long.
        """
        try:
            self._put(
                name,
                value,
                Type="SecureString" if secret else "String",
                Tier="Standard",
                Tags=tag_list(self._aws.tags(key)),
            )
        except ClientError as error:
            if error_code(error) != "ParameterAlreadyExists":
                raise
            return False
        return True

    def overwrite(self, name: str, value: str) -> int:
        """Replaces an existing parameter's value; gives the new version.

        Raises:
            Failure: the value is too long.
        """
        answer = self._put(name, value, Overwrite=True)
        version: int = answer["Version"]
        # If the SDK asked more than once, an earlier try may have been carried out and its answer lost. What counts is
        # the version that our value got first: a later one would look as if somebody else had written in between.
        for _ in range(answer["ResponseMetadata"].get("RetryAttempts", 0)):
            if self._value_of(name, version - 1) != value:
                break
            version -= 1
        return version

    def delete(self, names: Iterable[str]) -> None:
        """Deletes the parameters; what is gone already is fine."""
        self._in_batches(names, lambda batch: self._write(self._aws.ssm.delete_parameters, Names=batch))

    def below(self, prefix: str) -> list[str]:
        """All names under `prefix`."""
        pages = self._aws.ssm.get_paginator("get_parameters_by_path").paginate(
            Path=prefix, Recursive=True, WithDecryption=False
        )
        return [parameter["Name"] for page in pages for parameter in page["Parameters"]]

    # --- calls ------------------------------------------------------------------------------------------

    def _put(self, name: str, value: str, **params: Any) -> Any:
        if (size := len(value.encode())) > LONGEST_VALUE:
            raise Failure(f"the value of parameter {name} has {size} bytes, SSM takes {LONGEST_VALUE}")
        return self._write(self._aws.ssm.put_parameter, Name=name, Value=value, **params)

    def _write(self, call: Callable[..., Any], **params: Any) -> Any:
        with self._writing:
            return settle(WRITE_ACCEPTED, call, clock=self._aws.clock, **params)

    def _value_of(self, name: str, version: int) -> str | None:
        """The value that a version of the parameter had; `None` if there was no such version."""
        if version < 1:
            return None
        answer = self._aws.ssm.get_parameters(Names=[f"{name}:{version}"], WithDecryption=True)
        return next((str(parameter["Value"]) for parameter in answer["Parameters"]), None)

    def _in_batches(self, names: Iterable[str], call: Callable[[list[str]], Any]) -> list[Any]:
        """The answers of `call` for all names, ten a call, calls beside each other."""
        unique = sorted(set(names))
        batches = [unique[start : start + BATCH] for start in range(0, len(unique), BATCH)]
        if len(batches) < 2:
            return [call(batch) for batch in batches]
        with ThreadPoolExecutor(max_workers=min(len(batches), 8), thread_name_prefix="ssm") as pool:
            return list(pool.map(call, batches))
