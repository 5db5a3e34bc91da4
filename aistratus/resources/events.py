"""EventBridge rules that call a function by the clock.

One listing tells all rules whose name starts like ours; targets and tags are read beside it. PutTargets and
RemoveTargets answer 200 even when they refuse, and say so only in the answer's body: that is read here. A rule with a
target can't be deleted, so its targets go first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.errors import Failure
from aistratus.core.resource import Found, Ref, Resource, reconciles, unordered
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import at_once, tag_list, tag_mapping, unless_gone

GONE = frozenset({"ResourceNotFoundException"})

TARGET_ID = "function"

RULE_FREE = Wait(
    what="EventBridge ends another change of the rule, or knows the one that was just made",
    within=60,
    codes=frozenset({"ConcurrentModificationException", "InternalException", "ResourceNotFoundException"}),
)
"""Two changes of a rule at once are refused. Source: EventBridge API reference, errors of PutRule and PutTargets."""

RULE_BARE = Wait(
    what="EventBridge sees that the rule has no target any more",
    within=60,
    codes=frozenset({"ConcurrentModificationException", "ValidationException"}),
    saying=r"(?i)concurrent|has targets",
)
"""A target that was removed may still be seen for a moment. Source: EventBridge API reference, RemoveTargets."""


@dataclass(frozen=True, kw_only=True)
class EventRule(Resource):
    """A rule on the default bus, named `tinyllama-<env>-<name>`, that calls one function by the clock.

    The function must let it: `ServicePermission` for `events.amazonaws.com` and this rule's ARN.

    name: the key, with dashes, unless given.
    schedule: `rate(30 minutes)` or `cron(0 8 * * ? *)`, in UTC.
    target: ARN of the function, or of its alias.
    input: JSON text that the function gets; empty: the event itself.
    other_targets: ids of other targets of the rule; there are to be none.
    """

    name: str = ""
    schedule: str
    target: Ref | str
    input: str = ""
    description: str = ""
    enabled: bool = True
    other_targets: tuple[str, ...] = unordered(default=())

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.key.replace("_", "-"))


def find_rule(aws: Cloud, want: EventRule) -> Found | None:
    """By name."""
    name = aws.name(want.name)
    rule = _rules(aws).get(name)
    if rule is None:
        return None
    tags, targets = at_once(lambda: _tags(aws, rule["Arn"]), lambda: _targets(aws, name))
    if tags is None or targets is None:
        return None  # it went away between the calls
    aws.require_ours("rule", name, tags, want.key)
    target: Mapping[str, Any] = targets.get(TARGET_ID, {})
    state = EventRule(
        key=want.key,
        name=want.name,
        schedule=rule.get("ScheduleExpression", ""),
        target=target.get("Arn", ""),
        input=target.get("Input", ""),
        description=rule.get("Description", ""),
        enabled=rule.get("State") != "DISABLED",
        other_targets=tuple(identity for identity in targets if identity != TARGET_ID),
    )
    return Found(state=state, ids=_ids(rule), tags=tags)


def owned_rules(aws: Cloud) -> list[Found]:
    """By tags, among the rules with our name."""
    owned = []
    for name, rule in sorted(_rules(aws).items()):
        tags = _tags(aws, rule["Arn"])
        if tags is not None and aws.owns(tags):
            state = EventRule(key=tags["aistratus:key"], name=name.removeprefix(aws.prefix), schedule="", target="")
            owned.append(Found(state=state, ids=_ids(rule), tags=tags))
    return owned


def remove_rule(aws: Cloud, have: Found) -> None:
    """Removes its targets, whoever's they are, then the rule: EventBridge deletes only bare ones."""
    name = have.ids["name"]
    targets = _targets(aws, name)
    if targets:
        _remove_targets(aws, name, list(targets))
    unless_gone(GONE, settle, wait=RULE_BARE, call=aws.events.delete_rule, clock=aws.clock, Name=name)


