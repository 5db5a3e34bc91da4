"""Budgets: moto stores a budget and its notices; here are changes, subscribers, tags, pages, and notices that are sent.

Nothing here costs anything, so nothing is ever spent. `spend` says that it was: the control path of strict mode calls
it for tests, and the notices go out as AWS would send them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from moto.budgets.exceptions import DuplicateRecordException, NotFoundException
from moto.budgets.models import Budget, BudgetsBackend, Notification, budgets_backends
from moto.budgets.responses import BudgetsResponse
from moto.core.exceptions import JsonRESTError

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import add, wrap
from aistratus.local.shim.sns import deliver_mail, publish_as

BUDGETS: Final = "budgets.amazonaws.com"
IDENTITY: Final = ("NotificationType", "ComparisonOperator", "Threshold", "ThresholdType")
COMPARE: Final = {
    "GREATER_THAN": lambda spent, mark: spent > mark,
    "LESS_THAN": lambda spent, mark: spent < mark,
    "EQUAL_TO": lambda spent, mark: spent == mark,
}
_NAME: Final = re.compile(r"(?!.*/action/)[^:\\]{1,100}")


def invalid(message: str) -> JsonRESTError:
    """400, for values that AWS doesn't take."""
    return JsonRESTError("InvalidParameterException", message)


def patch(cloud: Cloud) -> None:
    _budgets()
    _pages()
    _notifications()
    _subscribers()
    _tags()
    _sender[:] = [cloud]


def of_name(backend: BudgetsBackend, account: str, name: str) -> Budget:
    """The budget, or NotFoundException."""
    if name not in backend.budgets[account]:
        raise NotFoundException(f"Unable to get budget: {name} - the budget doesn't exist.")
    return backend.budgets[account][name]


