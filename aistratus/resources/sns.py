"""SNS topics and their subscriptions.

A topic's ARN follows from its name, so it is found without a listing. Subscriptions have no tags: they belong to their
topic, and are identified by protocol and address. The ledger records the subscribed address, so that it is known when
the settings name another one.

A mail subscription must be confirmed. Until the person clicks the link in AWS's mail, it has no ARN and can't be
removed; AWS drops it after 48 hours, or with its topic. Subscribing again would send another mail, so a pending
subscription is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Ref, Resource, policy_document, reconciles
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import at_once, tag_list, tag_mapping, unless_gone
from aistratus.resources.lambda_aliases import function_arn

GONE = frozenset({"NotFound", "NotFoundException", "ResourceNotFound", "ResourceNotFoundException"})
"""SNS has two errors, and each an alias. Source: SNS API reference, GetTopicAttributes and ListTagsForResource."""

TAGS_FREE = Wait(
    what="SNS forgets the tags of the deleted topic that had this ARN, or ends another change of tags",
    within=120,
    codes=frozenset({"ConcurrentAccess", "ConcurrentAccessException", "StaleTag", "StaleTagException"}),
)
"""A topic made anew soon after its deletion, as by `down` and `up`, meets the old one's tags: "Wait a short while and
then retry the operation". Source: SNS API reference, errors of CreateTopic and DeleteTopic, StaleTag.
"""

TOPIC_SETTLES = Wait(
    what="SNS knows the new topic everywhere, or ends another change of its tags",
    within=60,
    codes=GONE | TAGS_FREE.codes,
)
"""Only for calls on a topic that this very run has made or seen. Source: SNS API reference, TagResource."""

TOPIC_GONE = Wait(what="the deleted topic no longer answers", within=60)
UNSUBSCRIBED = Wait(what="SNS no longer lists the removed subscription", within=60)

UNCONFIRMED = "unconfirmed"
"""The health of a subscription that waits for a click."""

Protocol = Literal["email", "lambda"]


# --- topics -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Topic(Resource):
    """A topic named `tinyllama-<env>-<name>`.

    policy: who may publish besides the account's own people and roles; `None`: not managed.
    """

    name: str
    policy: Mapping[str, Any] | None = policy_document(default=None)

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})


def find_topic(aws: Cloud, want: Topic) -> Found | None:
    """By name."""
    arn = topic_arn(aws, want.name)
    tags, attributes = at_once(
        lambda: _tags(aws, arn), lambda: _attributes(aws, arn) if want.policy is not None else {}
    )
    if tags is None or attributes is None:
        return None
    aws.require_ours("topic", aws.name(want.name), tags, want.key)
    policy = json.loads(attributes["Policy"]) if attributes.get("Policy") else None
    return _found_topic(aws, Topic(key=want.key, name=want.name, policy=policy), tags)


def owned_topics(aws: Cloud) -> list[Found]:
    """By tags, among the topics with our name."""
    pages = aws.sns.get_paginator("list_topics").paginate()
    names = [topic["TopicArn"].rpartition(":")[2] for page in pages for topic in page.get("Topics", [])]
    owned = []
    for name in sorted(name for name in names if name.startswith(aws.prefix)):
        suffix = name.removeprefix(aws.prefix)
        tags = _tags(aws, topic_arn(aws, suffix))
        if tags is not None and aws.owns(tags):
            owned.append(_found_topic(aws, Topic(key=tags["aistratus:key"], name=suffix), tags))
    return owned


def remove_topic(aws: Cloud, have: Found) -> None:
    """Removes it and with it what hangs on it, and waits until it doesn't answer any more."""
    arn = have.ids["arn"]
    unless_gone(GONE, settle, wait=TAGS_FREE, call=aws.sns.delete_topic, clock=aws.clock, TopicArn=arn)
    until(TOPIC_GONE, lambda: True if _tags(aws.fresh(), arn) is None else None, clock=aws.clock)


