"""Whether AWS counts by our tags, and what is said where it doesn't."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from aistratus import wire
from aistratus.cli.env_state import uncounted
from aistratus.costs.tags import TAGS, behind, standing
from aistratus.doctor import Finding, check_cost_tags

BUDGET = {"AccountId": "123456789012", "BudgetName": "tinyllama-dev-monthly"}


def rows(**status: str) -> list[dict[str, Any]]:
    return [{"TagKey": tag, "Type": "UserDefined", "Status": one} for tag, one in status.items()]


@pytest.mark.parametrize(
    ("listed", "told", "todo"),
    [
        (rows(Project="Active", Env="Active", Other="Inactive"), "active", False),
        (rows(Project="Active", Env="Inactive"), "not activated: Env;", True),
        (rows(Project="Active"), "doesn't offer Env for activation", True),
        ([], "doesn't offer Project and Env", True),
    ],
)
def test_tags_that_arent_active_are_named_with_the_command_that_activates_them(
    listed: list[dict[str, Any]], told: str, todo: bool
) -> None:
    found = standing(listed)
    assert told in found.what
    assert ("TagKey=Project,Status=Active TagKey=Env,Status=Active" in found.todo) is todo


def looked(spent: str | None, answer: dict[str, Any] | str) -> Finding:
    """The finding where the budget says this, and Cost Explorer, if it is asked, that: tags, or why it refuses."""
    budgets, ce = (boto3.client(name, "us-east-1", aws_access_key_id="x", aws_secret_access_key="x") for name in
                   ("budgets", "ce"))  # fmt: skip
    limit = {"BudgetName": "tinyllama-dev-monthly", "TimeUnit": "MONTHLY", "BudgetType": "COST"}
    with Stubber(budgets) as money, Stubber(ce) as tags:
        if spent is None:
            money.add_client_error("describe_budget", "NotFoundException", expected_params=BUDGET)
        else:
            counted = {"CalculatedSpend": {"ActualSpend": {"Amount": spent, "Unit": "USD"}}}
            money.add_response("describe_budget", {"Budget": {**limit, **counted}}, BUDGET)
        if isinstance(answer, str):
            tags.add_client_error("list_cost_allocation_tags", "AccessDeniedException", answer)
        elif answer:
            tags.add_response("list_cost_allocation_tags", answer, {"TagKeys": list(TAGS), "Type": "UserDefined"})
        aws: Any = SimpleNamespace(
            budgets=budgets, ce=ce, account="123456789012", name=lambda one: f"tinyllama-dev-{one}"
        )
        patient: Any = SimpleNamespace(cloud=aws)
        return check_cost_tags(patient)


def test_what_aws_has_counted_is_proof_and_costs_no_question() -> None:
    assert looked("0.37", {}) == Finding("cost tags", "ok", "AWS counts by them: $0.37 this month")
    assert looked(None, {}).state == "ok"


def test_a_budget_that_counts_nothing_has_cost_explorer_asked() -> None:
    assert looked("0", {"CostAllocationTags": rows(Project="Active", Env="Active")}).state == "ok"
    found = looked("0.0", {"CostAllocationTags": rows(Project="Inactive", Env="Inactive")})
    assert (found.state, found.what) == ("warn", "not activated: Project and Env; AWS's budgets count nothing")


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ("Failed to list Cost Allocation Tags: Linked account doesn't have access to cost allocation tags.",
         "have the management account activate Project and Env"),
        ("User not enabled for cost explorer access", "within a day of the first budget"),
    ],
)  # fmt: skip
def test_who_could_not_know_is_told_who_does(refused: str, told: str) -> None:
    found = looked("0", refused)
    assert found.state == "warn" and told in found.todo


def test_a_missing_permission_stays_one() -> None:
    with pytest.raises(ClientError):
        looked("0", "User: ann is not authorized to perform: ce:ListCostAllocationTags on resource: *")


@pytest.mark.parametrize(("money", "told"), [(True, "$3.00 that were metered"), (False, "")])
def test_only_where_things_cost_money_is_the_budget_expected_to_count(money: bool, told: str) -> None:
    item = {"pk": wire.METER_PK, "month": f"{datetime.now(UTC):%Y-%m}", "month_usd": 3.5, "day_usd": 0.5}
    dynamodb = boto3.client("dynamodb", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    listed = {"tinyllama-dev-monthly": {"CalculatedSpend": {"ActualSpend": {"Amount": "0.0", "Unit": "USD"}}}}
    aws: Any = SimpleNamespace(dynamodb=dynamodb, name="tinyllama-dev-{}".format, shared=lambda _, __: listed)
    session: Any = SimpleNamespace(asks=money)
    with Stubber(dynamodb) as stub:
        stub.add_response("get_item", {"Item": wire.pack(item)})
        said = uncounted(session, aws)
    assert told in said and bool(said) is money


@pytest.mark.parametrize(
    ("metered", "told"),
    [
        ({"month": "2026-11", "month_usd": 3.5, "day_usd": 0.5}, "nothing of $3.00 that were metered before today"),
        ({"month": "2026-11", "month_usd": 3.5, "day_usd": 3.0}, ""),
        ({"month": "2026-10", "month_usd": 3.5, "day_usd": 0.5}, ""),
        ({}, ""),
    ],
)
def test_status_says_when_aws_lags_behind_what_was_metered(metered: dict[str, Any], told: str) -> None:
    said = behind(metered, "2026-11")
    assert told in said and bool(said) is bool(told)
