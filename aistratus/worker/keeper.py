"""Keeps one model process alive.

A process that dies is restarted: at once the first time, with capped exponential backoff when it dies again without
having answered a job. A file that the pre-flight check refuses isn't tried again until it changes; meanwhile `trouble`
holds the reason, with which jobs fail instead of waiting for a day. A GPU that can't be used ends the process while it
loads: the next one runs on the CPU, and the log says so.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from aistratus.worker.child import Event, ModelDied, ModelProcess
from aistratus.worker.engine import ModelSpec
from aistratus.worker.log import Log

LOAD_LIMIT_S: Final = 900
"""A large file on a cold network volume takes minutes; a process that hangs while loading is killed after this."""

LONGEST_PAUSE_S: Final = 30.0
LOOK_AGAIN_S: Final = 1.0
"""How often a refused file is checked for a change."""

MAX_FAILED_LOADS: Final = 3
"""After this many failed loads in a row jobs fail with the reason instead of waiting for the next try."""

Signature = tuple[int, int, int] | None


class ModelKeeper:
    """Starts, watches and replaces the model process in a thread of its own.

    Args:
        fallback: the model that is loaded if `spec` can't be.

    Attributes:
        verdict: the outcome of the latest `switch`: empty when that model is loaded, else the reason why it isn't;
            None while it isn't decided.
        fell_back: whether the first model couldn't be loaded and the fallback is used.
    """

    def __init__(self, spec: ModelSpec, log: Log, fallback: ModelSpec | None = None) -> None:
        self._spec = spec
        self._fallback = fallback
        self._switching, self._first = False, True
        self.verdict: str | None = None
        self.fell_back = False
        self._log = log
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._process: ModelProcess | None = None
        self._ready = False
        self._trouble: str | None = None
        self._loaded_file: Signature = None
        self._deaths = 0
        self._failed_loads = 0
        self._speed = 0.0
        self._gpu = False
        self._gpu_trouble: str | None = None
        self._thread = threading.Thread(target=self._keep, name="model-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def switch(self, spec: ModelSpec) -> None:
        """Ends the process and loads this model, or the previous one again if it can't be loaded; see `verdict`."""
        with self._changed:
            self._fallback, self._spec, self._loaded_file = self._spec, spec, None
            self._switching, self._ready, self.verdict, self._trouble = True, False, None, None
            self._failed_loads, self._first, self.fell_back, process = 0, False, False, self._process
            self._gpu_trouble = None  # the new model is tried on the GPU first, too
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """Kills the process and starts no other."""
        with self._changed:
            self._stopping.set()
            process = self._process
            self._changed.notify_all()
        if process is not None:
            process.kill()

    def ready(self, timeout: float) -> ModelProcess | None:
        """The process, once its model is loaded; None after `timeout` seconds, in trouble, or when stopping."""
        with self._changed:
            self._changed.wait_for(lambda: self._usable() or self._trouble or self._stopping.is_set(), timeout)
            return self._process if self._usable() else None

    @property
    def loading(self) -> bool:
        return not self._ready

    @property
    def trouble(self) -> str | None:
        """Why there is no model and won't be soon, as a sentence; None while there is one or one is loading."""
        return self._trouble

    @property
    def gpu(self) -> bool:
        """Whether the loaded model runs on the GPU."""
        return self._ready and self._gpu

    @property
    def gpu_trouble(self) -> str | None:
        """Why the engine couldn't use the GPU; None where it wasn't asked to, or does."""
        return self._gpu_trouble

    @property
    def tokens_per_second(self) -> float:
        """Measured by the self-test after loading, later from the replies."""
        return self._speed

    def completed(self, tokens: int, tokens_per_second: float) -> None:
        """A reply was generated: the process is sound; a long enough reply corrects the speed."""
        self._deaths = 0
        if tokens >= 8:
            self._speed = round(0.7 * self._speed + 0.3 * tokens_per_second, 2) if self._speed else tokens_per_second

    def _usable(self) -> bool:
        return self._ready and self._process is not None and self._process.alive

    def _keep(self) -> None:
        while not self._stopping.is_set():
            process = self._begin()
            outcome = self._load(process)
            if outcome is not None:
                self._log.event("model_loaded", pid=process.pid, **_plain(outcome))
                process.wait()
            self._end(process, loaded=outcome is not None)

    def _begin(self) -> ModelProcess:
        signature = self._signature()
        checked = signature is not None and signature == self._loaded_file
        process = ModelProcess(replace(self._spec, checked=checked), self._log)
        with self._changed:
            self._process = process
        if self._stopping.is_set():
            process.kill()  # stop() may have come between the loop's look and this process
        return process

    def _load(self, process: ModelProcess) -> Event | None:
        """Waits for the model; its event, or None when there won't be one."""
        signature, deadline = self._signature(), time.monotonic() + LOAD_LIMIT_S
        try:
            event = process.event(LOAD_LIMIT_S)
        except ModelDied as death:
            self._load_failed(str(death))
            return None
        if event is None or time.monotonic() > deadline:
            process.kill()
            self._load_failed(f"the model was not loaded within {LOAD_LIMIT_S} s")
            return None
        if event["event"] == "loaded":
            self._publish(event, signature)
            return event
        if event["event"] == "refused":
            self._refused(event["reason"], signature)
        else:
            self._load_failed(event["reason"])
        return None

    def _publish(self, event: Event, signature: Signature) -> None:
        with self._changed:
            self._ready, self._trouble, self._failed_loads = True, None, 0
            self._gpu = event.get("gpu") is True
            if self._spec.gpu_layers > 0 and not self._gpu:
                self._gpu_trouble = "it has loaded the model without it"
            self._loaded_file = signature
            self._fallback = None
            self.verdict = self.verdict or ""
            self._speed = event["tokens_per_second"] or self._speed
            self._changed.notify_all()

    def _end(self, process: ModelProcess, *, loaded: bool) -> None:
        """Counts and logs the process's end, and waits before the next start."""
        with self._changed:
            self._ready = False
        if self._stopping.is_set():
            return
        if self._switching:
            self._switching = False
            return
        death = process.death()
        self._deaths += 1
        pause = 0.0 if loaded and self._deaths == 1 else min(LONGEST_PAUSE_S, 2.0 ** min(self._deaths - 2, 16))
        self._log.event("model_process_ended", pid=process.pid, reason=death, restart_in_s=pause)
        self._stopping.wait(pause)

    def _load_failed(self, reason: str) -> None:
        if self._stopping.is_set():
            return
        self._log.event("model_not_loaded", reason=reason)
        if self._spec.gpu_layers > 0:
            # Without a usable driver the CUDA library ends the process with status 1, and nothing can catch that.
            self._log.event("gpu_given_up", reason=reason, gpu_layers=self._spec.gpu_layers)
            self._spec, self._gpu_trouble = replace(self._spec, gpu_layers=0), reason
            return
        if self._fall_back(reason):
            return
        self._failed_loads += 1
        if self._failed_loads >= MAX_FAILED_LOADS:
            self._set_trouble(f"the model can't be loaded: {reason}")

    def _fall_back(self, reason: str) -> bool:
        """Returns to the previous model, if there is one."""
        with self._changed:
            if self._fallback is None:
                return False
            self._spec, self._fallback = self._fallback, None
            self._switching, self._loaded_file, self.fell_back, self.verdict = True, None, self._first, reason
        return True

    def _refused(self, reason: str, signature: Signature) -> None:
        """Waits until the file has changed."""
        self._log.event("model_refused", reason=reason)
        if self._fall_back(reason):
            return
        self._set_trouble(f"the model can't be loaded: {reason}")
        while self._signature() == signature and not self._stopping.wait(LOOK_AGAIN_S):
            pass

    def _set_trouble(self, reason: str) -> None:
        with self._changed:
            self._trouble = reason
            self._changed.notify_all()

    def _signature(self) -> Signature:
        """Identifies the version of the model file; None while there is none."""
        try:
            status = Path(self._spec.path).stat()
        except OSError:
            return None
        return (status.st_size, status.st_mtime_ns, status.st_ino)


def _plain(event: Event) -> dict[str, str | int | float | None]:
    return {name: value for name, value in event.items() if name != "event"}
