"""A worker as a real subprocess, beside a queue, a dead-letter queue and a table of a moto server on the loopback.

Each test gets queues and a table of its own, so tests don't meet. Jobs are sent as the router sends them: the item
first, then the message.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
import psutil
from moto.server import ThreadedMotoServer

from aistratus import wire

T = TypeVar("T")

CAP_S = 40.0
LOOK_S = 0.01
DEMO = Path(__file__).parents[2] / "aistratus" / "models" / "demo.gguf"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "eu-central-1"}


def await_value(look: Callable[[], T | None], what: str, cap_s: float = CAP_S) -> T:
    """The first value that isn't None (or False); fails with `what` after `cap_s` seconds."""
    deadline = time.monotonic() + cap_s
    while time.monotonic() < deadline:
        value = look()
        if value is not None and value is not False:
            return value
        time.sleep(LOOK_S)
    raise AssertionError(f"not within {cap_s} s: {what}")


def start_server() -> tuple[ThreadedMotoServer, str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return server, f"http://{host}:{port}"


@dataclass
class Worker:
    """A running worker and what it has logged."""

    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self.log_file.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def await_event(self, name: str, **fields: object) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            assert self.process.poll() is None or self._has(name, fields), self.log_file.read_text()
            return self._has(name, fields)

        return await_value(look, f"{name} {fields} in the worker's log")

    def _has(self, name: str, fields: dict[str, object]) -> dict[str, Any] | None:
        for event in self.events:
            if event["event"] == name and all(event.get(key) == value for key, value in fields.items()):
                return event
        return None

    def child(self) -> psutil.Process:
        return await_value(lambda: next(iter(psutil.Process(self.process.pid).children()), None), "a model process")

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=CAP_S)


@dataclass
class Rig:
    """Queue, dead-letter queue, table and the workers of one test."""

    endpoint: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        name = uuid.uuid4().hex[:12]
        self.sqs = self._client("sqs")
        self.dynamodb = self._client("dynamodb")
        fifo = {"FifoQueue": "true"}
        self.dead_url = self.sqs.create_queue(QueueName=f"{name}-dlq.fifo", Attributes=fifo)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.dead_url, AttributeNames=["QueueArn"])
        redrive = {"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": wire.MAX_ATTEMPTS}
        self.queue_url = self.sqs.create_queue(
            QueueName=f"{name}.fifo", Attributes={**fifo, "RedrivePolicy": json.dumps(redrive)}
        )["QueueUrl"]
        self.table = f"{name}-jobs"
        self.dynamodb.create_table(
            TableName=self.table,
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="eu-central-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def start(self, **settings: str) -> Worker:
        """A worker; settings win over the rig's, which win over the demo model."""
        environment = {
            "PATH": os.environ["PATH"],
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": self.endpoint,
            "WORKER_QUEUE_URL": self.queue_url,
            "WORKER_DEAD_LETTER_URL": self.dead_url,
            "WORKER_JOBS_TABLE": self.table,
            "WORKER_STATE_DIR": str(self.folder / "state"),
            "WORKER_INSTANCE_ID": "i-0123456789abcdef0",
            "WORKER_MODEL_PATH": str(DEMO),
            "WORKER_POLL_SECONDS": "1",
            **self.settings,
            **settings,
        }
        log_file = self.folder / f"worker-{len(self.workers)}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "aistratus.worker"], env=environment, stderr=log)
        worker = Worker(process, log_file)
        self.workers.append(worker)
        return worker

    def job(self, prompt: str = "How do I stop the GPU?", **fields: Any) -> wire.Job:
        known: dict[str, Any] = {
            "job_id": uuid.uuid4().hex,
            "owner": "ada",
            "conversation": uuid.uuid4().hex,
            "submitted_ms": time.time_ns() // 1_000_000,
            "seed": 7,
            "temperature": 0.0,
        }
        return wire.Job(prompt=prompt, **{**known, **fields})

    def put_item(self, job: wire.Job, **fields: Any) -> None:
        item = {
            "pk": job.pk, "job_id": job.job_id, "owner": job.owner, "conversation": job.conversation,
            "status": wire.QUEUED, "attempt": 0, "text": "", "created_ms": job.submitted_ms, "cancel": False,
            "expires_at": int(time.time()) + wire.JOB_QUEUED_S, **fields,
        }  # fmt: skip
        self.dynamodb.put_item(TableName=self.table, Item=wire.pack(item))

    def send(self, job: wire.Job, **fields: Any) -> wire.Job:
        """The item, then the message, as the router does it."""
        self.put_item(job, **fields)
        self.send_message(job)
        return job

    def send_message(self, job: wire.Job) -> None:
        self.sqs.send_message(
            QueueUrl=self.queue_url,
            MessageBody=job.to_message(),
            MessageGroupId=wire.message_group(job.owner, job.conversation),
            MessageDeduplicationId=uuid.uuid4().hex,
        )

    def item(self, pk: str) -> dict[str, Any] | None:
        answer = self.dynamodb.get_item(TableName=self.table, Key=wire.pack({"pk": pk}), ConsistentRead=True)
        return wire.unpack(answer["Item"]) if "Item" in answer else None

    def await_item(self, job: wire.Job, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            item = self.item(job.pk)
            return item if item is not None and wanted(item) else None

        return await_value(look, f"{what}; the item is {self.item(job.pk)}, logs are in {self.folder}")

    def await_final(self, job: wire.Job) -> dict[str, Any]:
        return self.await_item(job, lambda item: item["status"] in wire.FINAL, "the job ends")

    def await_text(self, job: wire.Job, characters: int = 1) -> dict[str, Any]:
        return self.await_item(job, lambda item: len(item["text"]) >= characters, "the reply begins")

    def cancel(self, job: wire.Job) -> None:
        self.dynamodb.update_item(
            TableName=self.table,
            Key=wire.pack({"pk": job.pk}),
            UpdateExpression="SET #cancel = :true",
            ExpressionAttributeNames={"#cancel": "cancel"},
            ExpressionAttributeValues=wire.pack({":true": True}),
        )

    def counts(self, url: str | None = None) -> tuple[int, int]:
        """Messages that can be received, and messages in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url or self.queue_url, AttributeNames=names)["Attributes"]
        return int(answer[names[0]]), int(answer[names[1]])

    def await_empty(self) -> None:
        await_value(lambda: self.counts() == (0, 0), "the queue is empty")

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()


def rigs(endpoint: str, folder: Path) -> Iterator[Rig]:
    rig = Rig(endpoint, folder)
    yield rig
    rig.close()


class Line:
    """A TCP line to the moto server that can be cut: connections end and new ones are refused until it is mended."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._cut = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut.set()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def mend(self) -> None:
        self._cut.clear()

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._cut.is_set():
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
