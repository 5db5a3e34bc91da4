"""The model process: one engine, one request at a time, JSON lines on a pipe.

It is started as `python -m aistratus.worker.model_process <pid of the supervisor>`, without AWS credentials. Standard
input carries commands, a private copy of standard output carries events; whatever a native library prints goes to
standard error. It ends with its supervisor: by the kernel's parent-death signal on Linux, by the end of the pipe
everywhere.

Commands: `load` (a ModelSpec), `reply` (a request with an id), `stop` (an id).
Events: `loaded`, `refused` (the file is at fault), `unloadable` (the engine is), `reading`, `text`, `end`, `failed`
(`final` when another attempt would fail the same way).
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from aistratus.wire import Turn
from aistratus.worker.echo_engine import EchoEngine
from aistratus.worker.engine import ECHO, Engine, EngineError, ModelSpec, Sampling
from aistratus.worker.preflight import ModelRefused
from aistratus.worker.template import PromptTooLong, build_prompt
from aistratus.worker.text import ReplyText

SEND_EVERY_S: Final = 0.02
"""Text of a fast model travels in batches; a slow one's tokens are further apart than this and travel singly."""

FIRST_AFTER_S: Final = 0.01
"""The first text goes out this long after the prompt was read, or with the first token of a model that is slower: who
takes it on wants the processor, and a reply of a few milliseconds would stand still for that. Nobody sees the wait."""

READING_EVERY_S: Final = 1.0
"""A sign of life while a long prompt is read."""

SELF_TEST_TOKENS: Final = 16
SELF_TEST_S: Final = 2.0

Send = Callable[[Mapping[str, Any]], None]


def main() -> int:
    """Serves until the supervisor closes the pipe; 0 unless the model can't be had."""
    _die_with(int(sys.argv[1]))
    send = _sender()
    inbox = Commands(sys.stdin.buffer)
    inbox.start()
    engine = _load(ModelSpec(**inbox.next()["spec"]), send)
    if engine is None:
        return 1
    while True:
        command = inbox.next()
        stopped = inbox.stop_flag(command["id"])
        _serve(engine, command, stopped.is_set, send)


class Commands:
    """Reads commands beside the work, so that a stop is seen between two tokens."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._flags: dict[str, threading.Event] = {}
        self._changing = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def next(self) -> dict[str, Any]:
        """The next command that isn't a stop; waits for it."""
        return self._waiting.get()

    def stop_flag(self, request: str) -> threading.Event:
        """Set as soon as this request is to stop; flags of earlier requests are forgotten."""
        with self._changing:
            flag = self._flags.get(request, threading.Event())
            self._flags = {request: flag}
        return flag

    def _read(self) -> None:
        for line in self._stream:
            command = json.loads(line)
            if command["do"] == "stop":
                with self._changing:
                    self._flags.setdefault(command["id"], threading.Event()).set()
            else:
                self._waiting.put(command)
        os._exit(0)  # the supervisor is gone; a native call under way in the main thread would never notice


@dataclass
class Progress:
    """Counts one reply. `began` (the prompt is read) and `sent` are `time.perf_counter()` seconds."""

    began: float
    tokens: int = 0
    sent: float = 0.0
    shown: bool = False


def _serve(engine: Engine, command: Mapping[str, Any], stopped: Callable[[], bool], send: Send) -> None:
    """One reply; whatever goes wrong ends as one `failed` event, without any text of the prompt in it."""
    request = command["id"]
    try:
        _reply(engine, command, stopped, send)
    except PromptTooLong as error:
        send({"event": "failed", "id": request, "reason": str(error), "final": True})
    except EngineError as error:
        send({"event": "failed", "id": request, "reason": str(error), "final": False})
    except Exception as error:  # noqa: BLE001 (the boundary; a message may quote the prompt, so only its kind is told)
        reason = f"the model process could not work on the request ({type(error).__name__})"
        send({"event": "failed", "id": request, "reason": reason, "final": False})


