"""The supervisor: receives one message after the other, works on its job, and deletes or releases it.

Threads: the main thread waits for the signal to stop; `serve` receives messages and works on them; the model keeper,
heartbeat, dead-letter scan and power watch run beside it at their own intervals. They share only the few thread-safe
objects that are passed in here.

Stopping takes less than two seconds: the current message is released, the heartbeat is deleted, and nothing waits for
the long poll, whose connection ends with the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from aistratus.wire import POWER_OFF, Job, WireError
from aistratus.worker.attempt import Attempt, AttemptFailed, Context, MessageAction
from aistratus.worker.boots import Boots
from aistratus.worker.child import ModelProcess
from aistratus.worker.clients import Clients, GaveUp, Retrier
from aistratus.worker.dead_letters import DeadLetters
from aistratus.worker.gpu import Gpu, has_gpu
from aistratus.worker.heartbeat import Heartbeat
from aistratus.worker.inbox import Inbox, Lease, Message, release
from aistratus.worker.jobs import Jobs
from aistratus.worker.keeper import ModelKeeper
from aistratus.worker.log import Log
from aistratus.worker.models import Chosen, Models, chosen_before
from aistratus.worker.power import Limits, Power
from aistratus.worker.settings import Settings
from aistratus.worker.state import Held, PowerNotes, StateFolder
from aistratus.worker.turn import Turn

MODEL_WAIT_S: Final = 1.0
"""How long one wait for a loaded model lasts; between two waits the supervisor checks whether it is to stop."""

FINISH_S: Final = 0.4
"""Time for a job to finish its last write before its message is released."""

PARKED_S: Final = 0.1
"""Interval of checking whether a change of the model has ended."""

CLEAN_UP_S: Final = 1.2
"""Time limit of the last calls, which run in parallel."""


class Supervisor:
    """One worker: its parts, and the loop that serves messages."""

    def __init__(self, settings: Settings, clients: Clients, state: StateFolder, log: Log) -> None:
        self._settings = settings
        self._clients = clients
        self._state = state
        self._log = log
        self.stopping = threading.Event()
        self._lease: Lease | None = None
        self._failed, self._off = False, False
        self._busy_s = 0.0
        retrier = Retrier(log, self.stopping)
        jobs = Jobs(clients.dynamodb, settings.jobs_table, self._model_name, clients.time)
        first = chosen_before(settings)
        self._keeper = (
            ModelKeeper(settings.model, log) if first is None else ModelKeeper(first.spec, log, fallback=settings.model)
        )
        self._turn = Turn(self.stopping)
        self._models: Models = Models(
            clients, settings, self._keeper, self._turn.park, log, first or Chosen(settings.model, settings.model_name)
        )
        self._gpu = Gpu(
            there=has_gpu(settings.gpu_devices),
            boot=settings.boot,
            note=settings.gpu_note,
            used=lambda: self._keeper.gpu,
            given_up=lambda: self._keeper.gpu_trouble,
        )
        self._inbox = Inbox(clients.sqs, settings.queue_url, settings.poll_s, log, self.stopping)
        self._heartbeat = Heartbeat(clients, settings, self._report, log)
        self._dead_letters = (
            DeadLetters(clients.sqs, settings.dead_letter_url, jobs, log) if settings.dead_letter_url else None
        )
        self._boots = Boots(clients, settings, log, first=state.power(settings.boot) is None)
        self._power = Power(
            clients=clients,
            table=settings.jobs_table,
            limits=Limits(idle_s=settings.idle_s, run_s=settings.run_s),
            notes=PowerNotes(state, settings.boot),
            look=lambda: (self._lease is not None, self._keeper.loading and self._keeper.trouble is None),
            leave=self._heartbeat.pause,
            stay=self._heartbeat.resume,
            off=self._switch_off,
            log=log,
            last_look_s=settings.last_look_s,
        )
        self._retrier = retrier
        self._context = Context(
            jobs=jobs,
            retrier=retrier,
            log=log,
            stopping=self.stopping,
            model=self._model,
            completed=self._keeper.completed,
        )

    def run(self) -> int:
        """Works until `stopping` is set.

        Returns:
            The exit status: 0 when asked to stop, 1 when it can't continue, `POWER_OFF` to switch the machine off.
        """
        self._keeper.start()
        self._heartbeat.start()
        self._power.start()
        self._models.start()
        threading.Thread(target=self._boots.record, args=(self._await_ready,), name="boots", daemon=True).start()
        self._release_leftover()
        if self._dead_letters:
            self._dead_letters.start()
        serve = threading.Thread(target=self._serve, name="serve", daemon=True)
        serve.start()
        self.stopping.wait()
        self._power.end()
        self._models.end()
        self._keeper.stop()
        if self._lease is not None:
            serve.join(FINISH_S)
        self._clean_up()
        self._log.event("stopped", failed=self._failed)
        return POWER_OFF if self._off else 1 if self._failed else 0

    def _switch_off(self) -> None:
        self._off = True
        self.stopping.set()

    def _release_leftover(self) -> None:
        """Releases the message that a killed predecessor held, instead of waiting for its visibility timeout."""
        held = self._state.held()
        if held is None or held.queue_url != self._settings.queue_url:
            return
        if release(self._clients.last_sqs, held.queue_url, held.receipt, self._log):
            self._log.event("old_message_given_back")
        self._state.release()

    def _clean_up(self) -> None:
        calls = [threading.Thread(target=self._heartbeat.remove, daemon=True)]
        if self._off:
            calls.append(threading.Thread(target=self._heartbeat.power_record.record_stop, daemon=True))
        if self._lease is not None:
            calls.append(threading.Thread(target=self._release, args=(self._lease,), daemon=True))
        for call in calls:
            call.start()
        for call in calls:
            call.join(CLEAN_UP_S)

    def _serve(self) -> None:
        """Serves messages until the worker stops. An unexpected error ends the process, which systemd restarts."""
        worked = True  # the previous worker may have
        try:
            while not self.stopping.is_set():
                if self._power.closed.is_set():
                    self.stopping.wait(MODEL_WAIT_S)
                    continue
                if self._turn.parking:
                    self.stopping.wait(PARKED_S)
                    continue
                if self._keeper.ready(MODEL_WAIT_S) is None and self._keeper.trouble is None:
                    continue
                message = self._inbox.receive()
                if message is not None:
                    self._handle(message)
                elif worked and self._dead_letters:
                    self._dead_letters.look_soon()  # SQS moves a message there instead of delivering it a fourth time
                worked = message is not None
        except GaveUp:
            return
        except Exception as error:  # noqa: BLE001 (the thread's boundary: after an unexpected error the process is restarted)
            self._log.event("supervisor_failed", reason=f"{type(error).__name__} at {_place(error)}")
            self._failed = True
        finally:
            self.stopping.set()

    def _await_ready(self) -> bool:
        """Waits for the model; returns whether it is ready, false when it can't be loaded or the worker stops."""
        while not self.stopping.is_set() and self._keeper.trouble is None:
            if self._keeper.ready(MODEL_WAIT_S) is not None:
                return True
        return False

    def _model_name(self) -> str:
        return self._models.name

    def _handle(self, message: Message) -> None:
        lease = Lease(self._clients.sqs, self._settings.queue_url, message.receipt, self._log)
        self._state.hold(Held(queue_url=self._settings.queue_url, receipt=message.receipt))
        self._lease = lease
        if self.stopping.is_set():  # it came with the last poll; `_clean_up` may be over already
            self._release(lease)
            return
        lease.start()
        try:
            action = self._attempt(message, lease)
            if action is MessageAction.DELETE:
                lease.delete(self._retrier)
        except GaveUp:
            action = MessageAction.RELEASE
        if self.stopping.is_set():
            return  # `_clean_up` releases it, which does nothing to a deleted message
        if action is MessageAction.RELEASE:
            self._release(lease)
        lease.end()
        self._power.worked()
        self._lease = None
        self._state.release()

    def _attempt(self, message: Message, lease: Lease) -> MessageAction:
        try:
            job = Job.from_message(message.body)
        except WireError:
            # SQS moves it to the dead letters after its third receive. Its text may hold a prompt, so it isn't logged.
            self._log.event("poison_message", message=message.id, receives=message.receives, reason="not a job message")
            return MessageAction.RELEASE
        self._log.event("job_received", job=job.job_id, receives=message.receives)
        with self._turn.working():
            began = time.monotonic()
            try:
                return Attempt(self._context, job, lease, message.receives).run()
            finally:
                self._busy_s += time.monotonic() - began

    def _release(self, lease: Lease) -> None:
        if lease.release(self._clients.last_sqs):
            self._state.release()

    def _model(self) -> ModelProcess:
        """The loaded model; waits while one is being loaded.

        Raises:
            AttemptFailed: no model can be loaded, with the reason, or the worker stops.
        """
        while not self.stopping.is_set():
            process = self._keeper.ready(MODEL_WAIT_S)
            if process is not None:
                return process
            if self._keeper.trouble is not None:
                raise AttemptFailed(self._keeper.trouble)
        raise AttemptFailed("the worker stops")

    def _report(self) -> Mapping[str, Any]:
        loading = self._keeper.loading
        return {
            "state": "loading" if loading else "busy" if self._lease is not None else "ready",
            **self._models.report(),
            "tokens_per_second": self._keeper.tokens_per_second,
            "busy_ms": round(self._busy_s * 1000),
            "reason": self._keeper.trouble if loading else None,
            **self._gpu.report(),
            **self._power.report(),
        }


def _place(error: Exception) -> str:
    """File and line where an exception came from; its message may quote a prompt, so it isn't logged."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
