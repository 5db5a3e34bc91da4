"""Two ways to call AWS that every kind needs: with "not there" as an answer, and several calls at once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aistratus.core.errors import error_code


def unless_gone(absent: Collection[str], call: Callable[..., Any], /, **params: Any) -> Any:
    """What `call(**params)` answers, or `None` if it fails with one of the codes that mean "not there"."""
    try:
        return call(**params)
    except Exception as error:
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
