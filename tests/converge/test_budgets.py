"""Budgets: made, repaired, removed, told apart from strangers', and their notices sent to whom they should."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from converge_engine import ACCOUNT, REGION, Engine
from lost_answers import lose_answers
from perturb_budgets import PERTURB

from aistratus import policies
from aistratus.cloud import Cloud
from aistratus.core.errors import Stranger
from aistratus.core.resource import Ref, Resource
from aistratus.policies import Names
from aistratus.resources.budgets import Budget, notice, owned_budgets
from aistratus.resources.sns import Topic

PERSON = "someone@example.com"


def stack(aws: Cloud, *people: str, limit_usd: float = 23.2) -> list[Resource]:
    names = Names("aws", ACCOUNT, REGION, aws.env)
    killer = Topic(key="killer", name="killer", policy=policies.killer_topic(names))
    told = people or (PERSON,)
    counted = {"Project": "tinyllama", "Env": aws.env}
    notices = {notice(50): told, notice(80): told, notice(100): told, notice(100, "forecasted"): told}
    return [
        killer,
        Budget(key="budget", name="monthly", limit_usd=limit_usd, counted=counted, notices=notices),
        Budget(
            key="budget_killer",
            name="killer",
            limit_usd=24.36,
            counted=counted,
            notices={notice(100): (Ref(killer, "arn"),)},
        ),
    ]


def notices(aws: Cloud, name: str) -> dict[tuple[str, float], list[str]]:
    """Whom each notice of a budget tells, by kind and percent."""
    about = {"AccountId": ACCOUNT, "BudgetName": aws.name(name)}
    found = {}
    for entry in aws.budgets.describe_notifications_for_budget(**about)["Notifications"]:
        entry.pop("NotificationState")
        answer = aws.budgets.describe_subscribers_for_notification(**about, Notification=entry)
        found[entry["NotificationType"], entry["Threshold"]] = [one["Address"] for one in answer["Subscribers"]]
    return found


def spend(endpoint: str, budget: str, actual: float, forecast: float) -> list[str]:
    """Has the embedded cloud count this; gives whom the notices told."""
    order = {"budget": budget, "actual_usd": actual, "forecast_usd": forecast}
    request = urllib.request.Request(f"{endpoint}/_aistratus/strict", json.dumps(order).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        told: list[str] = json.load(answer)["told"]
    return told


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    about: dict[str, Any] = {"AccountId": ACCOUNT, "BudgetName": aws.name("monthly"), "ShowFilterExpression": True}
    budget = aws.budgets.describe_budget(**about)["Budget"]
    assert (float(budget["BudgetLimit"]["Amount"]), budget["BudgetLimit"]["Unit"]) == (23.2, "USD")
    tags = [part["Tags"] for part in budget["FilterExpression"]["And"] if "Tags" in part]
    assert tags == [{"Key": "Env", "Values": [aws.env]}, {"Key": "Project", "Values": ["tinyllama"]}]
    assert notices(aws, "monthly") == {
        ("ACTUAL", 50.0): [PERSON],
        ("ACTUAL", 80.0): [PERSON],
        ("ACTUAL", 100.0): [PERSON],
        ("FORECASTED", 100.0): [PERSON],
    }
    assert notices(aws, "killer") == {("ACTUAL", 100.0): [f"arn:aws:sns:{REGION}:{ACCOUNT}:{aws.name('killer')}"]}
    assert engine.plan(*stack(aws)).empty


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs(stack(standing.aws), "budget", field, PERTURB[kind, field])


def test_people_come_and_go_and_no_notice_is_lost_on_the_way(aws: Cloud, engine: Engine) -> None:
    for people in (("a@example.com", "b@example.com"), ("c@example.com",), ("c@example.com", "a@example.com", PERSON)):
        engine.up(*stack(aws, *people))
        assert {tuple(who) for who in map(sorted, notices(aws, "monthly").values())} == {tuple(sorted(people))}
        assert engine.plan(*stack(aws, *people)).empty


def test_notices_that_somebody_added_go_whatever_their_threshold(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    about = {"AccountId": ACCOUNT, "BudgetName": aws.name("killer")}
    for kind, sign, threshold in (("ABSOLUTE_VALUE", "LESS_THAN", 1234567.8), ("PERCENTAGE", "EQUAL_TO", 33.3)):
        added = {"NotificationType": "ACTUAL", "ComparisonOperator": sign, "Threshold": threshold}
        whom = [{"SubscriptionType": "EMAIL", "Address": "stranger@example.com"}]
        aws.budgets.create_notification(**about, Notification={**added, "ThresholdType": kind}, Subscribers=whom)
    assert engine.differences(*stack(aws)) == {"budget_killer": {"notices"}}
    engine.up(*stack(aws))
    assert engine.plan(*stack(aws)).empty


def test_lost_answers_make_nothing_twice(aws: Cloud, engine: Engine) -> None:
    lost = lose_answers(aws, "budgets")
    engine.up(*stack(aws))
    engine.up(*stack(aws, "a@example.com", "b@example.com", limit_usd=10))
    engine.up(*stack(aws))
    assert {"CreateBudget", "UpdateBudget", "UpdateSubscriber", "CreateSubscriber", "DeleteSubscriber"} <= set(lost)
    assert engine.plan(*stack(aws)).empty


def test_many_budgets_of_others_are_read_page_by_page(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    for number in range(101):
        budget = {
            "BudgetName": f"0-{aws.env}-{number}",
            "BudgetType": "COST",
            "TimeUnit": "DAILY",
            "BudgetLimit": {"Amount": "1", "Unit": "USD"},
        }
        aws.budgets.create_budget(AccountId=ACCOUNT, Budget=budget)
    engine.up(Budget(key="last", name="zz", limit_usd=1, counted={"Project": "tinyllama"}, notices={}))
    assert {found.state.key for found in owned_budgets(aws.fresh())} == {"budget", "budget_killer", "last"}
    assert engine.plan(*stack(aws)).empty


def test_notices_go_out_once_and_the_killer_topic_takes_them(aws: Cloud, engine: Engine, endpoint: str) -> None:
    engine.up(*stack(aws))
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:{aws.name('killer')}"
    assert spend(endpoint, aws.name("monthly"), 12, 20) == [PERSON]
    assert spend(endpoint, aws.name("monthly"), 13, 20) == []
    assert spend(endpoint, aws.name("killer"), 24.36, 30) == []
    assert spend(endpoint, aws.name("killer"), 24.37, 30) == [topic]
    assert engine.plan(*stack(aws)).empty


def test_a_topic_that_does_not_let_budgets_publish_is_not_told(aws: Cloud, engine: Engine, endpoint: str) -> None:
    arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:{aws.name('killer')}"
    _, _, killer = stack(aws)
    assert isinstance(killer, Budget)
    engine.up(Topic(key="killer", name="killer"), Budget(**{**vars(killer), "notices": {notice(100): (arn,)}}))
    assert spend(endpoint, aws.name("killer"), 30, 30) == []


def test_down_removes_them_and_up_makes_them_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    assert engine.down(*stack(aws)).ok
    assert owned_budgets(aws.fresh()) == []
    assert engine.down(*stack(aws)).ok


def test_a_budget_with_our_name_without_our_tags_is_refused_and_left_alone(aws: Cloud, engine: Engine) -> None:
    budget = {
        "BudgetName": aws.name("monthly"),
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": "1", "Unit": "USD"},
    }
    aws.budgets.create_budget(AccountId=ACCOUNT, Budget=budget)
    assert [type(change.error) for change in engine.try_up(*stack(aws)).failures] == [Stranger]
    assert engine.down(*stack(aws)).failures
    assert aws.budgets.describe_budget(AccountId=ACCOUNT, BudgetName=aws.name("monthly"))["Budget"]
