"""The overhead of the whole prompt path over the bare engine, both measured in one run.

The stack of the env `local` is built in an embedded cloud of its own. Prompts then take the path of `aistratus chat`:
client, gateway with its authorizer, router in its own process, queue, worker, and back through the job item. In
alternation with them, the same prompt is given to the bare library in this process, in the tightest loop that its
public methods allow, so that the machine's other load affects both.

- `first_token_ms.overhead_p95`: from the client's `submit` to the first text in the client's hands, less the bare
  engine's time to its first token.
- `tokens_per_second.ratio_p50`: tokens by the seconds from the end of reading the prompt to the end of the reply, as
  the worker states it in `timings`, over the bare engine's for the same tokens. The median over pairs, with quartiles:
  where those are far apart the machine was too busy to tell. Replies of less than `--least` tokens take a few
  milliseconds, in which one interruption decides; they are left out of this figure.

    python scripts/bench/chat.py [--rounds 10] [--gguf FILE]

Prints one JSON line. Promised: at most 150 ms, at least 0.95.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from own_cloud import KEYS, OwnCloud, machine, own_cloud

from aistratus.client.api import Api
from aistratus.client.events import Done, Failed, Piece
from aistratus.client.request import InferRequest
from aistratus.models import demo_model
from aistratus.worker.ctransformers_engine import CtransformersEngine
from aistratus.worker.engine import ModelSpec
from aistratus.worker.processor import library, threads
from aistratus.worker.template import build_prompt

OVERHEAD_LIMIT_MS: Final = 150
SPEED_LIMIT: Final = 0.95

PROMPTS: Final = (
    "How do I stop the GPU?",
    "What is a dead letter queue?",
    "hello",
    "How do I see what it costs?",
    "What can you do?",
)
MAX_TOKENS: Final = 300


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One reply: milliseconds to its first text, its tokens, and tokens per second of generation."""

    first_ms: float
    tokens: int
    tokens_per_second: float


class Bare:
    """The library alone, with the same prompt tokens and the same greedy choice as the worker's."""

    def __init__(self, gguf: Path) -> None:
        from ctransformers.llm import LLM, Config

        self._tokenizer = CtransformersEngine(ModelSpec(engine="ctransformers", path=str(gguf)))
        config = Config(
            context_length=self._tokenizer.context_tokens, threads=threads(gguf.stat().st_size), batch_size=32
        )
        self._llm = LLM(str(gguf), config=config, lib=library(0))

    @property
    def context_tokens(self) -> int:
        """The model's context."""
        return self._tokenizer.context_tokens

    def ask(self, prompt: str) -> Reply:
        """Reads and writes; a prefix shared with the last prompt isn't read again, as in the worker."""
        llm, clock = self._llm, time.perf_counter
        built = build_prompt(self._tokenizer, system=None, history=(), prompt=prompt, max_tokens=MAX_TOKENS)
        began = clock()
        llm.eval(llm.prepare_inputs_for_generation(list(built.tokens)))
        read, first, tokens = clock(), 0.0, 0
        while not llm.is_eos_token(token := llm.sample(top_k=1, temperature=0.0, repetition_penalty=1.0, seed=1)):
            llm.detokenize([token], decode=False)
            tokens += 1
            first = first or clock()
            if tokens >= built.max_tokens:
                break
            llm.eval([token])
        return Reply(first_ms=(first - began) * 1000, tokens=tokens, tokens_per_second=tokens / (clock() - read))