def _reply(engine: Engine, command: Mapping[str, Any], stopped: Callable[[], bool], send: Send) -> None:
    request, clock = command["id"], time.perf_counter
    prompt = build_prompt(
        engine,
        system=command["system"],
        history=[Turn(**turn) for turn in command["history"]],
        prompt=command["prompt"],
        max_tokens=command["max_tokens"],
    )
    sampling = Sampling(temperature=command["temperature"], top_p=command["top_p"], seed=command["seed"])
    reply, progress, waiting, ending = ReplyText(command["stop"]), Progress(began=clock()), "", "eos"
    for piece in engine.generate(prompt.tokens, sampling):
        if stopped():
            ending = "stopped"
            break
        now = clock()
        if piece is None:
            progress.began = now
            if now - progress.sent > READING_EVERY_S:
                progress.sent = now
                send({"event": "reading", "id": request})
            continue
        progress.tokens += 1
        waiting += reply.feed(piece)
        if waiting and now > (progress.sent + SEND_EVERY_S if progress.shown else progress.began + FIRST_AFTER_S):
            progress.sent, progress.shown = now, True
            send({"event": "text", "id": request, "text": waiting})
            waiting = ""
        if reply.stopped or progress.tokens >= prompt.max_tokens:
            ending = "stop" if reply.stopped else "length"
            break
    seconds = clock() - progress.began
    send(
        {
            "event": "end",
            "id": request,
            "text": waiting + reply.finish(),
            "ending": ending,
            "prompt_tokens": len(prompt.tokens),
            "completion_tokens": progress.tokens,
            "dropped_turns": prompt.dropped_turns,
            "tokens_per_second": round(progress.tokens / seconds, 2) if progress.tokens else 0.0,
        }
    )


def _load(spec: ModelSpec, send: Send) -> Engine | None:
    began = time.perf_counter()
    try:
        engine = _engine(spec)
    except ModelRefused as error:
        send({"event": "refused", "reason": str(error)})
        return None
    except EngineError as error:
        print(error.__cause__, file=sys.stderr, flush=True)  # the library's own words, for the log only
        send({"event": "unloadable", "reason": str(error)})
        return None
    loaded = time.perf_counter() - began
    speed = None if spec.checked else self_test(engine)
    send(
        {
            "event": "loaded",
            "seconds": round(loaded, 3),
            "tokens_per_second": speed,
            "context_tokens": engine.context_tokens,
            **engine.description,
        }
    )
    return engine


def _engine(spec: ModelSpec) -> Engine:
    if spec.engine == ECHO:
        return EchoEngine(spec)
    from aistratus.worker.ctransformers_engine import CtransformersEngine

    return CtransformersEngine(spec)


def self_test(engine: Engine) -> float:
    """Tokens a second over a few tokens: the first figure of the heartbeat, until real jobs give better ones."""
    prompt = build_prompt(engine, system=None, history=(), prompt="Hello", max_tokens=1)
    began, tokens = time.perf_counter(), 0
    for piece in engine.generate(prompt.tokens, Sampling(temperature=0.0, top_p=1.0, seed=0)):
        now = time.perf_counter()
        if piece is None:
            began = now
            continue
        tokens += 1
        if tokens >= SELF_TEST_TOKENS or now - began > SELF_TEST_S:
            break
    return round(tokens / (time.perf_counter() - began), 2)


def _sender() -> Send:
    """Events go to a private copy of standard output; the original then leads to standard error."""
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(event: Mapping[str, Any]) -> None:
        private.write(json.dumps(event).encode() + b"\n")
        private.flush()

    return send


def _die_with(supervisor: int) -> None:
    """Ends with the supervisor, and only with it: the signals of a terminal or of systemd are meant for that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform != "linux":
        return
    import ctypes

    parent_death_signal = 1  # PR_SET_PDEATHSIG, prctl(2)
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(0)  # it died before the line above


if __name__ == "__main__":
    # Not sys.exit: the interpreter aborts at its end when a thread still waits for standard input.
    os._exit(main())
