"""EventBridge Scheduler: names that are given out once, and groups that must exist."""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.scheduler.exceptions import ScheduleGroupNotFound
from moto.scheduler.models import EventBridgeSchedulerBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap


class Conflict(JsonRESTError):
    """409: the code by which Scheduler refuses a second thing of one name."""

    code = 409

    def __init__(self, message: str) -> None:
        super().__init__("ConflictException", message)


def patch(cloud: Cloud) -> None:
    @wrap(EventBridgeSchedulerBackend, "create_schedule_group")
    def create_group(original: Any, backend: Any, name: str, tags: Any) -> Any:
        if name in backend.schedule_groups:
            raise Conflict(f"Schedule group {name} already exists.")
        return original(backend, name, tags or [])

    @wrap(EventBridgeSchedulerBackend, "delete_schedule_group")
    def delete_group(original: Any, backend: Any, name: str) -> Any:
        group = backend.get_schedule_group(name)
        backend.tagger.delete_all_tags_for_resource(group.arn)
        return original(backend, name)

    @wrap(EventBridgeSchedulerBackend, "create_schedule")
    def create_schedule(original: Any, backend: Any, **wanted: Any) -> Any:
        if (wanted["group_name"] or "default") not in backend.schedule_groups:
            raise ScheduleGroupNotFound(wanted["group_name"])
        return original(backend, **wanted)
