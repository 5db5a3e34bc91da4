"""The worker's overhead over the bare engine, both measured in one run.

It starts an emulated AWS on the loopback, a worker as a process of its own, and the bare library (ctransformers' own
`generate` loop) in this process, and lets them answer the same prompts alternately, so that the machine's other load
affects both. The first token is polled for every few milliseconds; while speed is measured the item is read as rarely
as by a client, because on a small machine reading slows the model down. Two figures matter:

- `tokens_per_second.ratio_p50`: the worker's tokens per second of generation over the bare engine's, for the same
  tokens (both decode greedily), as the median over pairs of replies, with its quartiles: where those are far apart
  the machine was too busy to tell;
- `first_token_ms.overhead_p95`: from the message's arrival in the queue to the first text readable in the job item,
  less the time that the bare engine takes to its first token.

The result is one JSON object on stdout; `--gguf FILE` measures another model, `--rounds N` more rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from aistratus import wire
from aistratus.worker.ctransformers_engine import CtransformersEngine
from aistratus.worker.engine import ModelSpec
from aistratus.worker.processor import library, threads
from aistratus.worker.template import build_prompt

DEMO = Path(__file__).parents[2] / "aistratus" / "models" / "demo.gguf"
PROMPTS = ("How do I stop the GPU?", "What is a dead letter queue?", "hello", "How do I see what it costs?")
ROUNDS = 20
MAX_TOKENS = 400
TEMPERATURE = 0.0
"""Greedy: both write the very same tokens. Replies of other lengths would not compare, as later tokens are slower."""

LOOK_S = 0.004
CLIENT_LOOK_S = 0.25
CAP_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One reply: milliseconds to its first text, its tokens, and tokens per second of generation."""

    first_ms: float
    tokens: int
    tokens_per_second: float


class Bare:
    """The library alone: its own tokens loop, the same prompt tokens and the same sampling as the worker's."""

    def __init__(self, gguf: Path) -> None:
        from ctransformers.llm import LLM, Config

        size = gguf.stat().st_size
        tokenizer = CtransformersEngine(ModelSpec(engine="ctransformers", path=str(gguf)))
        self._prompts = {
            prompt: build_prompt(tokenizer, system=None, history=(), prompt=prompt, max_tokens=MAX_TOKENS)
            for prompt in PROMPTS
        }
        config = Config(context_length=tokenizer.context_tokens, threads=threads(size), batch_size=32)
        self._llm = LLM(str(gguf), config=config, lib=library(0))

    def run(self, prompt: str, seed: int) -> Run:
        built = self._prompts[prompt]
        began = time.perf_counter()
        first, tokens = began, 0
        for token in self._llm.generate(
            list(built.tokens), top_k=1, temperature=TEMPERATURE, repetition_penalty=1.0, seed=seed + 1
        ):
            self._llm.detokenize([token], decode=False)
            tokens += 1
            if tokens == 1:
                first = time.perf_counter()
            if tokens >= built.max_tokens:
                break
        seconds = time.perf_counter() - first
        return Run(first_ms=(first - began) * 1000, tokens=tokens, tokens_per_second=(tokens - 1) / seconds)


