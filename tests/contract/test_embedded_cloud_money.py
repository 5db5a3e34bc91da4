"""Budgets and the topics that they tell: limits, currency, confirmation, and functions that are really invoked."""

from __future__ import annotations

import json
from typing import Any

from embedded_cloud_parts import REGION, Connect, eventually, function, log_lines, refused, unique, zipped
from strict_judge import Judge

from aistratus.local.process import Running

ACCOUNT = "123456789012"

# --- budgets ----------------------------------------------------------------------------------------------------


def budget(**different: Any) -> dict[str, Any]:
    limit = {"Amount": "20", "Unit": "USD"}
    plain = {"BudgetName": unique(), "BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": limit}
    return {**plain, **different}


def emails(count: int) -> list[dict[str, str]]:
    return [{"SubscriptionType": "EMAIL", "Address": f"{number}@example.com"} for number in range(count)]


def notification(percent: float) -> dict[str, Any]:
    return {"NotificationType": "ACTUAL", "ComparisonOperator": "GREATER_THAN", "Threshold": percent}


def test_budget_in_dollars(judge: Judge) -> None:
    budgets, wanted = judge("budgets"), budget()
    euros = {**wanted, "BudgetLimit": {"Amount": "20", "Unit": "EUR"}}
    assert refused(budgets.create_budget, AccountId=ACCOUNT, Budget=euros) == "InvalidParameterException"
    budgets.create_budget(AccountId=ACCOUNT, Budget=wanted)
    assert refused(budgets.update_budget, AccountId=ACCOUNT, NewBudget=euros) == "InvalidParameterException"


def test_notices_per_budget(judge: Judge) -> None:
    budgets, wanted = judge("budgets"), budget()
    ten = [{"Notification": notification(percent), "Subscribers": emails(1)} for percent in range(1, 11)]
    eleventh: dict[str, Any] = {"Notification": notification(11), "Subscribers": emails(1)}
    budgets.create_budget(AccountId=ACCOUNT, Budget=wanted, NotificationsWithSubscribers=ten)
    about = {"AccountId": ACCOUNT, "BudgetName": wanted["BudgetName"]}
    assert refused(budgets.create_notification, **about, **eleventh) == "CreationLimitExceededException"
    budgets.delete_notification(**about, Notification=notification(1))
    budgets.create_notification(**about, **eleventh)


