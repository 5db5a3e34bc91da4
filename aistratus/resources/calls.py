"""Helpers for AWS calls that many kinds need: "not found" as a result, parallel calls, regional services, tag lists."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from aistratus.core.errors import error_code


def unless_gone(absent: Collection[str], call: Callable[..., Any], /, **params: Any) -> Any:
    """What `call(**params)` answers, or `None` if it fails with one of the codes that mean "not there"."""
    try:
        return call(**params)
    except ClientError as error:
        if error_code(error) not in absent:
            raise
        return None


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """The answers of several calls that don't need each other, in one wave of latency.

    Raises:
        the first call's error, when all have ended.
    """
    with ThreadPoolExecutor(max_workers=len(calls), thread_name_prefix="read") as pool:
        futures = [pool.submit(call) for call in calls]
    return [future.result() for future in futures]


def offered(client: Any, *also_known_as: str) -> bool:
    """Does AWS have the client's service in the client's region? Not all services are everywhere.

    Where it hasn't, the address has no name, and every call would end in a failure after a minute of repetitions. The
    SDK's own list outweighs a name that can't be looked up just now, but lags behind, so it isn't asked first.

    Args:
        also_known_as: names under which the SDK lists the service besides its own.
    """
    address = urlsplit(client.meta.endpoint_url)
    try:
        socket.getaddrinfo(address.hostname, address.port or 443)
    except OSError:
        import boto3

        session, service = boto3.session.Session(), client.meta.service_model.service_name
        listed = (session.get_available_regions(name) for name in (service, *also_known_as))
        return any(client.meta.region_name in regions for regions in listed)
    return True


def tag_list(tags: Mapping[str, str], *, names: tuple[str, str] = ("Key", "Value")) -> list[dict[str, str]]:
    """Tags as most services take them.

    Args:
        names: what the service calls a pair's two halves.
    """
    key, value = names
    return [{key: name, value: text} for name, text in tags.items()]


def tag_mapping(
    pairs: Iterable[Mapping[str, str]] | None, *, names: tuple[str, str] = ("Key", "Value")
) -> dict[str, str]:
    """Tags as most services give them; none at all where the answer has no list. A tag may lack its value."""
    key, value = names
    return {pair[key]: pair.get(value, "") for pair in pairs or ()}
