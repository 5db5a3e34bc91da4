"""The routes that need a caller: one short method each, and the parts that they are assembled from.

What goes wrong is raised as a `Problem`, or as `AwsError` where AWS doesn't serve; `handler.py` makes the answer of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aistratus import wire
from aistratus.router import body, problems
from aistratus.router.auth import Gate
from aistratus.router.aws import Aws, AwsError
from aistratus.router.checks import Checks
from aistratus.router.clock import Clock, Deadline
from aistratus.router.connections import Connections
from aistratus.router.control import Control, Order, order_of
from aistratus.router.ec2 import Ec2
from aistratus.router.environment import Environment
from aistratus.router.jobs import Jobs, fingerprint_of, job_of, new_id, same_request
from aistratus.router.keys import KeySet
from aistratus.router.limits import RateLimit
from aistratus.router.node_start import Starter
from aistratus.router.node_state import READY, UNAVAILABLE, Node
from aistratus.router.node_view import NodeView
from aistratus.router.pending_resize import PendingResize
from aistratus.router.queue_health import QueueHealth
from aistratus.router.registry import Registry
from aistratus.router.request import Request
from aistratus.router.table import Table
from aistratus.router.wake import Waker


@dataclass(frozen=True)
class Router:
    """The routes that need a caller, and what they are made of."""

    environment: Environment
    clock: Clock
    gate: Gate
    jobs: Jobs
    limit: RateLimit
    waker: Waker
    queues: QueueHealth
    checks: Checks
    control: Control
    view: NodeView

    @classmethod
    def assemble(cls, variables: Mapping[str, str], clock: Clock) -> Router:
        """From the function's environment variables. Makes no call."""
        environment = Environment.read(variables)
        connections = Connections()
        aws = Aws(environment.region, variables, connections, clock, environment.endpoint)
        table = Table(environment.jobs_table, aws)
        view = NodeView(table, clock)
        registry = Registry(aws, environment.ledger_prefix, variables)

        def make_ec2() -> Ec2:
            return Ec2.connect(environment.region, environment.endpoint)

        resize = PendingResize(table, clock)
        starter = Starter(
            table=table,
            registry=registry,
            clock=clock,
            make_ec2=make_ec2,
            resize=resize,
            env=environment.env,
            types=environment.node_types,
            wake_as=environment.wake_as,
        )
        waker = Waker(table, clock, starter, environment.kill_usd)
        return cls(
            environment=environment,
            clock=clock,
            gate=Gate(environment, KeySet(environment.keys_url, connections, clock), clock),
            jobs=Jobs(table, aws, environment.queue_url),
            limit=RateLimit(table, clock, environment.rate_per_minute),
            waker=waker,
            queues=QueueHealth(
                table,
                aws,
                environment.queue_url,
                environment.dead_letter_url,
                environment.usd_per_eur,
                environment.limit_eur,
                view,
            ),
            checks=Checks(aws, table, waker, environment.queue_url, environment.openai_secret),
            control=Control(table, registry, make_ec2, waker, starter, resize),
            view=view,
        )

    def infer(self, request: Request, owner: str) -> dict[str, Any]:
        """`POST /infer`: accepts a prompt, whatever the model does meanwhile."""
        key = request.idempotency_key()
        wanted = body.request_of(request.event)
        fingerprint = fingerprint_of(wanted)
        self.limit.count(owner, request.deadline)
        node = self.waker.ensure_awake(request.deadline)
        if node.state == UNAVAILABLE:
            item = self._accepted_before(owner, key, fingerprint, node, request)
        else:
            job = job_of(wanted, owner, key or new_id(), self.clock.ms())
            item = self.jobs.submit(job, fingerprint, request.id, request.deadline)
        request.about["job"] = item["job_id"]
        return json_answer(
            202,
            {
                "job_id": item["job_id"],
                "status": item["status"],
                "node": node.state,
                "eta_s": self._eta(node.state, request.deadline),
                "conversation": item["conversation"],
                "request_id": request.id,
            },
        )

    def _accepted_before(
        self, owner: str, key: str | None, fingerprint: str, node: Node, request: Request
    ) -> dict[str, Any]:
        """Nothing new is queued for a node that can't start, but a request that is repeated finds its job."""
        item = self.jobs.table.get(wire.job_pk(owner, key), request.deadline) if key else None
        if item is None:
            raise problems.node_unavailable(f"The node can't be started: {node.reason}.", retry_after=node.retry_after)
        return same_request(item, fingerprint)

    def job(self, request: Request, owner: str) -> dict[str, Any]:
        """`GET /jobs/{id}`: the job, and its text from the caller's cursor on."""
        job_id, after, attempt = request.job_id(), request.count("after") or 0, request.count("attempt")
        item = self.jobs.find(owner, job_id, request.deadline)
        restarted = attempt is not None and attempt != item["attempt"]
        text = item["text"][0 if restarted else after :]
        return json_answer(
            200,
            {
                "job_id": item["job_id"],
                "status": item["status"],
                "attempt": item["attempt"],
                "restarted": restarted,
                "text": text,
                "cursor": (0 if restarted else after) + len(text),
                "conversation": item["conversation"],
                "model": item.get("model"),
                "usage": item.get("usage"),
                "timings": item.get("timings"),
                "error": item.get("error"),
                "node": (state := self._node_for(item, request.deadline)),
                "eta_s": self._eta(state, request.deadline),
                "request_id": request.id,
            },
        )

    def _node_for(self, item: Mapping[str, Any], deadline: Deadline) -> str | None:
        """Somebody who waits for a queued job keeps the node awake, or wakes it again."""
        if item["status"] == wire.QUEUED:
            return self.waker.ensure_awake(deadline).state
        return READY if item["status"] == wire.RUNNING else None

    def _eta(self, state: str | None, deadline: Deadline) -> int | None:
        """Seconds until a node that is on its way is ready; an estimate, and none where AWS doesn't answer."""
        if state in (None, READY, UNAVAILABLE):
            return None
        try:
            return self.view.eta_s(deadline)
        except AwsError:
            return None

    def cancel(self, request: Request, owner: str) -> dict[str, Any]:
        """`DELETE /jobs/{id}`: 202 when this changes anything, 200 when the job had ended before."""
        job_id = request.job_id()
        status, alive = self.jobs.cancel(owner, job_id, request.deadline)
        return json_answer(202 if alive else 200, {"job_id": job_id, "status": status, "request_id": request.id})

    def queue_health(self, request: Request, owner: str) -> dict[str, Any]:
        """`GET /queue-health`: how much waits, how long, and whether somebody works on it."""
        self.control.carry_on(request.deadline)
        return json_answer(200, {**self.queues.read(request.deadline), "request_id": request.id})

    def stop(self, request: Request, operator: str) -> dict[str, Any]:
        """`POST /stop`: tells the node to stop; a body is ignored."""
        return self._ordered(Order("stop"), request, operator)

    def resize(self, request: Request, operator: str) -> dict[str, Any]:
        """`POST /resize`: stops the node, starts it, or changes its type."""
        return self._ordered(order_of(body.parsed(request.event), self.environment.node_types), request, operator)

    def _ordered(self, order: Order, request: Request, operator: str) -> dict[str, Any]:
        node = self.control.carry_out(order, f"operator {operator}", request.deadline)
        return json_answer(202, {"action": order.action, "node": node, "request_id": request.id})


ROUTES: Final[Mapping[str, Callable[[Router, Request, str], dict[str, Any]]]] = {
    "POST /infer": Router.infer,
    "GET /jobs/{id}": Router.job,
    "DELETE /jobs/{id}": Router.cancel,
    "GET /queue-health": Router.queue_health,
}
"""By API Gateway's route key; each needs a caller."""

OPERATOR_ROUTES: Final[Mapping[str, Callable[[Router, Request, str], dict[str, Any]]]] = {
    "POST /stop": Router.stop,
    "POST /resize": Router.resize,
}
"""Likewise; each needs a caller of the group `operators`."""


def json_answer(status: int, content: Mapping[str, Any]) -> dict[str, Any]:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(content)}
