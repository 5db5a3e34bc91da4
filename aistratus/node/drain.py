"""Drains the queue on the CPU before a change to a GPU, where that is sooner (`node.answer_on_cpu`).

There is one machine: while it stops, is changed and starts as another type, no prompt is answered. So the CPU can't
serve the queue *while* a GPU boots, but it can answer the waiting prompts first, if that takes no longer than the
change. The worker's heartbeat gives its speed, the latest boots give the duration of the change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aistratus.cloud import Cloud
from aistratus.core.errors import Unsettled
from aistratus.core.settle import Wait, until
from aistratus.node import boots
from aistratus.node.resize import fresh, heartbeat
from aistratus.node.states import answered_sooner, is_gpu

STOP_S: Final = 30.0
"""What stopping adds to a boot; less than a minute mostly."""

COUNTS: Final = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")


def answer_first(aws: Cloud, queue_url: str, now: str, wanted: str, tell: Callable[[str], None]) -> bool:
    """Waits until the queue is empty, if the machine as it is answers everything sooner than it could be changed.

    Args:
        now, wanted: its type, and the one that it is to become.

    Returns:
        Was there something to wait for? Then the queue is empty, or the time that the change takes is over.
    """
    beat = heartbeat(aws)
    if is_gpu(now) or not is_gpu(wanted) or not fresh(beat):
        return False
    change_s = STOP_S + boots.eta_s(aws, wanted, 0.0)
    waiting = _waiting(aws, queue_url)
    if not answered_sooner(waiting, float(beat.get("tokens_per_second") or 0), change_s):
        return False
    tell(f"{waiting} waiting prompts are answered on {now} first: sooner than {wanted} could be there …")
    wait = Wait(what="the queue is empty", within=change_s, first=0.3, longest=2.0)
    try:
        until(wait, lambda: True if _waiting(aws, queue_url) == 0 else None, clock=aws.clock)
    except Unsettled:
        tell("more has come meanwhile; it is answered after the change")
    return True


def _waiting(aws: Cloud, queue_url: str) -> int:
    answer = aws.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(COUNTS))["Attributes"]
    return sum(int(answer[name]) for name in COUNTS)
