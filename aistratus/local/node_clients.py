"""boto3 clients of the embedded cloud for its nodes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Any, Final

_MAKING_CLIENTS: Final = threading.Lock()
"""A session makes one client at a time (boto3's rule)."""


def make_client(service: str, *, region: str, endpoint: str, credentials: Mapping[str, str]) -> Any:
    """A client as the instance's role would have it. Proxies are ignored: the endpoint is on this machine."""
    from botocore.config import Config

    with _MAKING_CLIENTS:
        return _session().client(
            service,
            region_name=region,
            aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=endpoint,
            config=Config(proxies={}),
        )


@functools.cache
def _session() -> Any:
    """One for all nodes and all their attempts: each session reads 3 MB of JSON before its first client."""
    import boto3

    return boto3.Session()