def identity(notification: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one notice of a budget from another."""
    return tuple(notification.get(name, "PERCENTAGE") for name in IDENTITY)


def told_by(notice: Notification) -> list[dict[str, str]]:
    """Its subscribers; moto's annotation says otherwise."""
    subscribers: Any = notice.subscribers
    return list(subscribers)


def tell(notice: Notification, subscribers: list[dict[str, str]]) -> None:
    notice.subscribers = subscribers  # type: ignore[assignment]


def notice_of(budget: Budget, notification: Mapping[str, Any]) -> Notification:
    """The notice, or NotFoundException."""
    for one in budget.notifications:
        if identity(one.details) == identity(notification):
            return one
    raise NotFoundException("Unable to find notification - the notification doesn't exist.")


def _checked(budget: Mapping[str, Any]) -> None:
    """https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_CreateBudget.html"""
    if not _NAME.fullmatch(budget["BudgetName"]):
        raise invalid("The budget's name is not allowed.")
    new, old = {"FilterExpression", "Metrics"} & budget.keys(), {"CostFilters", "CostTypes"} & budget.keys()
    if new and old:
        raise invalid("Either FilterExpression and Metrics or CostFilters and CostTypes, not both.")


def _budgets() -> None:
    @wrap(BudgetsBackend, "create_budget")
    def create_budget(
        original: Any, backend: BudgetsBackend, account_id: str, budget: dict[str, Any], notifications: Any
    ) -> None:
        _checked(budget)
        notifications = notifications or []
        if any(not entry.get("Subscribers") for entry in notifications):
            raise invalid("A notification needs a subscriber.")
        names = [identity(entry["Notification"]) for entry in notifications]
        if len(set(names)) < len(names):
            raise DuplicateRecordException("notification", str(names))
        original(backend, account_id, budget, notifications)

    @wrap(BudgetsResponse, "create_budget")
    def with_tags(original: Any, self: Any) -> str:
        answer: str = original(self)
        made = of_name(self.backend, self._get_param("AccountId"), self._get_param("Budget")["BudgetName"])
        made.__dict__["tags"] = {tag["Key"]: tag["Value"] for tag in self._get_param("ResourceTags") or []}
        return answer

    @add(BudgetsBackend)
    def update_budget(backend: BudgetsBackend, account_id: str, budget: dict[str, Any]) -> None:
        _checked(budget)
        there = of_name(backend, account_id, budget["BudgetName"])
        there.budget = {"TimePeriod": there.budget["TimePeriod"], **budget, "LastUpdatedTime": time.time()}

    @add(BudgetsResponse, "update_budget")
    def answer_update(self: Any) -> str:
        self.backend.update_budget(self._get_param("AccountId"), self._get_param("NewBudget"))
        return "{}"

    @wrap(Budget, "to_dict")
    def to_dict(original: Any, budget: Budget) -> dict[str, Any]:
        """A budget with metrics has no cost types."""
        told: dict[str, Any] = original(budget)
        if "Metrics" in told:
            told.pop("CostTypes", None)
        return told


def _shown(self: Any, budget: dict[str, Any]) -> dict[str, Any]:
    """The filter is told to who asks for it."""
    if self._get_param("ShowFilterExpression"):
        return budget
    return {name: value for name, value in budget.items() if name != "FilterExpression"}


def _page(self: Any, rows: list[Any], name: str) -> str:
    """The page that is asked for: `NextToken` is where it begins."""
    begin, size = int(self._get_param("NextToken") or 0), int(self._get_param("MaxResults") or 100)
    end = begin + size
    return json.dumps({name: rows[begin:end], **({"NextToken": str(end)} if end < len(rows) else {})})


def _pages() -> None:
    @wrap(BudgetsResponse, "describe_budget")
    def describe_budget(original: Any, self: Any) -> str:
        return json.dumps({"Budget": _shown(self, json.loads(original(self))["Budget"])})

    @wrap(BudgetsResponse, "describe_budgets")
    def describe_budgets(original: Any, self: Any) -> str:
        budgets = self.backend.describe_budgets(account_id=self._get_param("AccountId"))
        return _page(self, [_shown(self, budget) for budget in budgets], "Budgets")

    @wrap(BudgetsResponse, "describe_notifications_for_budget")
    def describe_notifications(original: Any, self: Any) -> str:
        budget = of_name(self.backend, self._get_param("AccountId"), self._get_param("BudgetName"))
        return _page(self, list(budget.get_notifications()), "Notifications")

    @add(BudgetsResponse)
    def describe_budget_notifications_for_account(self: Any) -> str:
        budgets = self.backend.budgets[self._get_param("AccountId")]
        rows = [
            {"BudgetName": name, "Notifications": list(budget.get_notifications())}
            for name, budget in budgets.items()
            if budget.notifications
        ]
        return _page(self, rows, "BudgetNotificationsForAccount")

    @add(BudgetsResponse)
    def describe_subscribers_for_notification(self: Any) -> str:
        budget = of_name(self.backend, self._get_param("AccountId"), self._get_param("BudgetName"))
        return _page(self, told_by(notice_of(budget, self._get_param("Notification"))), "Subscribers")


def _notifications() -> None:
    @wrap(BudgetsBackend, "create_notification")
    def create_notification(
        original: Any,
        backend: BudgetsBackend,
        account_id: str,
        budget_name: str,
        notification: dict[str, Any],
        subscribers: Any,
    ) -> None:
        budget = of_name(backend, account_id, budget_name)
        if identity(notification) in [identity(one.details) for one in budget.notifications]:
            raise DuplicateRecordException("notification", str(identity(notification)))
        if not subscribers:
            raise invalid("A notification needs a subscriber.")
        original(backend, account_id, budget_name, notification, subscribers)

    @wrap(Budget, "__init__")
    def remember(original: Any, budget: Budget, told: dict[str, Any], notifications: Any) -> None:
        original(budget, told, notifications)
        for one in budget.notifications:
            one.details.setdefault("NotificationState", "OK")

    @wrap(Budget, "add_notification")
    def add_notification(original: Any, budget: Budget, details: dict[str, Any], subscribers: Any) -> None:
        original(budget, {"NotificationState": "OK", **details}, subscribers)

    @wrap(BudgetsBackend, "delete_notification")
    def delete_notification(
        original: Any, backend: BudgetsBackend, account_id: str, budget_name: str, notification: dict[str, Any]
    ) -> None:
        budget = of_name(backend, account_id, budget_name)
        budget.notifications.remove(notice_of(budget, notification))

    @add(BudgetsResponse)
    def update_notification(self: Any) -> str:
        budget = of_name(self.backend, self._get_param("AccountId"), self._get_param("BudgetName"))
        there, new = notice_of(budget, self._get_param("OldNotification")), self._get_param("NewNotification")
        if identity(new) in [identity(one.details) for one in budget.notifications if one is not there]:
            raise DuplicateRecordException("notification", str(identity(new)))
        there.details = {"NotificationState": "OK", **new}
        return "{}"


def _subscribers() -> None:
    def notice(self: Any) -> Notification:
        budget = of_name(self.backend, self._get_param("AccountId"), self._get_param("BudgetName"))
        return notice_of(budget, self._get_param("Notification"))

    @add(BudgetsBackend)
    def create_subscriber(backend: BudgetsBackend, notice: Notification, subscriber: dict[str, str]) -> None:
        if subscriber in told_by(notice):
            raise DuplicateRecordException("subscriber", subscriber["Address"])
        tell(notice, [*told_by(notice), subscriber])

    @add(BudgetsResponse, "create_subscriber")
    def answer_create(self: Any) -> str:
        self.backend.create_subscriber(notice(self), self._get_param("Subscriber"))
        return "{}"

    @add(BudgetsResponse)
    def update_subscriber(self: Any) -> str:
        there, old, new = notice(self), self._get_param("OldSubscriber"), self._get_param("NewSubscriber")
        if old not in told_by(there):
            raise NotFoundException("Unable to find subscriber - the subscriber doesn't exist.")
        if new in told_by(there):
            raise DuplicateRecordException("subscriber", new["Address"])
        tell(there, [new if one == old else one for one in told_by(there)])
        return "{}"

    @add(BudgetsResponse)
    def delete_subscriber(self: Any) -> str:
        """The last one takes the notice along."""
        there, gone = notice(self), self._get_param("Subscriber")
        if gone not in told_by(there):
            raise NotFoundException("Unable to find subscriber - the subscriber doesn't exist.")
        tell(there, [one for one in told_by(there) if one != gone])
        if not told_by(there):
            budget = of_name(self.backend, self._get_param("AccountId"), self._get_param("BudgetName"))
            budget.notifications.remove(there)
        return "{}"


def _tags() -> None:
    def tags(self: Any) -> dict[str, str]:
        account, _, name = self._get_param("ResourceARN").split(":", 4)[4].partition(":budget/")
        held: dict[str, str] = of_name(self.backend, account, name).__dict__.setdefault("tags", {})
        return held

    @add(BudgetsResponse)
    def list_tags_for_resource(self: Any) -> str:
        return json.dumps({"ResourceTags": [{"Key": key, "Value": value} for key, value in tags(self).items()]})

    @add(BudgetsResponse)
    def tag_resource(self: Any) -> str:
        tags(self).update({tag["Key"]: tag["Value"] for tag in self._get_param("ResourceTags")})
        return "{}"

    @add(BudgetsResponse)
    def untag_resource(self: Any) -> str:
        for key in self._get_param("ResourceTagKeys"):
            tags(self).pop(key, None)
        return "{}"


_sender: list[Cloud] = []
"""The cloud that sends notices, once it is patched."""


def spend(name: str, actual: float, forecast: float) -> list[str]:
    """Says what was spent this month and what is expected, in US dollars; gives whom the notices told.

    A notice is sent once, when its mark is passed.

    Raises:
        KeyError: there is no such budget.
    """
    (cloud,) = _sender
    with cloud.locks.of("budgets"):
        budget = budgets_backends[cloud.account]["aws"].budgets[cloud.account][name]
        amounts = {"ActualSpend": actual, "ForecastedSpend": forecast}
        budget.budget["CalculatedSpend"] = {
            kind: {"Amount": f"{amount:.2f}", "Unit": "USD"} for kind, amount in amounts.items()
        }
        told = []
        for one in list(budget.notifications):
            spent = actual if one.details["NotificationType"] == "ACTUAL" else forecast
            passed = COMPARE[one.details["ComparisonOperator"]](spent, _mark(budget, one.details))
            if passed and one.details.get("NotificationState") != "ALARM":
                told += [_tell(cloud, budget, one.details, spent, to) for to in told_by(one)]
            one.details["NotificationState"] = "ALARM" if passed else "OK"
        return [address for address in told if address]


def _mark(budget: Budget, details: Mapping[str, Any]) -> float:
    limit = float(budget.budget["BudgetLimit"]["Amount"])
    absolute = details.get("ThresholdType") == "ABSOLUTE_VALUE"
    return float(details["Threshold"]) if absolute else limit * float(details["Threshold"]) / 100


def _tell(cloud: Cloud, budget: Budget, details: Mapping[str, Any], spent: float, to: Any) -> str:
    """The address that was told; an empty string if the topic doesn't let AWS Budgets publish."""
    name, limit = budget.budget["BudgetName"], budget.budget["BudgetLimit"]["Amount"]
    subject = f"AWS Budgets: {name} has exceeded your alert threshold"
    text = (
        f"AWS Budget Notification\n\nYou requested that we alert you when the {details['NotificationType']} Cost "
        f"associated with your {name} budget is greater than ${_mark(budget, details):.2f} for the current month. "
        f"The {details['NotificationType']} Cost associated with this budget is ${spent:.2f}.\n\n"
        f"Budget Name: {name}\nBudget Type: Cost\nBudgeted Amount: ${limit}\n"
        f"Alert Type: {details['NotificationType']}\n"
    )
    if to["SubscriptionType"] == "EMAIL":
        deliver_mail(cloud, to["Address"], subject, text)
        return str(to["Address"])
    source = f"arn:aws:budgets::{cloud.account}:budget/{name}"
    return str(to["Address"]) if publish_as(cloud, BUDGETS, to["Address"], source, subject[:99], text) else ""
