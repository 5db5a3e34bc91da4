"""A client of an env's API: submit a prompt, follow its reply, cancel it.

    with Api(url, token) as api:
        submitted = api.submit(InferRequest(prompt="How do I stop the GPU?"))
        for event in api.stream(submitted):
            ...

The reply is polled for, because an HTTP API can't stream. The polling interval follows what is expected next: short
while the first token is near, a little longer right after text has come (the worker writes every 150 to 250 ms), and
long while a node starts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import httpx

from aistratus import wire
from aistratus.client import events
from aistratus.client.clock import Clock, EventClock
from aistratus.client.errors import ClientError, NodeAbsent
from aistratus.client.request import InferRequest
from aistratus.client.transport import LONGEST_RETRY_AFTER_S, PATIENCE_S, TIMEOUT, Transport

POLL_S: Final = 0.05
"""While a piece of text may come at any moment."""
POLL_AFTER_TEXT_S: Final = 0.1
"""After text has come: the worker's next write is at least 150 ms after its last."""
POLL_QUEUED_S: Final = 0.25
"""Behind other jobs, once the first seconds have passed."""
POLL_NODE_S: Final = 1.0
"""While the node starts or stops, which takes a minute."""
NODE_STARTS_WITHIN_S: Final = 900.0
"""A first boot installs packages and fetches 670 MB; a node that takes longer than this counts as failed."""
SOON_S: Final = 5.0
"""For this long a queued job on a ready node is polled as if it may start at any moment."""


@dataclass(frozen=True)
class Submitted:
    """An accepted prompt."""

    job_id: str
    status: str
    node: str
    conversation: str
    request_id: str


@dataclass(frozen=True)
class JobView:
    """A job as it is now, with the text from the cursor that was asked for.

    `restarted` says that the text begins anew, because a later attempt has begun.
    """

    job_id: str
    status: str
    attempt: int
    text: str
    cursor: int
    restarted: bool
    conversation: str
    model: str
    usage: Mapping[str, Any]
    timings: Mapping[str, Any]
    error: str
    node: str
    eta_s: float | None = None
    """Seconds until the node is expected to be ready, where the API knows."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long a request is retried, the longest pause between two tries, and a callback for each."""

    seconds: float = PATIENCE_S
    longest_wait_s: float = LONGEST_RETRY_AFTER_S
    on_wait: Callable[[ClientError | None, float], None] | None = None


