"""STS: whose temporary credentials an access key's id belongs to."""

from __future__ import annotations

from typing import Any

from moto.sts.models import sts_backends


def role_of(key: str) -> str | None:
    """The ARN of the role that was assumed under this access key's id, or `None`."""
    backend: Any
    for account in list(sts_backends.values()):
        for backend in list(account.values()):
            assumed = backend.get_assumed_role_from_access_key(key)
            if assumed is not None:
                arn: str = assumed.role_arn
                return arn
    return None
