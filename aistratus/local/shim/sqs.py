"""SQS: messages in order, duplicates remembered, and a long poll that neither blocks nor loses anything.

moto gives several messages of one group back in a wrong order after a time-out, forgets a deduplication id when
its message is deleted, and hands a message to a long poll whose client has gone: a worker that was killed while it
waited would take the next job with it for a whole visibility timeout.
"""

from __future__ import annotations

import contextvars
import copy
import itertools
import selectors
import socket
import time
from typing import Any, Final

from moto.core.responses import ActionResult
from moto.core.utils import unix_time_millis
from moto.moto_api._internal import mock_random
from moto.sqs.exceptions import SQSException
from moto.sqs.models import DEDUPLICATION_TIME_IN_SECONDS, Message, Queue, SQSBackend, _filter_message_attributes
from moto.sqs.responses import SQSResponse

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import add, wrap

LOOK_EVERY_S: Final = 0.05
"""A waiting poll is woken by new messages; it also looks for time-outs that have passed and a client that has gone."""

_caller: contextvars.ContextVar[socket.socket | None] = contextvars.ContextVar("caller", default=None)


def patch(cloud: Cloud) -> None:
    _receive(cloud)
    _wake()
    _deduplication()
    _move_tasks()


def _receive(cloud: Cloud) -> None:
    @wrap(SQSResponse, "receive_message")
    def from_client(original: Any, self: Any) -> Any:
        token = _caller.set(self.normalized_request.environ.get("werkzeug.socket"))
        try:
            return original(self)
        finally:
            _caller.reset(token)

    @wrap(SQSBackend, "receive_message")
    def receive_message(
        original: Any,
        backend: SQSBackend,
        queue_name: str,
        count: int,
        wait_seconds_timeout: int,
        visibility_timeout: int,
        message_attribute_names: list[str] | None = None,
    ) -> list[Message]:
        deadline = time.monotonic() + int(wait_seconds_timeout or 0)
        while True:
            with cloud.locks.of("sqs"):
                queue = backend.get_queue(queue_name)
                found = take(queue, count, int(visibility_timeout)) if not gone(_caller.get()) else []
            left = deadline - time.monotonic()
            if found or left <= 0 or gone(_caller.get()):
                return [_copy(message, message_attribute_names or []) for message in found]
            with queue._messages_lock:
                queue._messages_lock.wait(min(left, LOOK_EVERY_S))


def gone(caller: socket.socket | None) -> bool:
    """Whether the client has closed its connection; a call from inside moto has none and is always there."""
    if caller is None:
        return False
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(caller, selectors.EVENT_READ)
            return bool(selector.select(0)) and caller.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True


def take(queue: Queue, count: int, visibility_timeout: int) -> list[Message]:
    """Up to `count` messages in their order; a FIFO group waits while one of its messages is in flight."""
    blocked = {one.group_id for one in queue._messages if not one.visible} if queue.fifo_queue else set()
    taken: list[Message] = []
    for message in list(queue._messages):
        if len(taken) >= count:
            break
        if _expired(queue, message):
            queue._messages.remove(message)
        elif message.visible and not message.delayed and message.group_id not in blocked - {None}:
            if _used_up(queue, message):
                queue._messages.remove(message)
                message.visible_at = 0.0
                queue.dead_letter_queue._messages.append(message)  # type: ignore[union-attr]
            else:
                message.mark_received(visibility_timeout=visibility_timeout)
                taken.append(message)
    return taken


def _expired(queue: Queue, message: Message) -> bool:
    kept_s = int(queue.message_retention_period)  # type: ignore[attr-defined]
    return unix_time_millis() >= (message.sent_timestamp or 0) + kept_s * 1000


def _used_up(queue: Queue, message: Message) -> bool:
    if queue.dead_letter_queue is None or not queue.redrive_policy:
        return False
    return message.approximate_receive_count >= int(queue.redrive_policy["maxReceiveCount"])


def _copy(message: Message, names: list[str]) -> Message:
    """moto filters the attributes of what it hands out; the message itself keeps all."""
    shown = copy.copy(message)
    shown.message_attributes = dict(message.message_attributes)
    _filter_message_attributes(shown, names)
    return shown


