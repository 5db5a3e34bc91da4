"""What somebody may do to budgets from outside: one change for each field that `up` repairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.budgets import Budget

Perturbation = Callable[[Cloud, Found], None]


def _change(**change: Any) -> Perturbation:
    """A budget is changed by telling all of it."""

    def perturb(aws: Cloud, found: Found) -> None:
        name = found.ids["name"]
        told = aws.budgets.describe_budget(AccountId=aws.account, BudgetName=name, ShowFilterExpression=True)["Budget"]
        kept = ("BudgetName", "BudgetType", "BudgetLimit", "TimeUnit", "FilterExpression", "Metrics")
        budget = {**{field: told[field] for field in kept}, **change}
        aws.budgets.update_budget(AccountId=aws.account, NewBudget=budget)

    return perturb


def _notices(aws: Cloud, found: Found) -> None:
    """A notice is replaced, if there is any, by one that comes too late and tells somebody else."""
    about = {"AccountId": aws.account, "BudgetName": found.ids["name"]}
    late = {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "Threshold": 900.0}
    stranger = {"SubscriptionType": "EMAIL", "Address": "stranger@example.com"}
    aws.budgets.create_notification(**about, Notification=late, Subscribers=[stranger])
    for there in aws.budgets.describe_notifications_for_budget(**about)["Notifications"][:-1][:1]:
        there.pop("NotificationState")
        aws.budgets.delete_notification(**about, Notification=there)


def _tags(aws: Cloud, found: Found) -> None:
    tags = [{"Key": "ManagedBy", "Value": "somebody"}]
    aws.budgets.tag_resource(ResourceARN=found.ids["arn"], ResourceTags=tags)


PERTURB: dict[tuple[type, str], Perturbation] = {
    (Budget, "limit_usd"): _change(BudgetLimit={"Amount": "100000", "Unit": "USD"}),
    (Budget, "counted"): _change(FilterExpression={"Tags": {"Key": "Project", "Values": ["another"]}}),
    (Budget, "metric"): _change(Metrics=["BlendedCost"]),
    (Budget, "period"): _change(TimeUnit="ANNUALLY"),
    (Budget, "notices"): _notices,
    (Budget, "tags"): _tags,
}
