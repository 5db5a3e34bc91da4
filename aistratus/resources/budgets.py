"""Budgets: the env's monthly cost limits, and the notifications when they are reached.

Budgets belong to the account and to no region; AWS serves them from one endpoint. All budgets and their notifications
are read with two shared calls; subscribers take one more call for each notification. A budget counts resources with our
tags, so the account's owner has to activate these tags as cost allocation tags once: until then AWS counts nothing.

AWS computes a budget up to three times a day, so a notification can be half a day late. Every change of the amount or
of the filter resets the spend to zero until the next computation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import at_once, tag_list, tag_mapping, unless_gone

GONE = frozenset({"NotFoundException"})
TAKEN = frozenset({"DuplicateRecordException"})

TOPIC_ACCEPTED = Wait(
    what="AWS Budgets may publish to the topic",
    within=60,
    codes=frozenset({"InvalidParameterException"}),
    saying=r"(?i)\bsns\b|topic",
)
"""A topic made a moment ago, or its policy, isn't known everywhere at once."""

BUDGET_GONE = Wait(what="the deleted budget is no longer listed", within=60)

PAGE = 100
CURRENCY = "USD"
"""AWS counts in nothing else."""

SIGNS = {"GREATER_THAN": ">", "LESS_THAN": "<", "EQUAL_TO": "="}

Subscribers = tuple[Ref | str, ...]


def notice(percent: float, kind: Literal["actual", "forecasted"] = "actual") -> str:
    """The name of the notice for more than this many percent of the limit, as `Budget.notices` has it."""
    return f"{kind} > {_number(percent)} %"


@dataclass(frozen=True, kw_only=True)
class Budget(Resource):
    """A monthly budget named `tinyllama-<env>-<name>`.

    limit_usd: US dollars a period, to the cent.
    counted: the tags that a cost must carry to count; credits and refunds never count.
    notices: whom each notice tells, by the notice's name (see `notice`): e-mail addresses, and at most one topic's ARN.
    metric: which sort of costs.
    period: `MONTHLY`, when counting begins anew.

    AWS takes ten notices a budget, and for each ten e-mail addresses and one topic.
    """

    name: str
    limit_usd: float
    counted: Mapping[str, str]
    notices: Mapping[str, Subscribers]
    metric: str = "UnblendedCost"
    period: str = "MONTHLY"

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit_usd", round(self.limit_usd, 2))
        ordered = {name: _ordered(who) for name, who in sorted(self.notices.items())}
        object.__setattr__(self, "notices", ordered)


def find_budget(aws: Cloud, want: Budget) -> Found | None:
    """By name."""
    name = aws.name(want.name)
    budgets, notices, tags = at_once(lambda: _budgets(aws), lambda: _notices(aws), lambda: _tags(aws, name))
    budget = budgets.get(name)
    if budget is None or tags is None:
        return None
    aws.require_ours("budget", name, tags, want.key)
    subscribers = _subscribers(aws, name, notices.get(name, []))
    return Found(state=_decoded(want, budget, subscribers), ids=_ids(aws, name), tags=tags, health=_health(budget))


def owned_budgets(aws: Cloud) -> list[Found]:
    """By tags, among the budgets with our name."""
    owned = []
    for name in sorted(_budgets(aws)):
        tags = _tags(aws, name)
        if tags is not None and aws.owns(tags):
            suffix = name.removeprefix(aws.prefix)
            state = Budget(key=tags["aistratus:key"], name=suffix, limit_usd=0, counted={}, notices={})
            owned.append(Found(state=state, ids=_ids(aws, name), tags=tags))
    return owned


def remove_budget(aws: Cloud, have: Found) -> None:
    """Removes it with its notices, and waits until it is no longer listed."""
    name = have.ids["name"]
    unless_gone(GONE, aws.budgets.delete_budget, AccountId=aws.account, BudgetName=name)
    until(BUDGET_GONE, lambda: None if name in _budgets(aws.fresh()) else True, clock=aws.clock)


