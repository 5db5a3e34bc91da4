"""SNS: a topic's name is taken by its tags, mails wait for a click, and functions are really invoked.

Mails aren't sent: they are written to `mail.jsonl` in the state folder, one JSON object a line (`to`, `subject`,
`text`). The mail that asks for a confirmation holds the token for ConfirmSubscription, which stands for the click.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from moto.awslambda.utils import get_backend
from moto.core.responses import ActionResult
from moto.core.utils import iso_8601_datetime_with_milliseconds
from moto.sns.exceptions import SNSInvalidParameter, SNSNotFoundError
from moto.sns.models import SNSBackend, Subscription, Topic, sns_backends
from moto.sns.responses import SNSResponse

from aistratus.local.gateway.permission import may_invoke
from aistratus.local.process import MAILBOX
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.shim.policy_evaluation import ALLOWED, Request, decide

log = logging.getLogger(__name__)

SNS: Final = "sns.amazonaws.com"
PENDING: Final = "PendingConfirmation"
"""What stands in a listing where the ARN will be."""


def patch(cloud: Cloud) -> None:
    _names()
    _subscriptions(cloud)
    _confirmation()
    _delivery(cloud)


def _names() -> None:
    """A second topic of one name is the first one if it is to be the same, and is refused otherwise.

    https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html
    """

    @wrap(SNSBackend, "create_topic")
    def create_topic(
        original: Any,
        backend: SNSBackend,
        name: str,
        attributes: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> Topic:
        there = next((topic for topic in backend.topics.values() if topic.name == name), None)
        if there is not None:
            if tags and tags != there._tags:
                raise SNSInvalidParameter("Invalid parameter: Tags Reason: Topic already exists with different tags")
            policy = (attributes or {}).get("Policy")
            if policy and json.loads(policy) != json.loads(there.policy):
                raise SNSInvalidParameter(
                    "Invalid parameter: Attributes Reason: Topic already exists with different attributes"
                )
        topic: Topic = original(backend, name, attributes, tags)
        return topic

    @wrap(SNSBackend, "set_topic_attribute")
    def set_topic_attribute(original: Any, backend: SNSBackend, arn: str, name: str, value: str) -> None:
        if name == "policy":
            try:
                json.loads(value)
            except ValueError:
                raise SNSInvalidParameter("Invalid parameter: Policy Error: null") from None
        original(backend, arn, name, value)

    @wrap(SNSResponse, "get_topic_attributes")
    def get_topic_attributes(original: Any, self: Any) -> ActionResult:
        result: ActionResult = original(self)
        topic = self.backend.get_topic(self._get_param("TopicArn"))
        states = [_pending(one) for one in self.backend._get_topic_subscriptions(topic)]
        attributes = result.result["Attributes"]  # type: ignore[index]
        attributes.update(SubscriptionsPending=str(sum(states)), SubscriptionsConfirmed=str(states.count(False)))
        return result


def _subscriptions(cloud: Cloud) -> None:
    """What waits for a click has no ARN that anybody could use."""

    @wrap(SNSResponse, "subscribe")
    def subscribe(original: Any, self: Any) -> ActionResult:
        topic, endpoint = self._get_param("TopicArn"), self._get_param("Endpoint")
        original(self)
        subscription = self.backend._find_subscription(topic, endpoint, self._get_param("Protocol"))
        if not _pending(subscription):
            return ActionResult({"SubscriptionArn": subscription.arn})
        token = subscription.__dict__.setdefault("token", secrets.token_hex(32))
        text = f"You have chosen to subscribe to the topic {topic}. Token: {token}"
        deliver_mail(cloud, endpoint, "AWS Notification - Subscription Confirmation", text)
        wants_arn = str(self._get_param("ReturnSubscriptionArn")).lower() == "true"
        return ActionResult({"SubscriptionArn": subscription.arn if wants_arn else "pending confirmation"})

    for operation in ("list_subscriptions", "list_subscriptions_by_topic"):

        @wrap(SNSResponse, operation)
        def listed(original: Any, self: Any) -> ActionResult:
            result: Any = original(self).result
            return ActionResult({**result, "Subscriptions": [_entry(one) for one in result["Subscriptions"]]})

    @wrap(SNSBackend, "unsubscribe")
    def unsubscribe(original: Any, backend: SNSBackend, arn: str) -> None:
        if arn.count(":") < 6:
            reason = f"An ARN must have at least 6 elements, not {arn.count(':') + 1}"
            raise SNSInvalidParameter(f"Invalid parameter: SubscriptionArn Reason: {reason}")
        original(backend, arn)


def _pending(subscription: Subscription) -> bool:
    return subscription.protocol in ("email", "email-json") and not subscription.confirmed


def _entry(subscription: Subscription) -> dict[str, str]:
    return {
        "SubscriptionArn": PENDING if _pending(subscription) else subscription.arn,
        "Owner": subscription.owner,
        "Protocol": subscription.protocol,
        "Endpoint": subscription.endpoint,
        "TopicArn": subscription.topic_arn,
    }


def _confirmation() -> None:
    @wrap(SNSResponse, "confirm_subscription")
    def confirm_subscription(original: Any, self: Any) -> ActionResult:
        arn, token = self._get_param("TopicArn"), self._get_param("Token")
        for subscription in self.backend._get_topic_subscriptions(self.backend.get_topic(arn)):
            if subscription.__dict__.get("token") == token:
                subscription.confirmed = True
                return ActionResult({"SubscriptionArn": subscription.arn})
        raise SNSInvalidParameter("Invalid parameter: Token")


def _delivery(cloud: Cloud) -> None:
    """moto hands a function to Docker with a canned event, and drops mails."""

    @wrap(Subscription, "publish")
    def publish(
        original: Any,
        subscription: Subscription,
        message: str,
        message_id: str,
        subject: str | None = None,
        **options: Any,
    ) -> None:
        if _pending(subscription):
            return
        if subscription.protocol == "email":
            deliver_mail(cloud, subscription.endpoint, subject or "AWS Notification Message", message)
        elif subscription.protocol == "lambda":
            _invoke(subscription, message, message_id, subject)
        else:
            original(subscription, message, message_id, subject=subject, **options)


def _invoke(subscription: Subscription, message: str, message_id: str, subject: str | None) -> None:
    """Invokes the function, if its policy lets SNS do that for this topic; AWS too tells nobody if it doesn't."""
    region, account, _, name, *qualifier = subscription.endpoint.split(":")[3:]
    backend: Any = get_backend(account, region)
    try:
        allowed = may_invoke(
            account=account,
            region=region,
            name=name,
            qualifier=next(iter(qualifier), None),
            source_arn=subscription.topic_arn,
            source_account=subscription.account_id,
            service=SNS,
        )
        if not allowed:
            log.warning("%s doesn't let %s invoke it", subscription.endpoint, subscription.topic_arn)
            return
        event = json.dumps({"Records": [_record(subscription, message, message_id, subject)]})
        backend.invoke(name, next(iter(qualifier), None), event, {}, {})
    except Exception:
        # Whatever the delivery raises, the publisher isn't told: SNS answers before it delivers.
        log.warning("%s couldn't be delivered to %s", message_id, subscription.endpoint, exc_info=True)


