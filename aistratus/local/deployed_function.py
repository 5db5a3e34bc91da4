"""The current deployment of a function, read from moto's Lambda backend.

Only this file knows how moto stores functions, versions and aliases. A deployment is a frozen value: equal ones may
share execution environments, different ones may not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Final

from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda.utils import get_backend

LATEST: Final = "$LATEST"


class FunctionNotFound(Exception):
    """No function, version or alias of that name; `arn` is what was looked for."""

    def __init__(self, arn: str) -> None:
        super().__init__(f"Function not found: {arn}")
        self.arn = arn


@dataclass(frozen=True, kw_only=True)
class DeployedFunction:
    """One version of a function. `timeout` is seconds, `memory` MiB; `arn` carries no qualifier."""

    account: str
    region: str
    name: str
    version: str
    arn: str
    handler: str
    runtime: str
    role: str
    timeout: int
    memory: int
    variables: tuple[tuple[str, str], ...]
    layers: tuple[str, ...]
    code_sha256: str
    created: str
    log_group: str
    log_format: str
    code: bytes = field(repr=False, compare=False)
    reserved_concurrency: int | None = field(compare=False)
    retry_attempts: int = field(compare=False)


def find_function(account: str, region: str, name: str, qualifier: str | None) -> DeployedFunction:
    """The version that `name` (a function's name or ARN) and `qualifier` (version, alias, None) lead to.

    An alias with weights leads to one of its two versions by chance, as on AWS.

    Raises:
        FunctionNotFound: there is none.
    """
    name, qualifier = split_name(name, qualifier)
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    backend: Any = get_backend(account, region)
    try:
        latest = backend.get_function(name)
        found = backend.get_function(name, _weighed(backend, name, qualifier))
    except (UnknownFunctionException, KeyError):
        raise FunctionNotFound(f"{arn}:{qualifier}" if qualifier else arn) from None
    return _as_deployed(account, region, arn, found, latest)


def split_name(name: str, qualifier: str | None) -> tuple[str, str | None]:
    """A name in any of Lambda's forms (name, name:qualifier, partial or full ARN) as name and qualifier."""
    rest = name.rpartition("function:")[2]
    bare, _, in_name = rest.partition(":")
    return bare, in_name or qualifier


def _weighed(backend: Any, name: str, qualifier: str | None) -> str | None:
    if qualifier is None:
        return None
    alias = {entry.name: entry for entry in backend.list_aliases(name)}.get(qualifier)
    weights: dict[str, float] = ((alias.routing_config if alias else None) or {}).get("AdditionalVersionWeights") or {}
    for version, weight in weights.items():
        if random.random() < weight:  # noqa: S311  (a share of traffic, not a secret)
            return version
    return qualifier


def _as_deployed(account: str, region: str, arn: str, found: Any, latest: Any) -> DeployedFunction:
    # moto keeps no LoggingConfig; the shim may leave the request's on the function under this name.
    logging: dict[str, str] = getattr(found, "logging_config", None) or {}
    reserved = latest.reserved_concurrency
    async_config = latest.event_invoke_config[-1].response() if latest.event_invoke_config else {}
    return DeployedFunction(
        account=account,
        region=region,
        name=found.function_name,
        version=str(found.version),
        arn=arn,
        handler=found.handler or "",
        runtime=found.run_time or "",
        role=found.role,
        timeout=int(found.timeout),
        memory=int(found.memory_size),
        variables=tuple(sorted((found.environment_vars or {}).items())),
        layers=tuple(layer["Arn"] for layer in found.layers),
        code_sha256=found.code_sha_256,
        created=found.last_modified,
        log_group=logging.get("LogGroup") or f"/aws/lambda/{found.function_name}",
        log_format=logging.get("LogFormat") or "Text",
        code=found.code_bytes if hasattr(found, "code_bytes") else b"",
        reserved_concurrency=None if reserved is None else int(reserved),
        retry_attempts=_retry_attempts(async_config),
    )


def _retry_attempts(config: dict[str, Any]) -> int:
    """How often an asynchronous invocation is tried again (Lambda's default: twice)."""
    attempts = config.get("MaximumRetryAttempts")
    return 2 if attempts is None else int(attempts)


def layer_code(account: str, region: str, arn: str) -> bytes:
    """The zip of a layer version."""
    layer: Any = get_backend(account, region).layers_versions_by_arn(arn)
    if layer is None:
        raise FunctionNotFound(arn)
    code: bytes = layer.code_bytes
    return code
