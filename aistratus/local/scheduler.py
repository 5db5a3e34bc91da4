"""Runs schedules: EventBridge rules with a schedule expression, and EventBridge Scheduler's schedules.

A thread checks moto's rules and schedules once a second and invokes the functions that are due; when a test moves the
cloud's clock it checks at once. A rate counts from the rule's creation, enabling or change of schedule. A check invokes
each function once, however often it was due since the last one, so that a laptop that slept over night isn't flooded
with outdated events.

A rule needs the function's permission; a schedule invokes under its role, which must trust Scheduler and be allowed to.
Flexible windows, start and end dates are not modelled, and targets other than functions are only logged.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aistratus.local import deliveries
from aistratus.local.schedule_expression import Next, parse

if TYPE_CHECKING:
    from aistratus.local.shim.cloud import Cloud

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
RULES: Final = "events.amazonaws.com"
SCHEDULES: Final = "scheduler.amazonaws.com"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A rule or schedule that is enabled, as it is now. `call` is given the moment for which it is called."""

    arn: str
    expression: str
    timezone: str
    call: Callable[[float], None]

    @property
    def identity(self) -> tuple[str, str, str]:
        """Another expression begins anew."""
        return self.arn, self.expression, self.timezone


@dataclass
class _Waiting:
    following: Next
    due: float | None


class Scheduler:
    """Calls what is due. `ahead` tells the seconds by which the cloud's clock is ahead of the machine's."""

    def __init__(self, cloud: Cloud, *, ahead: Callable[[], float] = lambda: 0.0) -> None:
        self._cloud = cloud
        self._ahead = ahead
        self._ahead_before = 0.0
        self._waiting: dict[tuple[str, str, str], _Waiting] = {}
        self._looking = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look_until_ended, name="scheduler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Calls nothing any more."""
        self._ending.set()

    def look(self) -> None:
        """Calls what is due now."""
        with self._looking:
            ahead = self._ahead()
            now = time.time() + ahead
            # What came since the last look was there before the clock was moved.
            began = now - (ahead - self._ahead_before)
            self._ahead_before = ahead
            entries = {entry.identity: entry for entry in self._entries()}
            self._waiting = {
                identity: self._waiting.get(identity) or _begin(entry, began) for identity, entry in entries.items()
            }
            for identity, waiting in self._waiting.items():
                if waiting.due is None or waiting.due > now:
                    continue
                due = waiting.due
                while waiting.due is not None and waiting.due <= now:
                    due, waiting.due = waiting.due, waiting.following(waiting.due)
                self._call(entries[identity], due)

    def _call(self, entry: Entry, due: float) -> None:
        try:
            entry.call(due)
        except Exception:  # whatever a target raises: the entries after it are still carried out
            log.exception("%s could not be carried out", entry.arn)

    def _look_until_ended(self) -> None:
        while not self._ending.wait(LOOK_EVERY_S):
            try:
                self.look()
            except Exception:  # a clock that ends in silence would be worse; the next look may succeed
                log.exception("the scheduler could not look")

    def _entries(self) -> list[Entry]:
        """Everything that is enabled; read under the services' locks, called without them."""
        with self._cloud.locks.of("events"):
            found = list(self._rules())
        with self._cloud.locks.of("scheduler"):
            return found + list(self._schedules())

    # --- rules ------------------------------------------------------------------------------------------------------

    def _rules(self) -> Iterator[Entry]:
        from moto.events.models import events_backends

        for backends in list(events_backends.values()):
            for backend in list(backends.values()):
                for rule in backend.event_buses["default"].rules.values():
                    if rule.scheduled_expression and rule.state == "ENABLED":
                        yield self._rule(rule)

    def _rule(self, rule: Any) -> Entry:
        targets = [dict(target) for target in rule.targets]
        arn, account, region = rule.arn, rule.account_id, rule.region_name

        def call(due: float) -> None:
            event = {
                "version": "0",
                "id": str(uuid.uuid4()),
                "detail-type": "Scheduled Event",
                "source": "aws.events",
                "account": account,
                "time": _utc(due),
                "region": region,
                "resources": [arn],
                "detail": {},
            }
            for target in targets:
                if deliveries.is_function(target["Arn"]):
                    handed_on = target.get("Input") or _transformed(target, event)
                    deliveries.deliver(self._cloud, to=target["Arn"], event=handed_on, service=RULES, source_arn=arn)
                else:
                    log.warning("%s: the embedded cloud delivers to functions only, not to %s", arn, target["Arn"])

        return Entry(arn=arn, expression=rule.scheduled_expression, timezone="UTC", call=call)

    # --- schedules --------------------------------------------------------------------------------------------------

    def _schedules(self) -> Iterator[Entry]:
        from moto.scheduler.models import scheduler_backends

        for backends in list(scheduler_backends.values()):
            for backend in list(backends.values()):
                for group in backend.schedule_groups.values():
                    for schedule in group.schedules.values():
                        if schedule.state == "ENABLED":
                            yield self._schedule(backend, schedule)

    def _schedule(self, backend: Any, schedule: Any) -> Entry:
        target = dict(schedule.target)

        def call(due: float) -> None:
            if not deliveries.is_function(target["Arn"]):
                log.warning("%s: the embedded cloud delivers to functions only", schedule.arn)
            elif may_act(backend.account_id, target["RoleArn"], target["Arn"]):
                deliveries.invoke(self._cloud, target["Arn"], _input(schedule.arn, target, due, backend))
            else:
                log.warning("%s: its role can't be assumed, or may not invoke %s", schedule.arn, target["Arn"])
            if schedule.action_after_completion == "DELETE" and schedule.schedule_expression.startswith("at("):
                with self._cloud.locks.of("scheduler"):
                    backend.delete_schedule(schedule.group_name, schedule.name)

        return Entry(
            arn=schedule.arn,
            expression=schedule.schedule_expression,
            timezone=schedule.schedule_expression_timezone,
            call=call,
        )


