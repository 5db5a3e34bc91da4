"""CloudWatch Logs: metric filters belong to a log group, and there is one of a name.

moto makes a second filter where AWS replaces the first, takes filters for groups that don't exist, and keeps them when
their group goes. That it draws no metrics from them stays as it is.
"""

from __future__ import annotations

from typing import Any

from moto.logs.exceptions import ResourceNotFoundException
from moto.logs.models import LogsBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap


def patch(cloud: Cloud) -> None:
    @wrap(LogsBackend, "put_metric_filter")
    def put_metric_filter(
        original: Any, backend: LogsBackend, filter_name: str, pattern: str, group: str, *args: Any
    ) -> None:
        _require(backend, group)
        _drop(backend, group, filter_name)
        original(backend, filter_name, pattern, group, *args)

    @wrap(LogsBackend, "describe_metric_filters")
    def describe_metric_filters(
        original: Any, backend: LogsBackend, prefix: str | None = None, group: str | None = None, *args: Any
    ) -> Any:
        if group is not None:
            _require(backend, group)
        return original(backend, prefix, group, *args)

    @wrap(LogsBackend, "delete_metric_filter")
    def delete_metric_filter(original: Any, backend: LogsBackend, filter_name: str, group: str) -> None:
        _require(backend, group)
        if not _drop(backend, group, filter_name):
            raise ResourceNotFoundException("The specified metric filter does not exist.")

    @wrap(LogsBackend, "delete_log_group")
    def delete_log_group(original: Any, backend: LogsBackend, log_group_name: str) -> None:
        original(backend, log_group_name)
        _drop(backend, log_group_name)


def _require(backend: LogsBackend, group: str) -> None:
    if group not in backend.groups:
        raise ResourceNotFoundException()


def _drop(backend: LogsBackend, group: str, name: str | None = None) -> int:
    """Takes away the filters of a group, or the one of this name; gives back how many there were."""
    held = backend.filters.metric_filters
    kept = [one for one in held if one["logGroupName"] != group or name not in (None, one["filterName"])]
    backend.filters.metric_filters = kept
    return len(held) - len(kept)