class Queued:
    """A worker behind a queue and a table."""

    def __init__(self, gguf: Path, folder: Path) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench", "region_name": "eu-central-1"}
        self._sqs = boto3.client("sqs", endpoint_url=endpoint, **keys)
        self._dynamodb = boto3.client("dynamodb", endpoint_url=endpoint, **keys)
        self._queue = self._sqs.create_queue(QueueName="bench.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
        self._dynamodb.create_table(
            TableName="bench",
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": endpoint,
            "WORKER_QUEUE_URL": self._queue,
            "WORKER_JOBS_TABLE": "bench",
            "WORKER_STATE_DIR": str(folder),
            "WORKER_MODEL_PATH": str(gguf),
        }
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "aistratus.worker"], env=environment, stderr=subprocess.DEVNULL
        )
        self._await(lambda: (self._item(wire.HEARTBEAT_PK) or {}).get("state") == "ready")

    def run(self, prompt: str, seed: int, look_s: float) -> Run:
        job = wire.Job(
            job_id=uuid.uuid4().hex,
            owner="bench",
            conversation=uuid.uuid4().hex,
            prompt=prompt,
            submitted_ms=time.time_ns() // 1_000_000,
            seed=seed,
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
        )
        item = {"pk": job.pk, "status": wire.QUEUED, "attempt": 0, "text": "", "expires_at": int(time.time()) + 3600}
        self._dynamodb.put_item(TableName="bench", Item=wire.pack(item))
        self._sqs.send_message(
            QueueUrl=self._queue,
            MessageBody=job.to_message(),
            MessageGroupId=job.conversation,
            MessageDeduplicationId=job.job_id,
        )
        began = time.perf_counter()
        self._await(lambda: self._item(job.pk)["text"] != "", look_s)
        first_ms = (time.perf_counter() - began) * 1000
        self._await(lambda: self._item(job.pk)["status"] in wire.FINAL, CLIENT_LOOK_S)
        done = self._item(job.pk)
        if done["status"] != wire.DONE:
            raise SystemExit(f"the worker failed: {done.get('error')}")
        return Run(
            first_ms=first_ms,
            tokens=done["usage"]["completion_tokens"],
            tokens_per_second=done["timings"]["tokens_per_second"],
        )

    def close(self) -> None:
        self._worker.terminate()
        self._worker.wait()
        self._server.stop()

    def _item(self, pk: str) -> Any:
        answer = self._dynamodb.get_item(TableName="bench", Key=wire.pack({"pk": pk}), ConsistentRead=True)
        return wire.unpack(answer["Item"]) if "Item" in answer else None

    def _await(self, done: Callable[[], bool], look_s: float = LOOK_S) -> None:
        deadline = time.monotonic() + CAP_S
        while not done():
            if time.monotonic() > deadline or self._worker.poll() is not None:
                raise SystemExit("the worker did not answer")
            time.sleep(look_s)


def speed(runs: list[Run]) -> float:
    """Tokens per second over all replies: all tokens over all seconds of generation."""
    return sum(run.tokens for run in runs) / sum(run.tokens / run.tokens_per_second for run in runs)


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gguf", type=Path, default=DEMO)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    bare = Bare(arguments.gguf)
    with tempfile.TemporaryDirectory() as folder:
        queued = Queued(arguments.gguf, Path(folder))
        alone: list[Run] = []
        served: list[Run] = []
        overhead: list[float] = []
        try:
            for number in range(-1, arguments.rounds):  # the first round only warms both up
                for prompt in PROMPTS:
                    seed = abs(number)
                    one, quick, other = (
                        bare.run(prompt, seed),
                        queued.run(prompt, seed, LOOK_S),
                        queued.run(prompt, seed, CLIENT_LOOK_S),
                    )
                    if one.tokens != other.tokens:
                        raise SystemExit(f"the replies differ: {one.tokens} and {other.tokens} tokens")
                    if number >= 0 and one.tokens > 1:
                        alone.append(one)
                        served.append(other)
                        overhead.append(quick.first_ms - one.first_ms)
        finally:
            queued.close()
    ratios = [other.tokens_per_second / one.tokens_per_second for one, other in zip(alone, served, strict=True)]
    result = {
        "schema": 1,
        "model": arguments.gguf.name,
        "replies": len(served),
        "tokens": sum(run.tokens for run in served),
        "load": os.getloadavg()[0],
        "tokens_per_second": {
            "bare": round(speed(alone), 1),
            "worker": round(speed(served), 1),
            **{f"ratio_p{percent}": round(percentile(ratios, percent), 3) for percent in (25, 50, 75)},
        },
        "first_token_ms": {
            "bare_p50": round(percentile([run.first_ms for run in alone], 50), 1),
            "overhead_p50": round(percentile(overhead, 50), 1),
            "overhead_p95": round(percentile(overhead, 95), 1),
        },
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