@reconciles(Topic, find=find_topic, remove=remove_topic, owned=owned_topics)
def ensure_topic(aws: Cloud, want: Topic, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        # Without attributes: a second creation with the same tags gives the same topic, one with others is refused.
        have = aws.create_once(
            "sns",
            "create_topic",
            look=lambda cloud: find_topic(cloud, want),
            taken={"InvalidParameter", "InvalidParameterException"},
            settling=TAGS_FREE,
            Name=aws.name(want.name),
            Tags=tag_list(aws.tags(want.key)),
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    arn = have.ids["arn"]
    if "tags" in changes:
        tags = tag_list(aws.tags(want.key))
        settle(TOPIC_SETTLES, aws.sns.tag_resource, clock=aws.clock, ResourceArn=arn, Tags=tags)
    if "policy" in changes:
        policy = {"AttributeName": "Policy", "AttributeValue": json.dumps(want.policy)}
        settle(TOPIC_SETTLES, aws.sns.set_topic_attributes, clock=aws.clock, TopicArn=arn, **policy)
    return await_match(find_topic, aws, want)


def topic_arn(aws: Cloud, name: str) -> str:
    """The ARN of our topic with this name."""
    return aws.arn("sns", aws.name(name))


def _found_topic(aws: Cloud, state: Topic, tags: Mapping[str, str]) -> Found:
    name = aws.name(state.name)
    return Found(state=state, ids={"id": name, "name": name, "arn": topic_arn(aws, state.name)}, tags=tags)


def _attributes(aws: Cloud, arn: str) -> Mapping[str, str] | None:
    answer = unless_gone(GONE, aws.sns.get_topic_attributes, TopicArn=arn)
    attributes: Mapping[str, str] | None = answer["Attributes"] if answer else None
    return attributes


def _tags(aws: Cloud, arn: str) -> dict[str, str] | None:
    """All tags; `None` if there is no such topic."""

    def read() -> dict[str, str] | None:
        answer = unless_gone(GONE, aws.sns.list_tags_for_resource, ResourceArn=arn)
        return tag_mapping(answer.get("Tags")) if answer else None

    return aws.shared(f"sns.tags.{arn}", read)


# --- subscriptions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TopicSubscription(Resource):
    """Who is told what is published to a topic.

    topic: ARN of the topic.
    endpoint: an e-mail address, or the ARN of a function or alias that lets SNS invoke it.
    """

    topic: Ref | str
    protocol: Protocol
    endpoint: Ref | str

    replace_on: ClassVar[frozenset[str]] = frozenset({"topic", "protocol"})


def find_subscription(aws: Cloud, want: TopicSubscription) -> Found | None:
    """By protocol and address; else by the address that was subscribed for this key before."""
    topic = _topic(aws, want.topic)
    tags = _tags(aws, topic)
    if tags is None or not aws.owns(tags):
        return None
    there = [entry for entry in _subscriptions(aws, topic) if entry["Protocol"] == want.protocol]
    wanted = function_arn(aws, want.endpoint) if want.protocol == "lambda" else str(want.endpoint)
    for endpoint in (wanted, aws.recorded(want.key).get("endpoint")):
        for entry in there:
            if endpoint and entry["Endpoint"].lower() == endpoint.lower():
                return _found_subscription(want, topic, endpoint, entry["SubscriptionArn"])
    return None


def remove_subscription(aws: Cloud, have: Found) -> None:
    """Ends it; one that waits for a click ends with its topic, or by itself."""
    arn, topic = have.ids["arn"], have.ids["topic"]

    def gone() -> bool | None:
        listed = [entry["SubscriptionArn"] for entry in _subscriptions(aws.fresh(), topic)]
        return None if arn in listed else True

    if arn:
        unless_gone(GONE, aws.sns.unsubscribe, SubscriptionArn=arn)
        until(UNSUBSCRIBED, gone, clock=aws.clock)


@reconciles(TopicSubscription, find=find_subscription, remove=remove_subscription)
def ensure_subscription(aws: Cloud, want: TopicSubscription, have: Found | None, changes: frozenset[str]) -> Found:
    def look(cloud: Cloud) -> Found | None:
        found = find_subscription(cloud, want)
        return found if found is not None and not diff(want, found, {}) else None

    found = aws.create_once(
        "sns",
        "subscribe",
        look=look,
        settling=TOPIC_SETTLES,
        TopicArn=want.topic,
        Protocol=want.protocol,
        Endpoint=want.endpoint,
    )
    if have is not None:
        remove_subscription(aws, have)  # the settings name another address by now
    return found


def _topic(aws: Cloud, value: Ref | str) -> str:
    """The ARN that a field stands for."""
    if isinstance(value, Ref):
        assert isinstance(value.to, Topic)
        return topic_arn(aws, value.to.name)
    return value


def _found_subscription(want: TopicSubscription, topic: str, endpoint: str, arn: str) -> Found:
    confirmed = arn.startswith("arn:")
    state = TopicSubscription(key=want.key, topic=topic, protocol=want.protocol, endpoint=endpoint)
    ids = {
        "id": f"{topic.rpartition(':')[2]}:{want.key}",
        "arn": arn if confirmed else "",
        "topic": topic,
        "endpoint": endpoint,
    }
    if confirmed:
        return Found(state=state, ids=ids)
    todo = f"{endpoint} gets no mail until the link in AWS's mail to it is clicked"
    return Found(state=state, ids=ids, health=UNCONFIRMED, todo=todo)


def _subscriptions(aws: Cloud, topic: str) -> list[Mapping[str, str]]:
    """What hangs on a topic, confirmed before unconfirmed. What somebody ended is listed as `Deleted` for a while.

    Source: terraform-provider-aws and Ansible both had to leave out this undocumented value (ansible/ansible 20086).
    """

    def read() -> list[Mapping[str, str]]:
        pages = aws.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        listed = unless_gone(GONE, lambda: [entry for page in pages for entry in page.get("Subscriptions", [])])
        alive = [entry for entry in listed or [] if entry["SubscriptionArn"] != "Deleted"]
        return sorted(alive, key=lambda entry: not entry["SubscriptionArn"].startswith("arn:"))

    return aws.shared(f"sns.subscriptions.{topic}", read)