def _wake() -> None:
    """Deleting a message or giving it back can free its group: polls look at once."""
    for operation in ("delete_message", "change_message_visibility"):

        @wrap(SQSBackend, operation)
        def and_wake(original: Any, backend: SQSBackend, queue_name: str, *args: Any, **kwargs: Any) -> Any:
            answer = original(backend, queue_name, *args, **kwargs)
            queue = backend.get_queue(queue_name)
            with queue._messages_lock:
                queue._messages_lock.notify_all()
            return answer


def _deduplication() -> None:
    """An id counts for five minutes from its first message, whatever became of that message."""
    numbers = itertools.count(1)

    @wrap(SQSBackend, "send_message")
    def send_message(original: Any, backend: SQSBackend, queue_name: str, *args: Any, **kwargs: Any) -> Message:
        queue = backend.get_queue(queue_name)
        message: Message = original(backend, queue_name, *args, **kwargs)
        earlier = queue.__dict__.pop("duplicate_of", None)
        return earlier if earlier is not None else message

    @wrap(Queue, "add_message")
    def add_message(original: Any, queue: Queue, message: Message) -> None:
        if queue.fifo_queue:
            if message.group_id is not None:
                message.sequence_number = f"{next(numbers):020d}"
            if message.deduplication_id is not None:
                earlier = _earlier(queue, message)
                if earlier is not None:
                    queue.__dict__["duplicate_of"] = earlier
                    return
            # moto's own look, at messages that are still there, would ignore the group scope.
            with queue._messages_lock:
                queue._messages.append(message)
                queue._messages_lock.notify_all()
            return
        original(queue, message)


def _earlier(queue: Queue, message: Message) -> Message | None:
    """The message that this one repeats, or None after noting it as the first of its id."""
    by_group = getattr(queue, "deduplication_scope", "queue") == "messageGroup"
    key = (message.group_id if by_group else None, message.deduplication_id)
    seen: dict[Any, tuple[float, Message]] = queue.__dict__.setdefault("seen", {})
    now = time.monotonic()
    for old in [one for one, (at, _) in seen.items() if now - at >= DEDUPLICATION_TIME_IN_SECONDS]:
        del seen[old]
    if key in seen:
        return seen[key][1]
    seen[key] = (now, message)
    return None


def _move_tasks() -> None:
    """StartMessageMoveTask (redrive from a dead-letter queue) is missing. Here it is done when it is answered."""
    tasks: list[dict[str, Any]] = []

    def queue_at(self: Any, arn: str) -> Queue:
        queue: Queue = self.sqs_backend.get_queue(arn.split(":")[-1])
        return queue

    def sources(self: Any, dead: Queue) -> list[Queue]:
        return [one for one in self.sqs_backend.queues.values() if one.dead_letter_queue is dead]

    @add(SQSResponse)
    def start_message_move_task(self: Any) -> ActionResult:
        arn, wanted = self._get_param("SourceArn"), self._get_param("DestinationArn")
        dead = queue_at(self, arn)
        targets = [queue_at(self, wanted)] if wanted else sources(self, dead)
        if not sources(self, dead):
            raise SQSException("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
        moved, dead._messages = list(dead._messages), []
        for message in moved:
            # To the target it is a new message. Source: SQS developer guide, "dead-letter queue redrive".
            message.id = str(mock_random.uuid4())
            message.mark_sent()
            message.approximate_receive_count = 0
            message.visible_at = 0.0
            targets[0]._messages.append(message)
        task = {
            "TaskHandle": f"task-{len(tasks) + 1}",
            "Status": "COMPLETED",
            "SourceArn": arn,
            "ApproximateNumberOfMessagesMoved": len(moved),
            "ApproximateNumberOfMessagesToMove": len(moved),
            "StartedTimestamp": int(unix_time_millis()),
            **({"DestinationArn": wanted} if wanted else {}),
        }
        tasks.append(task)
        return ActionResult({"TaskHandle": task["TaskHandle"]})

    @add(SQSResponse)
    def list_message_move_tasks(self: Any) -> ActionResult:
        most, arn = int(self._get_param("MaxResults") or 1), self._get_param("SourceArn")
        return ActionResult({"Results": [one for one in reversed(tasks) if one["SourceArn"] == arn][:most]})