@reconciles(EventRule, find=find_rule, remove=remove_rule, owned=owned_rules)
def ensure_rule(aws: Cloud, want: EventRule, have: Found | None, changes: frozenset[str]) -> Found:
    name = aws.name(want.name)
    if have is None or changes & {"schedule", "description", "enabled"}:
        # PutRule makes the rule or overwrites all of it, so a lost answer does no harm. Only a new one takes tags.
        settle(
            RULE_FREE,
            aws.events.put_rule,
            clock=aws.clock,
            Name=name,
            ScheduleExpression=want.schedule,
            Description=want.description,
            State="ENABLED" if want.enabled else "DISABLED",
            **({"Tags": tag_list(aws.tags(want.key))} if have is None else {}),
        )
    if have is not None and "tags" in changes:
        tags = tag_list(aws.tags(want.key))
        settle(RULE_FREE, aws.events.tag_resource, clock=aws.clock, ResourceARN=have.ids["arn"], Tags=tags)
    if have is None or changes & {"target", "input"}:
        target = {"Id": TARGET_ID, "Arn": want.target, **({"Input": want.input} if want.input else {})}
        _put_target(aws, name, target)
    if have is not None and "other_targets" in changes:
        assert isinstance(have.state, EventRule)
        _remove_targets(aws, name, list(have.state.other_targets))
    return await_match(find_rule, aws, want)


class TargetRefused(Failure):
    """PutTargets or RemoveTargets was answered, but not carried out; `response` is in the shape of the SDK's errors."""

    def __init__(self, entry: Mapping[str, str]) -> None:
        code, message = entry.get("ErrorCode", "Unknown"), entry.get("ErrorMessage", "no reason given")
        self.response = {"Error": {"Code": code, "Message": message}}
        super().__init__(f"EventBridge refused the target {entry.get('TargetId', '?')}: {message} ({code})")


def _put_target(aws: Cloud, name: str, target: Mapping[str, Any]) -> None:
    """Adds the target or overwrites it; waits while another change is in progress.

    Raises:
        TargetRefused: for good.
    """
    put = aws.events.put_targets
    settle(RULE_FREE, lambda: _require_none_failed(put(Rule=name, Targets=[target])), clock=aws.clock)


def _require_none_failed(answer: Mapping[str, Any] | None) -> None:
    if answer is not None and answer.get("FailedEntryCount", 0):
        raise TargetRefused((answer.get("FailedEntries") or [{}])[0])


def _remove_targets(aws: Cloud, name: str, ids: list[str]) -> None:
    """At most five: that is all that a rule may have. Source: EventBridge API reference, PutTargets."""

    def once() -> None:
        _require_none_failed(unless_gone(GONE, aws.events.remove_targets, Rule=name, Ids=ids))

    settle(RULE_FREE, once, clock=aws.clock)


def _rules(aws: Cloud) -> dict[str, Mapping[str, Any]]:
    """All rules of the default bus whose name starts like ours, by name."""

    def read() -> dict[str, Mapping[str, Any]]:
        pages = aws.events.get_paginator("list_rules").paginate(NamePrefix=aws.prefix)
        return {rule["Name"]: rule for page in pages for rule in page.get("Rules", [])}

    return aws.shared("events.rules", read)


def _targets(aws: Cloud, name: str) -> dict[str, Mapping[str, Any]] | None:
    """All targets by id; `None` if the rule is gone."""

    def read() -> dict[str, Mapping[str, Any]]:
        pages = aws.events.get_paginator("list_targets_by_rule").paginate(Rule=name)
        return {target["Id"]: target for page in pages for target in page.get("Targets", [])}

    found: dict[str, Mapping[str, Any]] | None = unless_gone(GONE, read)
    return found


def _tags(aws: Cloud, arn: str) -> dict[str, str] | None:
    """All tags; `None` if the rule is gone."""
    answer = unless_gone(GONE, aws.events.list_tags_for_resource, ResourceARN=arn)
    return None if answer is None else tag_mapping(answer.get("Tags"))


def _ids(rule: Mapping[str, Any]) -> dict[str, str]:
    return {"id": rule["Name"], "name": rule["Name"], "arn": rule["Arn"]}