@reconciles(Budget, find=find_budget, remove=remove_budget, owned=owned_budgets)
def ensure_budget(aws: Cloud, want: Budget, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "budgets",
            "create_budget",
            look=lambda cloud: find_budget(cloud, want),
            taken=TAKEN,
            settling=TOPIC_ACCEPTED,
            AccountId=aws.account,
            Budget=_encoded(aws, want),
            NotificationsWithSubscribers=[
                {"Notification": _notification(name), "Subscribers": [_subscriber(entry) for entry in who]}
                for name, who in want.notices.items()
            ],
            ResourceTags=tag_list(aws.tags(want.key)),
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    if changes & {"limit_usd", "counted", "metric", "period"}:
        aws.budgets.update_budget(AccountId=aws.account, NewBudget=_encoded(aws, want))
    if "notices" in changes:
        assert isinstance(have.state, Budget)
        _repair_notices(aws, want, have.state.notices)
    if "tags" in changes:
        aws.budgets.tag_resource(ResourceARN=have.ids["arn"], ResourceTags=tag_list(aws.tags(want.key)))
    return await_match(find_budget, aws, want)


# --- notices ----------------------------------------------------------------------------------------------------


def _repair_notices(aws: Cloud, want: Budget, there: Mapping[str, Subscribers]) -> None:
    """What is too much goes first: a budget takes ten notices."""
    budget = {"AccountId": aws.account, "BudgetName": aws.name(want.name)}
    for name in there.keys() - want.notices.keys():
        unless_gone(GONE, aws.budgets.delete_notification, **budget, Notification=_notification(name))
    for name, who in want.notices.items():
        if name in there:
            _repair_subscribers(aws, budget, name, who, there[name])
        else:
            subscribers = [_subscriber(entry) for entry in who]
            notification = {"Notification": _notification(name), "Subscribers": subscribers}
            _settled(aws, aws.budgets.create_notification, TAKEN, **budget, **notification)


def _repair_subscribers(
    aws: Cloud, budget: Mapping[str, str], name: str, want: Subscribers, there: Subscribers
) -> None:
    """Addresses are put in each other's place, then added, then removed: a notice that tells nobody is deleted by AWS.

    Source: Billing and Cost Management API reference, DeleteSubscriber.
    """
    about: dict[str, Any] = {**budget, "Notification": _notification(name)}
    missing = [entry for entry in want if entry not in there]
    extra = [entry for entry in there if entry not in want]
    for new in list(missing):
        old = next((entry for entry in extra if _is_email(entry) == _is_email(new)), None)
        if old is not None:
            missing.remove(new)
            extra.remove(old)
            change = {"OldSubscriber": _subscriber(old), "NewSubscriber": _subscriber(new)}
            # When its answer got lost, the old one is gone and the new one there already.
            _settled(aws, aws.budgets.update_subscriber, GONE | TAKEN, **about, **change)
    for entry in missing:
        _settled(aws, aws.budgets.create_subscriber, TAKEN, **about, Subscriber=_subscriber(entry))
    for entry in extra:
        _settled(aws, aws.budgets.delete_subscriber, GONE, **about, Subscriber=_subscriber(entry))


def _settled(aws: Cloud, call: Any, done: frozenset[str], **params: Any) -> None:
    """A call that a lost answer may make twice; `done` are the codes that then say "it is so already"."""
    unless_gone(done, settle, wait=TOPIC_ACCEPTED, call=call, clock=aws.clock, **params)


def _notification(name: str) -> dict[str, Any]:
    """A notice's name as AWS takes it."""
    kind, sign, threshold, *percent = name.split(" ")
    return {
        "NotificationType": kind.upper(),
        "ComparisonOperator": next(operator for operator, text in SIGNS.items() if text == sign),
        "Threshold": float(threshold),
        "ThresholdType": "PERCENTAGE" if percent else "ABSOLUTE_VALUE",
    }


def _notice_name(notification: Mapping[str, Any]) -> str:
    sign = SIGNS[notification["ComparisonOperator"]]
    percent = " %" if notification.get("ThresholdType", "PERCENTAGE") == "PERCENTAGE" else ""
    return f"{notification['NotificationType'].lower()} {sign} {_number(notification['Threshold'])}{percent}"


def _number(value: float) -> str:
    """The whole number, without a fraction where there is none: the name must lead back to the same threshold."""
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def _subscriber(address: Any) -> dict[str, str]:
    return {"SubscriptionType": "EMAIL" if _is_email(address) else "SNS", "Address": address}


def _is_email(address: Ref | str) -> bool:
    return isinstance(address, str) and not address.startswith("arn:")


def _ordered(subscribers: Iterable[Ref | str]) -> Subscribers:
    """E-mail addresses by name, then the topic: AWS tells them in any order."""
    return tuple(sorted(subscribers, key=lambda entry: (not _is_email(entry), str(entry))))


# --- what AWS says ----------------------------------------------------------------------------------------------


def _encoded(aws: Cloud, want: Budget) -> dict[str, Any]:
    return {
        "BudgetName": aws.name(want.name),
        "BudgetType": "COST",
        "BudgetLimit": {"Amount": f"{want.limit_usd:.2f}", "Unit": CURRENCY},
        "TimeUnit": want.period,
        "FilterExpression": _expression(want.counted),
        "Metrics": [want.metric],
    }


def _expression(counted: Mapping[str, str]) -> dict[str, Any]:
    """All of these tags, and nothing that AWS gives back: credits would hide what machines cost.

    Tags go by their plain keys here, as in Cost Explorer; the older `CostFilters` has them as `user:<key>$<value>`, and
    takes several of them for alternatives. Source: Billing and Cost Management API reference, CreateBudget, Expression.
    """
    tags = [{"Tags": {"Key": name, "Values": [value]}} for name, value in sorted(counted.items())]
    given_back = {"Dimensions": {"Key": "RECORD_TYPE", "Values": ["Credit", "Refund"]}}
    return {"And": [*tags, {"Not": given_back}]}


def _plain(expression: Any) -> Any:
    """A filter without what means nothing: order, and the match options that are the default."""
    if isinstance(expression, Mapping):
        told = {name: value for name, value in expression.items() if value}
        kept = {name: value for name, value in told.items() if name != "MatchOptions" or not _usual(value)}
        return {name: _plain(value) for name, value in sorted(kept.items())}
    if isinstance(expression, list):
        return sorted((_plain(entry) for entry in expression), key=json.dumps)
    return expression


def _usual(options: Iterable[str]) -> bool:
    return set(options) <= {"EQUALS", "CASE_SENSITIVE"}


def _decoded(want: Budget, budget: Mapping[str, Any], notices: Mapping[str, Subscribers]) -> Budget:
    limit, found = budget.get("BudgetLimit", {}), _plain(budget.get("FilterExpression", {}))
    usual = found == _plain(_expression(want.counted))
    return Budget(
        key=want.key,
        name=want.name,
        limit_usd=float(limit.get("Amount", 0)) if limit.get("Unit") == CURRENCY else 0.0,
        counted=want.counted if usual else {"filter": json.dumps(found or budget.get("CostFilters", {}))},
        notices=notices,
        metric=next(iter(budget.get("Metrics", [])), ""),
        period=budget["TimeUnit"],
    )


def counted_usd(budget: Mapping[str, Any]) -> float:
    """What AWS has counted in this period so far, of a budget as AWS describes it."""
    return float(budget.get("CalculatedSpend", {}).get("ActualSpend", {}).get("Amount", 0))


def listed_budget(aws: Cloud, name: str) -> Mapping[str, Any] | None:
    """The env's budget of this name (without the env's prefix) from the shared list; `None` if there is none."""
    return _budgets(aws).get(aws.name(name))


def _health(budget: Mapping[str, Any]) -> str:
    """`ok`, or why AWS can't work it out: `filter_invalid` and the like."""
    health = budget.get("HealthStatus", {})
    return str(health.get("StatusReason", "unhealthy")).lower() if health.get("Status") == "UNHEALTHY" else "ok"


def _budgets(aws: Cloud) -> dict[str, Mapping[str, Any]]:
    """The budgets with names like ours, by name."""

    def read() -> dict[str, Mapping[str, Any]]:
        listed = _pages(aws, "describe_budgets", "Budgets", ShowFilterExpression=True)
        return {budget["BudgetName"]: budget for budget in listed if budget["BudgetName"].startswith(aws.prefix)}

    return aws.shared("budgets.budgets", read)


def _notices(aws: Cloud) -> dict[str, list[Mapping[str, Any]]]:
    """The notices of all budgets, by the budget's name."""

    def read() -> dict[str, list[Mapping[str, Any]]]:
        listed = _pages(aws, "describe_budget_notifications_for_account", "BudgetNotificationsForAccount")
        notices: dict[str, list[Mapping[str, Any]]] = {}
        for entry in listed:
            notices.setdefault(entry["BudgetName"], []).extend(entry.get("Notifications", []))
        return notices

    return aws.shared("budgets.notices", read)


def _subscribers(aws: Cloud, budget: str, notices: list[Mapping[str, Any]]) -> dict[str, Subscribers]:
    """Whom each notice tells, by its name, asked at once; a notice that is gone by now is left out."""

    def read(notification: Mapping[str, Any]) -> tuple[str, Subscribers]:
        asked = {name: value for name, value in notification.items() if name != "NotificationState"}
        about = {"BudgetName": budget, "Notification": asked}
        listed = _pages(aws, "describe_subscribers_for_notification", "Subscribers", **about)
        return _notice_name(notification), _ordered(entry["Address"] for entry in listed)

    found = at_once(*(lambda entry=entry: read(entry) for entry in notices)) if notices else []
    return {name: who for name, who in found if who}


def _pages(aws: Cloud, operation: str, rows: str, **params: Any) -> list[Mapping[str, Any]]:
    pages: Iterator[Mapping[str, Any]] = aws.budgets.get_paginator(operation).paginate(
        AccountId=aws.account, PaginationConfig={"PageSize": PAGE}, **params
    )
    return unless_gone(GONE, lambda: [row for page in pages for row in page.get(rows, [])]) or []


def _tags(aws: Cloud, name: str) -> dict[str, str] | None:
    """All tags; `None` if the budget is gone."""
    answer = unless_gone(GONE, aws.budgets.list_tags_for_resource, ResourceARN=_ids(aws, name)["arn"])
    return tag_mapping(answer.get("ResourceTags")) if answer else None


def _ids(aws: Cloud, name: str) -> dict[str, str]:
    return {"id": name, "name": name, "arn": aws.arn("budgets", f"budget/{name}", region="")}
