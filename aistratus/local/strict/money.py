"""Budgets: the one currency, and how many may be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from moto.budgets.models import BudgetsBackend
from moto.core.exceptions import JsonRESTError

from aistratus.local.shim.budgets import invalid, of_name, told_by
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

_API: Final = "https://docs.aws.amazon.com/aws-cost-management/latest/APIReference"
NOTICES: Final = 10
EMAILS: Final = 10
TOPICS: Final = 1

book = Book()


def _too_many(what: str) -> JsonRESTError:
    return JsonRESTError("CreationLimitExceededException", f"You've exceeded the {what} limit.")


@book.rule("budget-in-dollars", code="InvalidParameterException", source=f"{_API}/API_budgets_Spend.html")
def budget_in_dollars(cloud: Cloud, delays: Delays) -> None:
    def check(budget: Mapping[str, Any]) -> None:
        unit = budget.get("BudgetLimit", {}).get("Unit", "USD")
        if budget.get("BudgetType") == "COST" and unit != "USD":
            raise invalid(f"The unit {unit} is not supported for a cost budget; use USD.")

    @wrap(BudgetsBackend, "create_budget")
    def create_budget(original: Any, backend: Any, account_id: str, budget: Any, notifications: Any) -> Any:
        check(budget)
        return original(backend, account_id, budget, notifications)

    @wrap(BudgetsBackend, "update_budget")
    def update_budget(original: Any, backend: Any, account_id: str, budget: Any) -> Any:
        check(budget)
        return original(backend, account_id, budget)


@book.rule("notices-per-budget", code="CreationLimitExceededException", source=f"{_API}/API_budgets_Notification.html")
def notices_per_budget(cloud: Cloud, delays: Delays) -> None:
    @wrap(BudgetsBackend, "create_budget")
    def create_budget(original: Any, backend: Any, account_id: str, budget: Any, notifications: Any) -> Any:
        if len(notifications or []) > NOTICES:
            raise _too_many("notification")
        return original(backend, account_id, budget, notifications)

    @wrap(BudgetsBackend, "create_notification")
    def create_notification(
        original: Any, backend: Any, account_id: str, budget_name: str, notification: Any, subscribers: Any
    ) -> Any:
        if len(of_name(backend, account_id, budget_name).notifications) >= NOTICES:
            raise _too_many("notification")
        return original(backend, account_id, budget_name, notification, subscribers)


@book.rule(
    "subscribers-per-notice", code="CreationLimitExceededException", source=f"{_API}/API_budgets_Notification.html"
)
def subscribers_per_notice(cloud: Cloud, delays: Delays) -> None:
    def check(subscribers: Iterable[Mapping[str, str]]) -> None:
        kinds = [one["SubscriptionType"] for one in subscribers]
        if kinds.count("EMAIL") > EMAILS or kinds.count("SNS") > TOPICS:
            raise _too_many("subscriber")

    @wrap(BudgetsBackend, "create_budget")
    def create_budget(original: Any, backend: Any, account_id: str, budget: Any, notifications: Any) -> Any:
        for entry in notifications or []:
            check(entry["Subscribers"])
        return original(backend, account_id, budget, notifications)

    @wrap(BudgetsBackend, "create_notification")
    def create_notification(
        original: Any, backend: Any, account_id: str, budget_name: str, notification: Any, subscribers: Any
    ) -> Any:
        check(subscribers)
        return original(backend, account_id, budget_name, notification, subscribers)

    @wrap(BudgetsBackend, "create_subscriber")
    def create_subscriber(original: Any, backend: Any, notice: Any, subscriber: Any) -> Any:
        check([*told_by(notice), subscriber])
        return original(backend, notice, subscriber)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
