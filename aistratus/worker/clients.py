"""How the worker talks to AWS, and how long it puts up with AWS not answering.

An outage or a throttle must cost time and nothing else, so every call that matters is repeated with a capped, growing
pause until it succeeds, the worker stops, or the reason to make it is gone. Only an answer about the thing itself
("condition failed", "receipt no longer valid") comes through as an error. Permission errors are waited out too: a new
role takes seconds to work, and a wrong one is repaired by the operator while the log says what is missing.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from aistratus.worker.aws_time import AwsTime
from aistratus.worker.log import Log
from aistratus.worker.settings import Settings

T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
"""An outage of a minute is asked about some ten times, and its end is seen within ten seconds."""

CONNECT_S: Final = 3
ANSWER_S: Final = 5
LAST_WORD_S: Final = 0.7
"""At the end of the process each call has this long, so that all of it takes less than two seconds."""

CONDITION_FAILED: Final = "ConditionalCheckFailedException"
RECEIPT_CODES: Final = frozenset(
    {
        "ReceiptHandleIsInvalid",
        "InvalidParameterValue",  # FIFO: "The receipt handle has expired"
        "InvalidParameterValueException",
        "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
    }
)
"""SQS no longer knows this receipt: the message was deleted, or belongs to a later receive."""

ANSWERS: Final = RECEIPT_CODES | {CONDITION_FAILED, "ValidationException"}


class GaveUp(Exception):
    """The worker stops, or what the call was for has ended."""


@dataclass(frozen=True, kw_only=True)
class Clients:
    """boto3's low-level clients (thread-safe): for work, and for the last second of the process.

    time: the time of day, put right by what the clients for work are answered.
    s3: makes the client that fetches models, which few workers need.
    """

    sqs: Any
    dynamodb: Any
    last_sqs: Any
    last_dynamodb: Any
    time: AwsTime
    s3: Callable[[], Any]


def connect(settings: Settings) -> Clients:
    """Opens the clients; no call is made yet. Credentials come from the SDK's own chain."""
    session = boto3.session.Session(region_name=settings.region)
    work = Config(
        connect_timeout=CONNECT_S,
        read_timeout=ANSWER_S,
        retries={"mode": "standard", "total_max_attempts": 2},
        tcp_keepalive=True,
    )
    poll = work.merge(Config(read_timeout=settings.poll_s + ANSWER_S))
    last = Config(connect_timeout=LAST_WORD_S, read_timeout=LAST_WORD_S, retries={"total_max_attempts": 1})

    def client(service: str, config: Config) -> Any:
        return session.client(service, endpoint_url=settings.endpoint_url, config=config)

    clients = Clients(
        sqs=client("sqs", poll),
        dynamodb=client("dynamodb", work),
        last_sqs=client("sqs", last),
        last_dynamodb=client("dynamodb", last),
        time=AwsTime(),
        s3=lambda: client("s3", work.merge(Config(read_timeout=30))),
    )
    for listened_to in (clients.sqs, clients.dynamodb):
        clients.time.attach(listened_to)
    return clients


def error_code(error: Exception) -> str:
    """AWS' error code, or the exception's name when no answer came."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__


def is_answer(error: Exception) -> bool:
    """Whether asking again would only give the same answer."""
    return isinstance(error, ParamValidationError) or error_code(error) in ANSWERS


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, capped, with jitter against herds."""
    jitter = random.uniform(0.7, 1.0)  # noqa: S311 (spreads retries, keeps no secret)
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16)) * jitter


class Patience:
    """Repeats a call until AWS answers it."""

    def __init__(self, log: Log, stopping: threading.Event) -> None:
        self._log = log
        self._stopping = stopping

    def call(self, what: str, call: Callable[[], T], *, pointless: Callable[[], bool] = lambda: False) -> T:
        """The call's result.

        Args:
            what: for the log.
            call: makes one AWS call.
            pointless: asked after each failure; true ends the waiting.

        Raises:
            GaveUp: the worker stops, or it became pointless.
            ClientError: an answer about the thing itself.
        """
        failures = 0
        while True:
            try:
                return call()
            except (BotoCoreError, ClientError) as error:
                if is_answer(error):
                    raise
                failures += 1
                pause = pause_after(failures)
                self._log.event("aws_failed", call=what, code=error_code(error), failures=failures, pause_s=pause)
            if self._stopping.wait(pause) or pointless():
                raise GaveUp(what)