def _record(subscription: Subscription, message: str, message_id: str, subject: str | None) -> dict[str, Any]:
    """https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html"""
    return {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription.arn,
        "Sns": {
            "Type": "Notification",
            "MessageId": message_id,
            "TopicArn": subscription.topic_arn,
            "Subject": subject,
            "Message": message,
            "Timestamp": iso_8601_datetime_with_milliseconds(),
            "SignatureVersion": "1",
            "Signature": "",
            "SigningCertUrl": "",
            "UnsubscribeUrl": "",
            "MessageAttributes": {},
        },
    }


def deliver_mail(cloud: Cloud, to: str, subject: str, text: str) -> None:
    """Writes a mail where a test, or a person, can read it."""
    line = json.dumps({"at": round(time.time(), 3), "to": to, "subject": subject, "text": text})
    descriptor = os.open(cloud.state_dir / MAILBOX, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as mailbox:
        mailbox.write(line + "\n")


def publish_as(cloud: Cloud, service: str, topic_arn: str, source_arn: str, subject: str, message: str) -> bool:
    """Publishes on behalf of an AWS service, if the topic's policy lets it; False if not, or if there is no topic.

    Args:
        source_arn: the service's resource that has something to tell.
    """
    region, account = topic_arn.split(":")[3:5]
    with cloud.locks.of("sns"):
        try:
            topic = sns_backends[account][region].get_topic(topic_arn)
        except (SNSNotFoundError, KeyError):
            return False
        if not _may_publish(json.loads(topic.policy), service, topic_arn, source_arn):
            return False
        topic.publish(message, subject)
        return True


def _may_publish(policy: Mapping[str, Any], service: str, topic_arn: str, source_arn: str) -> bool:
    statements = [one for one in _listed(policy["Statement"]) if _concerns(one.get("Principal"), service)]
    context = {"aws:sourcearn": [source_arn], "aws:sourceaccount": [topic_arn.split(":")[4]]}
    asked = Request(action="SNS:Publish", resource=topic_arn, context=context)
    return decide([{"Statement": statements}], asked) == ALLOWED


def _concerns(principal: Any, service: str) -> bool:
    return principal == "*" or (isinstance(principal, Mapping) and service in _listed(principal.get("Service")))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)) else [value]
