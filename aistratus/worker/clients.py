"""The worker's AWS clients and their retries.

An outage or throttling must cost time and nothing else, so every call that matters is retried with capped exponential
backoff until it succeeds, the worker stops, or the reason to make it is gone. Only errors that a retry can't change
("condition failed", "receipt no longer valid") are raised. Permission errors are retried too: a new role takes seconds
to work, and a wrong one is repaired by the operator while the log says what is missing.
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
"""Some ten retries in an outage of a minute, whose end is noticed within ten seconds."""

CONNECT_S: Final = 3
ANSWER_S: Final = 5
LAST_CALL_S: Final = 0.7
"""Time-out of each call at the end of the process, so that all of them take less than two seconds."""

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

FINAL_CODES: Final = RECEIPT_CODES | {CONDITION_FAILED, "ValidationException"}


class GaveUp(Exception):
    """Retrying ended without success: the worker stops, or the call isn't needed any more."""


@dataclass(frozen=True, kw_only=True)
class Clients:
    """boto3's low-level clients (thread-safe); `last_*` have short time-outs, for the last second of the process.

    time: the time of day by AWS's clock, corrected by these clients' answers.
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
    last = Config(connect_timeout=LAST_CALL_S, read_timeout=LAST_CALL_S, retries={"total_max_attempts": 1})

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
    for source in (clients.sqs, clients.dynamodb):
        clients.time.attach(source)
    return clients


def error_code(error: Exception) -> str:
    """AWS' error code, or the exception's name when no answer came."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__


def is_final(error: Exception) -> bool:
    """Whether a retry would only fail the same way."""
    return isinstance(error, ParamValidationError) or error_code(error) in FINAL_CODES


def pause_after(failures: int) -> float:
    """Seconds to wait after this many failures in a row: exponential backoff, capped, with jitter."""
    jitter = random.uniform(0.7, 1.0)  # noqa: S311 (spreads retries, keeps no secret)
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16)) * jitter


class Retrier:
    """Retries a call until it succeeds or fails for good."""

    def __init__(self, log: Log, stopping: threading.Event) -> None:
        self._log = log
        self._stopping = stopping

    def call(self, what: str, call: Callable[[], T], *, give_up_if: Callable[[], bool] = lambda: False) -> T:
        """The call's result.

        Args:
            what: for the log.
            call: makes one AWS call.
            give_up_if: asked after each failure; true ends the retries.

        Raises:
            GaveUp: the worker stops, or `give_up_if` has become true.
            ClientError, BotoCoreError: an error that a retry can't change.
        """
        failures = 0
        while True:
            try:
                return call()
            except (BotoCoreError, ClientError) as error:
                if is_final(error):
                    raise
                failures += 1
                pause = pause_after(failures)
                self._log.event("aws_failed", call=what, code=error_code(error), failures=failures, pause_s=pause)
            if self._stopping.wait(pause) or give_up_if():
                raise GaveUp(what)
