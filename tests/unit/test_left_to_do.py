"""What `up` tells a person to do that it can't do itself."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from rich.console import Console

from aistratus.cli.outcomes import left_to_do, tell_of_the_way_out
from aistratus.cli.session import described
from aistratus.core.plan import Change, Plan, Survey
from aistratus.core.resource import Found
from aistratus.resources.budgets import Budget
from aistratus.settings_load import load

BUDGET = Budget(key="budget", name="monthly", limit_usd=20, counted={}, notices={})


def budget(action: Literal["create", "unchanged"]) -> Change:
    return Change(BUDGET, action, found=Found(state=BUDGET, ids={"id": "monthly"}))


def test_whose_budget_is_new_is_told_once_that_tags_must_be_activated() -> None:
    (sentence,) = left_to_do([budget("create")], account_changes=True)
    assert "cost allocation tags" in sentence and "doctor" in sentence
    assert left_to_do([budget("unchanged")], account_changes=True) == []
    assert left_to_do([budget("create")], account_changes=False) == []


@pytest.mark.parametrize(
    ("gateway", "told"),
    [(False, "without internet access; `aistratus up --replace`"), (True, "will have no internet access")],
)
def test_a_node_without_a_way_out_is_told_of_though_nothing_differs(gateway: bool, told: str) -> None:
    stack = described(load(environ={}, flags={"env": "dev", "region": "eu-central-1"}))
    node: Any = stack.by_key["node"]
    found = {
        "node": Found(state=replace(node, subnets=("private",)), ids={"id": "i-1"}),
        "subnet_public": Found(state=stack.by_key["subnet_public"], ids={"id": "public"}),
    }
    if gateway:
        found["nat_gateway"] = Found(state=stack.whole.by_key["nat_gateway"], ids={"id": "nat-1"})
    session: Any = SimpleNamespace(stack=stack)
    console = Console(file=io.StringIO(), width=200)
    assert tell_of_the_way_out(session, Plan((), Survey(found, {})), console)
    assert isinstance(console.file, io.StringIO)
    assert told in console.file.getvalue()