def test_subscribers_per_notice(judge: Judge) -> None:
    budgets, wanted = judge("budgets"), budget()
    topics = [{"SubscriptionType": "SNS", "Address": f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}"} for name in "ab"]
    most = {"Notification": notification(50), "Subscribers": [*emails(10), topics[0]]}
    too_many = {"Notification": notification(50), "Subscribers": topics}
    create = {"AccountId": ACCOUNT, "Budget": wanted}
    code = refused(budgets.create_budget, **create, NotificationsWithSubscribers=[too_many])
    assert code == "CreationLimitExceededException"
    budgets.create_budget(**create, NotificationsWithSubscribers=[most])
    about = {"AccountId": ACCOUNT, "BudgetName": wanted["BudgetName"], "Notification": notification(50)}
    for subscriber in (topics[1], emails(11)[10]):
        code = refused(budgets.create_subscriber, **about, Subscriber=subscriber)
        assert code == "CreationLimitExceededException"


def test_budgets_and_notices_have_one_name_each(connect: Connect) -> None:
    budgets, wanted = connect("budgets"), budget()
    create = {"AccountId": ACCOUNT, "Budget": wanted}
    first = {"Notification": notification(50), "Subscribers": emails(1)}
    budgets.create_budget(**create, NotificationsWithSubscribers=[first])
    assert refused(budgets.create_budget, **create) == "DuplicateRecordException"
    about = {"AccountId": ACCOUNT, "BudgetName": wanted["BudgetName"]}
    assert refused(budgets.create_notification, **about, **first) == "DuplicateRecordException"
    notice = {**about, "Notification": notification(50)}
    assert refused(budgets.create_subscriber, **notice, Subscriber=emails(1)[0]) == "DuplicateRecordException"
    assert refused(budgets.delete_subscriber, **notice, Subscriber=emails(2)[1]) == "NotFoundException"
    budgets.delete_subscriber(**notice, Subscriber=emails(1)[0])
    assert refused(budgets.describe_subscribers_for_notification, **notice) == "NotFoundException"
    budgets.delete_budget(**about)
    assert refused(budgets.describe_budget, **about) == "NotFoundException"


def test_a_budget_has_one_kind_of_filter(connect: Connect) -> None:
    new = {"FilterExpression": {"Tags": {"Key": "Env", "Values": ["dev"]}}, "Metrics": ["UnblendedCost"]}
    both = budget(**new, CostFilters={"TagKeyValue": ["user:Env$dev"]})
    assert refused(connect("budgets").create_budget, AccountId=ACCOUNT, Budget=both) == "InvalidParameterException"
    connect("budgets").create_budget(AccountId=ACCOUNT, Budget=budget(**new))


# --- topics -----------------------------------------------------------------------------------------------------


def test_a_topics_name_is_taken_by_its_tags(connect: Connect) -> None:
    sns, name = connect("sns"), unique()
    tags = [{"Key": "of", "Value": "one"}]
    arn = sns.create_topic(Name=name, Tags=tags)["TopicArn"]
    assert sns.create_topic(Name=name, Tags=tags)["TopicArn"] == arn
    assert refused(sns.create_topic, Name=name, Tags=[{"Key": "of", "Value": "another"}]) == "InvalidParameter"
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    assert refused(sns.create_topic, Name=name, Tags=tags, Attributes={"Policy": policy}) == "InvalidParameter"


def test_a_mail_subscription_waits_for_a_click(connect: Connect, embedded_cloud: Running) -> None:
    sns, person = connect("sns"), f"{unique()}@example.com"
    topic = sns.create_topic(Name=unique())["TopicArn"]

    def mails() -> list[dict[str, Any]]:
        lines = (embedded_cloud.log.parent / "mail.jsonl").read_text().splitlines()
        return [mail for mail in map(json.loads, lines) if mail["to"] == person]

    subscribe = {"TopicArn": topic, "Protocol": "email", "Endpoint": person}
    assert sns.subscribe(**subscribe)["SubscriptionArn"] == "pending confirmation"
    (listed,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert listed["SubscriptionArn"] == "PendingConfirmation"
    assert refused(sns.unsubscribe, SubscriptionArn="PendingConfirmation") == "InvalidParameter"
    sns.publish(TopicArn=topic, Message="too early")
    assert len(mails()) == 1
    token = mails()[0]["text"].rpartition(" ")[2]
    assert refused(sns.confirm_subscription, TopicArn=topic, Token="wrong") == "InvalidParameter"
    arn = sns.confirm_subscription(TopicArn=topic, Token=token)["SubscriptionArn"]
    assert sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"][0]["SubscriptionArn"] == arn
    sns.publish(TopicArn=topic, Subject="Hello", Message="now")
    assert [(mail["subject"], mail["text"]) for mail in mails()[1:]] == [("Hello", "now")]
    sns.delete_topic(TopicArn=topic)
    assert refused(sns.list_subscriptions_by_topic, TopicArn=topic) == "NotFound"


def test_a_topic_invokes_a_function_that_lets_it(connect: Connect) -> None:
    sns, lambda_ = connect("sns"), connect("lambda")
    code = "def handle(event, context):\n    print('told', event['Records'][0]['Sns']['Message'])\n"
    name = function(connect, Code={"ZipFile": zipped({"code.py": code})})
    connect("logs").create_log_group(logGroupName=f"/aws/lambda/{name}")
    topic = sns.create_topic(Name=unique())["TopicArn"]
    arn = lambda_.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    sns.publish(TopicArn=topic, Message="not allowed")
    statement = {"StatementId": "sns", "Action": "lambda:InvokeFunction", "Principal": "sns.amazonaws.com"}
    lambda_.add_permission(FunctionName=name, **statement, SourceArn=topic)
    sns.publish(TopicArn=topic, Message="allowed")

    def told() -> list[str]:
        return [line.strip() for line in log_lines(connect, f"/aws/lambda/{name}") if line.startswith("told")]

    assert eventually(told) == ["told allowed"]
