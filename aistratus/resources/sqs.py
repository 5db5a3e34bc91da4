"""Queues.

The ledger or one shared listing shows which queues exist; then the attributes and tags of all are read in parallel.
SQS is eventually consistent for up to a minute: attributes settle late, a deleted queue still answers for a while, and
its name can't be used until then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Ref, Resource, policy_document, reconciles
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import at_once, unless_gone

GONE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
"""SQS has two names for each error, from its two protocols."""

QUEUE_SETTLES = Wait(
    what="SQS gives the deleted queue's name out again, or knows the new dead-letter queue",
    within=75,
    codes=frozenset({
        "AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently", "InvalidParameterValue",
        "InvalidAttributeValue",
    }),
    saying=r"(?i)recently|wait 60 seconds|target does not exist",
)  # fmt: skip
"""Sixty seconds for the name. Source: SQS API reference, CreateQueue, QueueDeletedRecently.

A `RedrivePolicy` that names a queue made a moment ago may be refused with "Dead letter target does not exist".
"""

QUEUE_GONE = Wait(what="the deleted queue no longer answers", within=75)
"""Up to sixty seconds, and until then it looks as if it were left. Source: SQS API reference, DeleteQueue."""


@dataclass(frozen=True, kw_only=True)
class Queue(Resource):
    """A queue named `tinyllama-<env>-<name>`, with `.fifo` behind it if it is one.

    visibility_timeout: seconds for which a received message is hidden from others.
    retention_s: seconds after which an undeleted message is dropped.
    receive_wait_s: seconds that a receive waits for a message by default.
    high_throughput: count FIFO's limits and duplicates by message group, not by queue.
    sse: encrypted with SQS's own key.
    dead_letter: ARN of the queue that takes a message after `max_receives` receives without deletion.
    """

    name: str
    fifo: bool = True
    visibility_timeout: int = 60
    retention_s: int = 86_400
    receive_wait_s: int = 20
    content_based_deduplication: bool = False
    high_throughput: bool = True
    sse: bool = True
    dead_letter: Ref | str | None = None
    max_receives: int = 3
    policy: Mapping[str, Any] | None = policy_document(default=None)

    replace_on: ClassVar[frozenset[str]] = frozenset({"name", "fifo"})

    @property
    def suffix(self) -> str:
        """What comes after `tinyllama-<env>-` in the physical name."""
        return f"{self.name}.fifo" if self.fifo else self.name


def find_queue(aws: Cloud, want: Queue) -> Found | None:
    """By name."""
    name = aws.name(want.suffix)
    url = _recorded_url(aws, want.key, name) or _queues(aws).get(name)
    if url is None:
        return None
    attributes, tags = at_once(
        lambda: unless_gone(GONE, aws.sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"]),
        lambda: unless_gone(GONE, aws.sqs.list_queue_tags, QueueUrl=url),
    )
    if attributes is None or tags is None:
        return None  # the listing shows deleted queues for a while
    aws.require_ours("queue", name, tags.get("Tags", {}), want.key)
    state = _decoded(want, attributes["Attributes"])
    return Found(state=state, ids=_ids(aws, name, url), tags=tags.get("Tags", {}))


def owned_queues(aws: Cloud) -> list[Found]:
    """By tags, among the queues with our name."""
    owned = []
    for name, url in sorted(_queues(aws).items()):
        answer = unless_gone(GONE, aws.sqs.list_queue_tags, QueueUrl=url)
        tags = answer.get("Tags", {}) if answer else {}
        if aws.owns(tags):
            suffix = name.removeprefix(aws.prefix)
            state = Queue(key=tags["aistratus:key"], name=suffix.removesuffix(".fifo"), fifo=suffix.endswith(".fifo"))
            owned.append(Found(state=state, ids=_ids(aws, name, url), tags=tags))
    return owned


def remove_queue(aws: Cloud, have: Found) -> None:
    """Removes it, and waits until it doesn't answer any more."""
    url = have.ids["url"]

    def gone() -> bool | None:
        answer = unless_gone(GONE, aws.sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["QueueArn"])
        return True if answer is None else None

    unless_gone(GONE, aws.sqs.delete_queue, QueueUrl=url)
    until(QUEUE_GONE, gone, clock=aws.clock)


