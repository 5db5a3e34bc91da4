"""SQS: attributes that settle, queues that linger, and names that cool down."""

from __future__ import annotations

from typing import Any, Final

from moto.sqs.exceptions import SQSException
from moto.sqs.models import SQSBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

_API: Final = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference"
COOL_DOWN_S: Final = 60.0
COUNTED: Final = frozenset(
    {"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible"}
)
"""Attributes that nobody sets: they are always told as they are."""

book = Book()


@book.rule(
    "queue-deleted-recently", code="AWS.SimpleQueueService.QueueDeletedRecently", source=f"{_API}/API_CreateQueue.html"
)
def queue_deleted_recently(cloud: Cloud, delays: Delays) -> None:
    """Goes by the clock that a test can move, for a real minute is long."""
    deleted: dict[tuple[str, str], float] = {}

    @wrap(SQSBackend, "delete_queue")
    def delete_queue(original: Any, backend: Any, queue_name: str) -> Any:
        answer = original(backend, queue_name)
        deleted[backend.region_name, queue_name] = delays.now()
        return answer

    @wrap(SQSBackend, "create_queue")
    def create_queue(original: Any, backend: Any, name: str, tags: Any = None, **kwargs: Any) -> Any:
        at = deleted.get((backend.region_name, name))
        if at is not None and delays.now() - at < COOL_DOWN_S:
            raise SQSException(
                "AWS.SimpleQueueService.QueueDeletedRecently",
                "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
            )
        return original(backend, name, tags, **kwargs)


@book.rule("queue-settling", source=f"{_API}/API_SetQueueAttributes.html", asked="calls")
def queue_settling(cloud: Cloud, delays: Delays) -> None:
    """After a change, the next n reads show the attributes as they were."""
    old: dict[str, dict[str, Any]] = {}

    @wrap(SQSBackend, "set_queue_attributes")
    def set_queue_attributes(original: Any, backend: Any, queue_name: str, attributes: dict[str, Any]) -> Any:
        arn = backend.get_queue(queue_name).queue_arn
        before = backend.get_queue_attributes(queue_name, ["All"]) if delays.asked("queue-settling") else {}
        answer = original(backend, queue_name, attributes)
        old[arn] = before
        delays.born("queue-settling", arn)
        return answer

    @wrap(SQSBackend, "get_queue_attributes")
    def get_queue_attributes(original: Any, backend: Any, queue_name: str, attribute_names: list[str]) -> Any:
        shown = original(backend, queue_name, attribute_names)
        arn = backend.get_queue(queue_name).queue_arn
        if not delays.take("queue-settling", arn):
            return shown
        kept = {name: value for name, value in old[arn].items() if {"All", name} & set(attribute_names)}
        return {**kept, **{name: value for name, value in shown.items() if name in COUNTED}}


@book.rule("queue-lingers", source=f"{_API}/API_DeleteQueue.html", asked="calls")
def queue_lingers(cloud: Cloud, delays: Delays) -> None:
    """A deleted queue is listed and answers for n more calls."""
    fading: dict[tuple[str, str], Any] = {}

    @wrap(SQSBackend, "delete_queue")
    def delete_queue(original: Any, backend: Any, queue_name: str) -> Any:
        queue = backend.queues.get(queue_name)
        answer = original(backend, queue_name)
        delays.born("queue-lingers", queue.queue_arn)
        fading[backend.region_name, queue_name] = queue
        return answer

    @wrap(SQSBackend, "get_queue")
    def get_queue(original: Any, backend: Any, queue_name: str) -> Any:
        queue = fading.get((backend.region_name, queue_name))
        if queue is not None and queue_name not in backend.queues and delays.take("queue-lingers", queue.queue_arn):
            return queue
        return original(backend, queue_name)

    @wrap(SQSBackend, "list_queues")
    def list_queues(original: Any, backend: Any, queue_name_prefix: str) -> Any:
        waiting = delays.waiting("queue-lingers")
        late = [
            queue
            for (region, name), queue in fading.items()
            if region == backend.region_name
            and name not in backend.queues
            and queue.queue_arn in waiting
            and name.startswith(queue_name_prefix or "")
        ]
        for queue in late:
            delays.take("queue-lingers", queue.queue_arn)
        return [*original(backend, queue_name_prefix), *late]


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)
