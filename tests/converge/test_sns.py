"""Topics and subscriptions: made, repaired, removed, never made twice, and told apart from strangers'."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from converge_engine import ACCOUNT, REGION, Engine
from lost_answers import lose_answers
from perturb_sns import PERTURB

from aistratus.cli.env_state import waits_for_a_person
from aistratus.cloud import Cloud
from aistratus.core.errors import Stranger
from aistratus.core.resource import Found, Ref, Resource
from aistratus.resources.sns import Topic, TopicSubscription, owned_topics

PERSON = "someone@example.com"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:told"


def topic_arn(aws: Cloud, name: str) -> str:
    return f"arn:aws:sns:{REGION}:{ACCOUNT}:{aws.name(name)}"


def stack(aws: Cloud, *, person: str = PERSON) -> list[Resource]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "budgets.amazonaws.com"},
        "Action": "SNS:Publish",
        "Resource": topic_arn(aws, "killer"),
        "Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
    }
    killer = Topic(key="killer", name="killer", policy={"Version": "2012-10-17", "Statement": [statement]})
    alerts = Topic(key="alerts", name="alerts")
    return [
        killer,
        alerts,
        TopicSubscription(key="killer_function", topic=Ref(killer, "arn"), protocol="lambda", endpoint=FUNCTION),
        TopicSubscription(key="alerts_person", topic=Ref(alerts, "arn"), protocol="email", endpoint=person),
    ]


def listed(aws: Cloud, name: str) -> list[tuple[str, str]]:
    """Address and ARN of all subscriptions of a topic."""
    answer = aws.sns.list_subscriptions_by_topic(TopicArn=topic_arn(aws, name))
    return [(entry["Endpoint"], entry["SubscriptionArn"]) for entry in answer["Subscriptions"]]


def click(aws: Cloud, mailbox: Path, person: str) -> None:
    """Does what the person does with the last mail that asks for a confirmation."""
    arn = topic_arn(aws, "alerts")
    mails = [json.loads(line) for line in mailbox.read_text().splitlines()]
    texts = [mail["text"] for mail in mails if mail["to"] == person and arn in mail["text"]]
    token = re.search(r"Token: (\w+)", texts[-1])
    assert token
    aws.sns.confirm_subscription(TopicArn=arn, Token=token[1])


@pytest.fixture
def mailbox(endpoint: str, cloud_folder: Path) -> Path:
    """Where the embedded cloud writes the mails that it would send."""
    return cloud_folder / "mail.jsonl"


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    arn = topic_arn(aws, "killer")
    policy = json.loads(aws.sns.get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"])
    assert policy["Statement"][0]["Principal"] == {"Service": "budgets.amazonaws.com"}
    tags = {tag["Key"]: tag["Value"] for tag in aws.sns.list_tags_for_resource(ResourceArn=arn)["Tags"]}
    assert tags == aws.tags("killer")
    assert [endpoint for endpoint, _ in listed(aws, "killer")] == [FUNCTION]
    assert listed(aws, "alerts") == [(PERSON, "PendingConfirmation")]
    resources = stack(aws)
    assert engine.plan(*resources).empty
    assert engine.calls(lambda: engine.plan(*resources)) <= 1.5 * len(resources)


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs(stack(standing.aws), "killer", field, PERTURB[kind, field])


def test_a_person_is_asked_once_and_the_health_says_that_the_click_is_missing(
    aws: Cloud, engine: Engine, mailbox: Path
) -> None:
    def found() -> Found:
        return next(c.found for c in engine.plan(*stack(aws)).changes if c.key == "alerts_person" and c.found)

    engine.up(*stack(aws))
    engine.up(*stack(aws))
    assert (found().health, found().todo.split()[0], waits_for_a_person(found())) == ("unconfirmed", PERSON, True)
    asked = [line for line in mailbox.read_text().splitlines() if topic_arn(aws, "alerts") in line]
    assert len(asked) == 1
    click(aws, mailbox, PERSON)
    assert (found().health, found().todo) == ("ok", "")
    assert engine.plan(*stack(aws)).empty


def test_another_address_takes_the_place_of_the_old_one(aws: Cloud, engine: Engine, mailbox: Path) -> None:
    engine.up(*stack(aws))
    click(aws, mailbox, PERSON)
    recorded: dict[str, Any] = engine.ledger.read(["alerts_person"])
    engine.aws._recorded = lambda: recorded
    assert engine.differences(*stack(aws, person="new@example.com")) == {"alerts_person": {"endpoint"}}
    engine.up(*stack(aws, person="new@example.com"))
    assert listed(aws, "alerts") == [("new@example.com", "PendingConfirmation")]


def test_a_subscription_that_somebody_ended_is_made_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    aws.sns.unsubscribe(SubscriptionArn=listed(aws, "killer")[0][1])
    engine.up(*stack(aws))
    assert [endpoint for endpoint, _ in listed(aws, "killer")] == [FUNCTION]


def test_lost_answers_make_nothing_twice(aws: Cloud, engine: Engine) -> None:
    lost = lose_answers(aws, "sns")
    engine.up(*stack(aws))
    assert {"CreateTopic", "Subscribe", "SetTopicAttributes"} <= set(lost)
    assert len(listed(aws, "killer")) == len(listed(aws, "alerts")) == 1
    assert engine.plan(*stack(aws)).empty


def test_down_removes_them_and_up_makes_them_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    assert engine.down(*stack(aws)).ok
    assert owned_topics(aws.fresh()) == []
    engine.up(*stack(aws))
    assert engine.down(*stack(aws)).ok


def test_a_topic_with_our_name_without_our_tags_is_refused_and_left_alone(aws: Cloud, engine: Engine) -> None:
    arn = aws.sns.create_topic(Name=aws.name("alerts"))["TopicArn"]
    aws.sns.subscribe(TopicArn=arn, Protocol="email", Endpoint=PERSON)
    outcome = engine.try_up(*stack(aws))
    assert [type(change.error) for change in outcome.failures] == [Stranger]
    assert engine.down(*stack(aws)).failures
    assert listed(aws, "alerts") == [(PERSON, "PendingConfirmation")]


def test_owned_finds_what_an_older_description_left_and_no_other_env(aws: Cloud, engine: Engine) -> None:
    tags = [{"Key": "Project", "Value": "tinyllama"}, {"Key": "Env", "Value": f"{aws.env}-2"}]
    other = aws.sns.create_topic(Name=aws.name("2-alerts"), Tags=tags)["TopicArn"]
    engine.up(*stack(aws), Topic(key="old", name="old"))
    assert {found.state.key for found in owned_topics(aws.fresh())} == {"killer", "alerts", "old"}
    assert engine.down(*stack(aws)).ok
    assert owned_topics(aws.fresh()) == []
    assert aws.sns.get_topic_attributes(TopicArn=other)