class Api:
    """One env's API.

    Args:
        base_url: as `aistratus up` prints it.
        token: gives an access token that is valid now; asked before every request.
        http: open connections that others use, too; whoever made them ends them last.
        retry: for a program whose user can stop it; by default a request is retried for a minute.
    """

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str],
        *,
        clock: Clock | None = None,
        http: httpx.Client | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._clock = clock or EventClock()
        self._http = http or httpx.Client(base_url=base_url, timeout=TIMEOUT)
        retry = retry or RetryPolicy()
        self._transport = Transport(self._http, token, self._clock, retry.seconds, retry.longest_wait_s, retry.on_wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the open connections."""
        self._http.close()

    def health(self) -> dict[str, Any]:
        """`{"status", "env", "version"}`; needs no token.

        Raises:
            ApiError, ApiUnreachable: as every method here.
        """
        return self._transport.request("GET", "/health", signed_in=False)

    def queue_health(self) -> dict[str, Any]:
        """`{"depth", "in_flight", "dead", "oldest_age_s", "heartbeat_age_s"}`; ages in seconds, or None.

        Where the env tells more, `node` (`state`, `type`, `stops_in_s`, `eta_s`) and `cost` (`today_eur`, `month_eur`,
        `eur_per_hour`, `limit_eur`) come along.
        """
        return self._transport.request("GET", "/queue-health")

    def submit(self, request: InferRequest, idempotency_key: str | None = None) -> Submitted:
        """Sends a prompt. Without a given idempotency key it gets one, so that a retry can't create a second job."""
        key = idempotency_key or uuid.uuid4().hex
        answer = self._transport.request("POST", "/infer", body=request.body(), headers={"idempotency-key": key})
        node = answer.get("node")
        told = {**answer, "node": node.get("state") if isinstance(node, Mapping) else node}
        return Submitted(**{name: str(told.get(name) or "") for name in Submitted.__dataclass_fields__})

    def job(self, job_id: str, after: int = 0, attempt: int | None = None) -> JobView:
        """A job with its text from character `after` on, if it is still in that attempt."""
        query = {"after": after} if attempt is None else {"after": after, "attempt": attempt}
        return _view(self._transport.request("GET", f"/jobs/{job_id}", query=query))

    def cancel(self, job_id: str) -> str:
        """Cancels a job and returns its status: a running one ends at the worker's next write."""
        return str(self._transport.request("DELETE", f"/jobs/{job_id}").get("status", ""))

    def stop_node(self) -> dict[str, Any]:
        """Stops the machine; for operators."""
        return self._transport.request("POST", "/stop")

    def change_node(self, action: str, type: str | None = None) -> dict[str, Any]:
        """Starts, stops or resizes the machine; for operators.

        Args:
            action: `start`, `stop` or `resize`.
            type: for `resize`, one of the settings' types.
        """
        return self._transport.request("POST", "/resize", body={"action": action, **({"type": type} if type else {})})

    def stream(self, submitted: Submitted) -> Iterator[events.Event]:
        """The reply as it is written; the last event is `Done`, `Failed` or `Cancelled`.

        Ending the iteration early leaves the job running: `cancel` stops it.

        Raises:
            NodeAbsent: the node hasn't come up in `NODE_STARTS_WITHIN_S`; the job stays in the queue.
        """
        reply = _Reply()
        stage, eta = "", None
        attempt: int | None = None
        cursor = 0
        began = self._clock.monotonic()
        while True:
            view = self.job(submitted.job_id, cursor, attempt)
            attempt, cursor = view.attempt, view.cursor
            now = _stage(view)
            if now and (now, view.eta_s) != (stage, eta):
                yield events.Stage(now, view.eta_s)
                stage, eta = now, view.eta_s
            yield from reply.take(view)
            if view.status in wire.FINAL:
                yield from reply.end(view)
                return
            waited = self._clock.monotonic() - began
            if stage in NODE_AWAITED and waited > NODE_STARTS_WITHIN_S:
                raise NodeAbsent(
                    f"The node hasn't come up in {NODE_STARTS_WITHIN_S / 60:.0f} minutes; "
                    "`aistratus status` and `aistratus logs worker` tell more."
                )
            self._clock.wait(_pause(view, stage, waited))


class _Reply:
    """The text shown so far, beside the text of the current attempt.

    A second attempt usually writes the same again, since a job carries its seed. As long as it does, nothing is
    shown until it has caught up.
    """

    def __init__(self) -> None:
        self._shown = ""
        self._written = ""

    def take(self, view: JobView) -> Iterator[events.Event]:
        """Adds a poll's answer."""
        self._written = view.text if view.restarted else self._written + view.text
        if self._written.startswith(self._shown):
            yield from self._show(self._written[len(self._shown) :])
        elif not self._shown.startswith(self._written):
            yield from self._show_anew()

    def end(self, view: JobView) -> Iterator[events.Event]:
        """The last events of a job that has ended."""
        if self._shown != self._written:
            yield from self._show_anew()
        if view.status == wire.DONE:
            yield events.Done(self._written, view.model, view.usage, view.timings)
        elif view.status == wire.CANCELLED:
            yield events.Cancelled(self._written)
        else:
            yield events.Failed(self._written, view.error or "The job failed without a reason.")

    def _show_anew(self) -> Iterator[events.Event]:
        yield events.Restarted()
        self._shown = ""
        yield from self._show(self._written)

    def _show(self, text: str) -> Iterator[events.Event]:
        if text:
            self._shown += text
            yield events.Piece(text)


_NODE_STAGES: Final = {
    "starting": events.NODE_STARTING,
    "asleep": events.NODE_STARTING,
    "stopping": events.NODE_STOPPING,
    "unavailable": events.NODE_UNAVAILABLE,
    "warming": events.MODEL_LOADING,
    "loading": events.MODEL_LOADING,
}


NODE_AWAITED: Final = frozenset(_NODE_STAGES.values())


def _stage(view: JobView) -> str:
    """Empty once the job has ended."""
    if view.status == wire.QUEUED:
        return _NODE_STAGES.get(view.node, events.QUEUED)
    return events.RUNNING if view.status == wire.RUNNING else ""


def _pause(view: JobView, stage: str, waited: float) -> float:
    """Seconds until the next poll."""
    if stage == events.RUNNING:
        return POLL_AFTER_TEXT_S if view.text else POLL_S
    if stage == events.QUEUED:
        return POLL_S if waited < SOON_S else POLL_QUEUED_S
    return POLL_NODE_S


def _view(answer: Mapping[str, Any]) -> JobView:
    node = answer.get("node") or ""
    told = node if isinstance(node, Mapping) else {"state": node, "eta_s": answer.get("eta_s")}
    eta = told.get("eta_s")
    return JobView(
        job_id=str(answer.get("job_id", "")),
        status=str(answer.get("status", "")),
        attempt=int(answer.get("attempt") or 0),
        text=str(answer.get("text") or ""),
        cursor=int(answer.get("cursor") or 0),
        restarted=bool(answer.get("restarted")),
        conversation=str(answer.get("conversation") or ""),
        model=str(answer.get("model") or ""),
        usage=dict(answer.get("usage") or {}),
        timings=dict(answer.get("timings") or {}),
        error=str(answer.get("error") or ""),
        node=str(told.get("state") or ""),
        eta_s=float(eta) if isinstance(eta, (int, float)) else None,
    )