@reconciles(Queue, find=find_queue, remove=remove_queue, owned=owned_queues)
def ensure_queue(aws: Cloud, want: Queue, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        # SQS takes a second creation with the same attributes for the first, and refuses one with others.
        have = aws.create_once(
            "sqs",
            "create_queue",
            look=lambda cloud: find_queue(cloud, want),
            taken={"QueueNameExists", "QueueAlreadyExists"},
            settling=QUEUE_SETTLES,
            QueueName=aws.name(want.suffix),
            Attributes={**({"FifoQueue": "true"} if want.fifo else {}), **_encoded(want, SETTABLE)},
            tags=aws.tags(want.key),
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    url = have.ids["url"]
    if attributes := _encoded(want, changes):
        settle(QUEUE_SETTLES, aws.sqs.set_queue_attributes, clock=aws.clock, QueueUrl=url, Attributes=attributes)
    if "tags" in changes:
        aws.sqs.tag_queue(QueueUrl=url, Tags=aws.tags(want.key))
    return await_match(find_queue, aws, want)


SETTABLE = frozenset({
    "visibility_timeout", "retention_s", "receive_wait_s", "content_based_deduplication", "high_throughput", "sse",
    "dead_letter", "max_receives", "policy",
})  # fmt: skip


def _encoded(want: Queue, fields: frozenset[str]) -> dict[str, str]:
    """These fields as SQS takes them: every value is a text."""
    attributes: dict[str, Callable[[], dict[str, str]]] = {
        "visibility_timeout": lambda: {"VisibilityTimeout": str(want.visibility_timeout)},
        "retention_s": lambda: {"MessageRetentionPeriod": str(want.retention_s)},
        "receive_wait_s": lambda: {"ReceiveMessageWaitTimeSeconds": str(want.receive_wait_s)},
        "content_based_deduplication": lambda: _deduplication(want),
        "high_throughput": lambda: _throughput(want),
        "sse": lambda: {"SqsManagedSseEnabled": _bool(want.sse)},
        "dead_letter": lambda: _redrive(want),
        "max_receives": lambda: _redrive(want),
        "policy": lambda: {} if want.policy is None else {"Policy": json.dumps(want.policy)},
    }
    encoded: dict[str, str] = {}
    for name in sorted(fields & attributes.keys()):
        encoded.update(attributes[name]())
    return encoded


def _deduplication(want: Queue) -> dict[str, str]:
    return {"ContentBasedDeduplication": _bool(want.content_based_deduplication)} if want.fifo else {}


def _throughput(want: Queue) -> dict[str, str]:
    """Both settings that make FIFO's high throughput; one without the other is refused."""
    if not want.fifo:
        return {}
    if want.high_throughput:
        return {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    return {"DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue"}


def _redrive(want: Queue) -> dict[str, str]:
    if want.dead_letter is None:
        return {}
    policy = {"deadLetterTargetArn": want.dead_letter, "maxReceiveCount": want.max_receives}
    return {"RedrivePolicy": json.dumps(policy)}


def _decoded(want: Queue, attributes: Mapping[str, str]) -> Queue:
    """The queue as it is; what it hasn't got at all (a standard queue's FIFO settings) repeats what is wanted."""
    redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
    fifo = attributes.get("FifoQueue") == "true"
    high = attributes.get("DeduplicationScope"), attributes.get("FifoThroughputLimit")
    deduplicates = attributes.get("ContentBasedDeduplication") == "true"
    return Queue(
        key=want.key,
        name=want.name,
        fifo=fifo,
        visibility_timeout=int(attributes["VisibilityTimeout"]),
        retention_s=int(attributes["MessageRetentionPeriod"]),
        receive_wait_s=int(attributes["ReceiveMessageWaitTimeSeconds"]),
        content_based_deduplication=deduplicates if fifo else want.content_based_deduplication,
        high_throughput=high == ("messageGroup", "perMessageGroupId") if fifo else want.high_throughput,
        sse=attributes.get("SqsManagedSseEnabled") == "true",
        dead_letter=redrive.get("deadLetterTargetArn"),
        max_receives=int(redrive.get("maxReceiveCount", want.max_receives)) if want.dead_letter else want.max_receives,
        policy=json.loads(attributes["Policy"]) if attributes.get("Policy") else None,
    )


def _recorded_url(aws: Cloud, key: str, name: str) -> str | None:
    """The queue's address without asking for a listing, if the ledger says that the queue was there.

    Endpoint, account and name make the address, so a ledger that says anything else isn't believed; whether the queue
    is still there, its attributes tell.
    """
    url = f"{aws.sqs.meta.endpoint_url.rstrip('/')}/{aws.account}/{name}"
    return url if aws.recorded(key).get("url") == url else None


def _queues(aws: Cloud) -> dict[str, str]:
    """The addresses of all queues whose name starts like ours, by name."""

    def read() -> dict[str, str]:
        # Without a page size SQS stops at 1,000 and doesn't say so.
        pages = aws.sqs.get_paginator("list_queues").paginate(
            QueueNamePrefix=aws.prefix, PaginationConfig={"PageSize": 1000}
        )
        return {url.rsplit("/", 1)[1]: url for page in pages for url in page.get("QueueUrls", [])}

    return aws.shared("sqs.queues", read)


def _ids(aws: Cloud, name: str, url: str) -> dict[str, str]:
    return {"id": name, "name": name, "url": url, "arn": aws.arn("sqs", name)}


def _bool(value: bool) -> str:
    return "true" if value else "false"
