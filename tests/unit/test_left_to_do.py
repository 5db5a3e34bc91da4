"""What `up` tells a person to do that it can't do itself."""

from __future__ import annotations

from typing import Literal

from aistratus.cli.lifecycle import left_to_do
from aistratus.core.plan import Change
from aistratus.core.resource import Found
from aistratus.resources.budgets import Budget
from aistratus.resources.sns import UNCONFIRMED, TopicSubscription

PERSON = "someone@example.com"
BUDGET = Budget(key="budget", name="monthly", limit_usd=20, counted={}, notices={})


def subscription(health: str) -> Change:
    state = TopicSubscription(key="alerts_operator", topic="arn:aws:sns:…:alerts", protocol="email", endpoint=PERSON)
    return Change(state, "unchanged", found=Found(state=state, ids={"id": "x", "endpoint": PERSON}, health=health))


def budget(action: Literal["create", "unchanged"]) -> Change:
    return Change(BUDGET, action, found=Found(state=BUDGET, ids={"id": "monthly"}))


def test_a_click_that_is_missing_is_asked_for_until_it_comes() -> None:
    (sentence,) = left_to_do([subscription(UNCONFIRMED)], account_changes=False)
    assert sentence.startswith(PERSON)
    assert left_to_do([subscription("ok")], account_changes=False) == []


def test_whose_budget_is_new_is_told_once_that_tags_must_be_activated() -> None:
    (sentence,) = left_to_do([budget("create")], account_changes=True)
    assert "cost allocation tags" in sentence
    assert left_to_do([budget("unchanged")], account_changes=True) == []
    assert left_to_do([budget("create")], account_changes=False) == []
