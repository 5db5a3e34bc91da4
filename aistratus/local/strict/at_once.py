"""What is refused because of what happened a moment ago: another change nearby, or the end of what had the name before.

The model of each operation names these errors; whoever meets them asks again.
"""

from __future__ import annotations

from typing import Any, Final

from moto.cognitoidp.models import CognitoIdpBackend
from moto.core.exceptions import JsonRESTError
from moto.iam.exceptions import IAMException
from moto.iam.models import IAMBackend
from moto.sns.exceptions import SNSException
from moto.sns.models import SNSBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

CHANGED: Final = "changed-at-once"
STALE: Final = "topic-tags-linger"

book = Book()


@book.rule(
    CHANGED,
    code="ConcurrentModificationException",
    source="https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/API_CreateUserPoolDomain.html",
    asked="calls",
)
def changed_at_once(cloud: Cloud, delays: Delays) -> None:
    """The first n creations of each pool's domain and of each instance profile come while another change is made."""

    @wrap(CognitoIdpBackend, "create_user_pool_domain")
    def create_user_pool_domain(original: Any, backend: Any, user_pool_id: str, *args: Any, **wanted: Any) -> Any:
        if delays.meets(CHANGED, f"domain of {user_pool_id}"):
            raise JsonRESTError("ConcurrentModificationException", "Two changes at once.")
        return original(backend, user_pool_id, *args, **wanted)

    @wrap(IAMBackend, "create_instance_profile")
    def create_instance_profile(original: Any, backend: Any, name: str, *args: Any, **wanted: Any) -> Any:
        if delays.meets(CHANGED, f"profile {name}"):
            raise IAMException("ConcurrentModification", "")  # so IAM has said it, without a word more
        return original(backend, name, *args, **wanted)


@book.rule(
    STALE, code="StaleTag", source="https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html", asked="calls"
)
def topic_tags_linger(cloud: Cloud, delays: Delays) -> None:
    """The tags of a deleted topic outlive it: the next n creations of one with its ARN and with tags are refused."""

    @wrap(SNSBackend, "delete_topic")
    def delete_topic(original: Any, backend: Any, arn: str) -> Any:
        answer = original(backend, arn)
        delays.born(STALE, arn.rpartition(":")[2])
        return answer

    @wrap(SNSBackend, "create_topic")
    def create_topic(original: Any, backend: Any, name: str, attributes: Any = None, tags: Any = None) -> Any:
        if tags and delays.take(STALE, name):
            raise SNSException(
                "StaleTag", "A tag has been added to a resource with the same ARN as a deleted resource. Wait a while."
            )
        return original(backend, name, attributes, tags)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
