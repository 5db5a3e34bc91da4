"""What `up` tells a person to do that it can't do itself."""

from __future__ import annotations

from typing import Literal

from aistratus.cli.lifecycle import left_to_do
from aistratus.core.plan import Change
from aistratus.core.resource import Found
from aistratus.resources.budgets import Budget

BUDGET = Budget(key="budget", name="monthly", limit_usd=20, counted={}, notices={})


def budget(action: Literal["create", "unchanged"]) -> Change:
    return Change(BUDGET, action, found=Found(state=BUDGET, ids={"id": "monthly"}))


def test_whose_budget_is_new_is_told_once_that_tags_must_be_activated() -> None:
    (sentence,) = left_to_do([budget("create")], account_changes=True)
    assert "cost allocation tags" in sentence
    assert left_to_do([budget("unchanged")], account_changes=True) == []
    assert left_to_do([budget("create")], account_changes=False) == []