def may_act(account: str, role_arn: str, function_arn: str) -> bool:
    """Whether Scheduler may assume the role, and the role may invoke the function."""
    from moto.iam.exceptions import NotFoundException
    from moto.iam.models import iam_backends

    from aistratus.local.shim.iam import policies_of
    from aistratus.local.shim.policy_evaluation import ALLOWED, Request, decide

    backend = iam_backends[account]["aws"]
    try:
        role = backend.get_role(role_arn.rpartition("/")[2])
        policies = list(policies_of(backend, role_arn))
    except NotFoundException:
        return False
    trusts = json.loads(role.assume_role_policy_document)["Statement"]
    trusts = [trusts] if isinstance(trusts, Mapping) else trusts
    services = [entry for one in trusts for entry in _listed(one.get("Principal", {}).get("Service", []))]
    request = Request(action="lambda:InvokeFunction", resource=function_arn)
    return SCHEDULES in services and decide(policies, request) == ALLOWED


def _begin(entry: Entry, now: float) -> _Waiting:
    try:
        following = parse(entry.expression, entry.timezone, one_time=True)
    except (ValueError, KeyError, OSError) as error:
        log.warning("%s is never carried out: %s", entry.arn, error)
        return _Waiting(lambda after: None, None)
    return _Waiting(following, following(now))


def _transformed(target: Mapping[str, Any], event: dict[str, Any]) -> Any:
    """The event as the target wants it: whole, or put into a template."""
    from moto.events.utils import EventTemplateParser

    wanted = target.get("InputTransformer")
    if not wanted:
        return event
    return EventTemplateParser.parse(
        input_template=wanted.get("InputTemplate"),
        input_paths_map=wanted.get("InputPathsMap", {}),
        event=event,  # type: ignore[arg-type]  # moto's own type of events
    )


def _input(arn: str, target: Mapping[str, Any], due: float, backend: Any) -> Any:
    """What a schedule hands over, with Scheduler's own words filled in.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
    """
    if not target.get("Input"):
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": backend.account_id,
            "time": _utc(due),
            "region": backend.region_name,
            "resources": [arn],
            "detail": "{}",
        }
    text = str(target["Input"])
    words = {"schedule-arn": arn, "scheduled-time": _utc(due), "execution-id": str(uuid.uuid4()), "attempt-number": "1"}
    for word, value in words.items():
        text = text.replace(f"<aws.scheduler.{word}>", value)
    return text


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _utc(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