def ask(api: Api, prompt: str) -> Reply:
    """One prompt through the whole stack.

    Raises:
        SystemExit: it failed.
    """
    began, first = time.perf_counter(), 0.0
    for event in api.stream(api.submit(InferRequest(prompt=prompt, max_tokens=MAX_TOKENS, temperature=0.0))):
        match event:
            case Piece() if not first:
                first = time.perf_counter()
            case Failed(_, reason):
                raise SystemExit(f"the worker failed: {reason}")
            case Done():
                return Reply(
                    first_ms=(first - began) * 1000,
                    tokens=event.usage["completion_tokens"],
                    tokens_per_second=event.timings["tokens_per_second"],
                )
    raise SystemExit("the reply ended without an end")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="how often each prompt is asked [default: 10]")
    parser.add_argument("--gguf", type=Path, default=demo_model(), help="the model [default: the demo model]")
    parser.add_argument("--least", type=int, default=15, help="tokens from which a reply's speed counts [default: 15]")
    arguments = parser.parse_args()
    bare = Bare(arguments.gguf)
    with own_cloud() as cloud, _door(cloud, arguments.gguf, bare.context_tokens) as api:
        pairs = []
        for number in range(-1, arguments.rounds):  # the first round only warms both up
            for prompt in PROMPTS:
                pair = bare.ask(prompt), ask(api, prompt)
                if number >= 0:
                    pairs.append(pair)
    if other := [(one.tokens, two.tokens) for one, two in pairs if one.tokens != two.tokens]:
        raise SystemExit(f"the replies differ: {other[0][0]} and {other[0][1]} tokens")
    result = {"schema": 1, "model": arguments.gguf.name, "replies": len(pairs), **_figures(pairs, arguments.least)}
    print(json.dumps({**result, "machine": machine()}))
    kept = result["first_token_ms"]["overhead_p95"] <= OVERHEAD_LIMIT_MS
    return 0 if kept and result["tokens_per_second"]["ratio_p50"] >= SPEED_LIMIT else 1


def _door(cloud: OwnCloud, gguf: Path, context_tokens: int) -> Api:
    """The API of a stack that is up, and whose worker is ready."""
    chosen = {
        "AISTRATUS_MODEL__PATH": str(gguf.resolve()),
        "AISTRATUS_MODEL__CONTEXT_TOKENS": str(context_tokens),
        "AISTRATUS_API__RATE_PER_MINUTE": "1000",
    }
    cloud.run("up", "--yes", "--wait", **chosen)
    cloud.run("chat", "hello", "-o", "json")  # signs in and keeps the token in this home
    ids = {key: _ids(cloud, key) for key in ("api", "user_client")}
    [kept] = cloud.home.rglob(f"tokens/{ids['user_client']['id']}/local.json")
    token = json.loads(kept.read_text(encoding="utf-8"))["access"]
    return Api(ids["api"]["endpoint"], lambda: token)


def _ids(cloud: OwnCloud, key: str) -> dict[str, str]:
    import boto3

    ssm = boto3.client(
        "ssm",
        endpoint_url=cloud.endpoint,
        region_name=KEYS["AWS_DEFAULT_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    ids: dict[str, str] = json.loads(ssm.get_parameter(Name=f"/tinyllama/local/{key}")["Parameter"]["Value"])
    return ids


def _figures(pairs: list[tuple[Reply, Reply]], least: int) -> dict[str, Any]:
    long = [(one, two) for one, two in pairs if one.tokens >= least]
    if len(long) < 2:
        raise SystemExit(f"no reply has {least} tokens; --least takes a lower number")
    ratios = [two.tokens_per_second / one.tokens_per_second for one, two in long]
    overhead = [two.first_ms - one.first_ms for one, two in pairs]
    return {
        "first_token_ms": {
            "bare_p50": round(statistics.median(one.first_ms for one, _ in pairs), 1),
            "overhead_p50": round(_percentile(overhead, 50), 1),
            "overhead_p95": round(_percentile(overhead, 95), 1),
            "limit": OVERHEAD_LIMIT_MS,
        },
        "tokens_per_second": {
            "replies": len(long),
            "tokens_p50": statistics.median(one.tokens for one, _ in long),
            "bare": round(statistics.median(one.tokens_per_second for one, _ in long)),
            **{f"ratio_p{percent}": round(_percentile(ratios, percent), 3) for percent in (25, 50, 75)},
            "limit": SPEED_LIMIT,
        },
    }


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    os.environ["NO_PROXY"] = "127.0.0.1"
    sys.exit(main())
