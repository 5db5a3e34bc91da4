"""EventBridge and its Scheduler: expressions, refusals inside a good answer, new roles, groups on their way out."""

from __future__ import annotations

import json
from typing import Any, Final

from moto.core.exceptions import JsonRESTError
from moto.events.exceptions import ValidationException
from moto.events.models import EventsBackend
from moto.events.responses import EventsHandler
from moto.iam.models import IAMBackend
from moto.scheduler.models import EventBridgeSchedulerBackend

from aistratus.local.schedule_expression import parse
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.shim.scheduler import Conflict
from aistratus.local.strict.rule import Book, Delays, Rule

_RULES: Final = "https://docs.aws.amazon.com/eventbridge/latest/APIReference"
_SCHEDULES: Final = "https://docs.aws.amazon.com/scheduler/latest/APIReference"

book = Book()


@book.rule(
    "schedule-expression",
    code="ValidationException",
    source="https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html",
)
def schedule_expression(cloud: Cloud, delays: Delays) -> None:
    """Singular and plural, six fields, one kind of day."""

    @wrap(EventsBackend, "put_rule")
    def put_rule(original: Any, backend: Any, name: str, **wanted: Any) -> Any:
        if wanted.get("scheduled_expression"):
            try:
                parse(wanted["scheduled_expression"])
            except ValueError as error:
                raise ValidationException("Parameter ScheduleExpression is not valid.") from error
        return original(backend, name, **wanted)

    for operation in ("create_schedule", "update_schedule"):

        @wrap(EventBridgeSchedulerBackend, operation)
        def schedule(original: Any, backend: Any, **wanted: Any) -> Any:
            expression, timezone = wanted["schedule_expression"], wanted["schedule_expression_timezone"] or "UTC"
            try:
                parse(expression, timezone, one_time=True)
            except (ValueError, KeyError, OSError) as error:
                raise JsonRESTError("ValidationException", f"Invalid Schedule Expression {expression}.") from error
            return original(backend, **wanted)


@book.rule("targets-refused", source=f"{_RULES}/API_PutTargets.html", asked="calls")
def targets_refused(cloud: Cloud, delays: Delays) -> None:
    """The first n calls on each rule's targets are answered with 200, and not carried out."""
    for operation in ("put_targets", "remove_targets"):

        @wrap(EventsHandler, operation)
        def change(original: Any, self: Any) -> Any:
            rule = self._get_param("Rule")
            self.events_backend.describe_rule(rule, self._get_param("EventBusName"))
            if not delays.meets("targets-refused", rule):
                return original(self)
            ids = self._get_param("Ids") or [target["Id"] for target in self._get_param("Targets")]
            entry = {"ErrorCode": "ConcurrentModificationException", "ErrorMessage": "Too many requests were made."}
            failed = [{"TargetId": identity, **entry} for identity in ids]
            return json.dumps({"FailedEntryCount": len(failed), "FailedEntries": failed}), self.response_headers


@book.rule(
    "scheduler-role-not-assumable",
    code="ValidationException",
    asked="calls",
    source="https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency",
)
def scheduler_role_not_assumable(cloud: Cloud, delays: Delays) -> None:
    """A new role is unknown to Scheduler for a while."""
    name = "scheduler-role-not-assumable"

    @wrap(IAMBackend, "create_role")
    def create_role(original: Any, backend: Any, role_name: str, *args: Any, **wanted: Any) -> Any:
        role = original(backend, role_name, *args, **wanted)
        delays.born(name, role_name)
        return role

    for operation in ("create_schedule", "update_schedule"):

        @wrap(EventBridgeSchedulerBackend, operation)
        def schedule(original: Any, backend: Any, **wanted: Any) -> Any:
            if delays.take(name, wanted["target"]["RoleArn"].rpartition("/")[2]):
                raise JsonRESTError(
                    "ValidationException",
                    "The execution role you provide must allow AWS EventBridge Scheduler to assume the role.",
                )
            return original(backend, **wanted)


@book.rule(
    "schedule-group-lingers",
    code="ConflictException",
    source=f"{_SCHEDULES}/API_DeleteScheduleGroup.html",
    asked="calls",
)
def schedule_group_lingers(cloud: Cloud, delays: Delays) -> None:
    """A deleted group is `DELETING` for n looks at it, and its name isn't free until then."""
    name = "schedule-group-lingers"
    fading: dict[tuple[str, str], Any] = {}

    @wrap(EventBridgeSchedulerBackend, "delete_schedule_group")
    def delete(original: Any, backend: Any, group_name: str) -> Any:
        group = backend.get_schedule_group(group_name)
        answer = original(backend, group_name)
        delays.born(name, group.arn)
        fading[backend.region_name, group_name] = group
        return answer

    @wrap(EventBridgeSchedulerBackend, "create_schedule_group")
    def create(original: Any, backend: Any, group_name: str = "", tags: Any = None, **named: Any) -> Any:
        wanted = group_name or named["name"]
        group = fading.get((backend.region_name, wanted))
        if group is not None and group.arn in delays.waiting(name):
            raise Conflict(f"Schedule group {wanted} is being deleted.")
        return original(backend, wanted, tags)

    @wrap(EventBridgeSchedulerBackend, "get_schedule_group")
    def get(original: Any, backend: Any, group_name: str | None) -> Any:
        group = fading.get((backend.region_name, group_name or ""))
        if group is not None and group_name not in backend.schedule_groups and delays.take(name, group.arn):
            return _Deleting(group)
        return original(backend, group_name)


class _Deleting:
    """A group on its way out, as GetScheduleGroup shows it."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self.schedules: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def to_dict(self) -> dict[str, Any]:
        return {**self._group.to_dict(), "State": "DELETING"}


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
