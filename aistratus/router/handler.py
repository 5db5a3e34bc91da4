"""The Lambda function behind the API.

`handle` is the entry point. An event comes from API Gateway in payload format 2.0, or from anybody who may invoke the
function, so nothing in it is trusted: neither its shape nor the claims in it. Each route is one short method; what
goes wrong is raised as a `Problem` and becomes an answer in one place.

Cold start is the number that users feel, and so this module and what it imports stay with the standard library;
python-jose is loaded with the first token, boto3 when a node must be started, and nothing else at all.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from aistratus import __version__, wire
from aistratus.router import body, log, problems
from aistratus.router.auth import Gate
from aistratus.router.aws import Aws, AwsError
from aistratus.router.checks import Checks
from aistratus.router.clock import Clock, Deadline
from aistratus.router.connections import Connections
from aistratus.router.control import Control, Order, order_of
from aistratus.router.environment import Environment, Misconfigured
from aistratus.router.jobs import Jobs, fingerprint_of, job_of, new_id, same_request
from aistratus.router.keys import KeySet
from aistratus.router.limits import RateLimit
from aistratus.router.node_view import NodeView
from aistratus.router.problems import Problem
from aistratus.router.queue_health import QueueHealth
from aistratus.router.registry import Registry
from aistratus.router.table import Table
from aistratus.router.wake import READY, UNAVAILABLE, Node, Waker, boto3_ec2

_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9=_-]{1,64}")
_COUNT: Final = re.compile(r"[0-9]{1,9}")


def handle(event: Any, context: Any) -> dict[str, Any]:
    """Lambda's entry point.

    Returns:
        A result in payload format 2.0: `statusCode`, `headers`, `body`.
    """
    if event == wire.WARM:
        return _json(200, {"status": "warm"})
    clock = Clock()
    started = clock.monotonic()
    request = Request(event if isinstance(event, dict) else {}, context, Deadline.of(clock, context))
    failure: dict[str, Any] = {}
    try:
        answer = _gone_on(request) if event == wire.GO_ON else _answer(request)
    except Problem as problem:
        answer = problem.answer(request.id)
        failure = {"problem": problem.type.rpartition(":")[2], "cause": _cause(problem)}
    except AwsError as error:
        answer = problems.service_unavailable("AWS could not serve the request; send it again.").answer(request.id)
        failure = {"problem": "aws", "cause": str(error)}
    except Misconfigured as error:
        answer = problems.unexpected().answer(request.id)
        failure = {"problem": "configuration", "cause": str(error)}
    except Exception as error:  # noqa: BLE001  # a defect of ours: told in the log, never to the caller
        answer = problems.unexpected().answer(request.id)
        failure = {"problem": type(error).__name__, "cause": log.where(error.__traceback__)}
    log.write(
        level=_level(answer["statusCode"]),
        request_id=request.id,
        invocation=request.invocation,
        route=request.route,
        status=answer["statusCode"],
        ms=round((clock.monotonic() - started) * 1000, 1),
        **request.about,
        **failure,
    )
    return answer


def _cause(problem: Problem) -> str | None:
    return str(problem.__cause__) if isinstance(problem.__cause__, AwsError) else None


def _level(status: int) -> str:
    return "error" if status >= 500 else "info"


@dataclass(frozen=True)
class Request:
    """What came in, read without trust in its shape."""

    event: Mapping[str, Any]
    context: Any
    deadline: Deadline
    about: dict[str, str] = field(default_factory=dict)
    """What the log's line says besides: the job that this is about."""

    @property
    def route(self) -> str:
        """A route of ours, or `unknown`. Where the health check lies is a setting of the env."""
        key = self.event.get("routeKey")
        if key == f"GET {self.health_path}":
            return HEALTH
        return key if isinstance(key, str) and key in (*ROUTES, *OF_OPERATORS, CONTRACT) else "unknown"

    @property
    def health_path(self) -> str:
        return os.environ.get("HEALTH_PATH", "/health")

    @property
    def id(self) -> str:
        """The API's request id, or Lambda's for a direct invoke."""
        at_edge = self._mapping("requestContext").get("requestId")
        for candidate in (at_edge, self.invocation):
            if isinstance(candidate, str) and _REQUEST_ID.fullmatch(candidate):
                return candidate
        return "unknown"

    @property
    def invocation(self) -> str | None:
        """Lambda's own id, which its lines about duration and memory carry."""
        at_lambda = getattr(self.context, "aws_request_id", None)
        return at_lambda if isinstance(at_lambda, str) else None

    def header(self, name: str) -> str | None:
        """A header by its name in lower case."""
        for key, value in self._mapping("headers").items():
            if isinstance(key, str) and key.lower() == name and isinstance(value, str):
                return value
        return None

    def job_id(self) -> str:
        """The path's `{id}`.

        Raises:
            Problem: 404 when no job can have it.
        """
        value = self._mapping("pathParameters").get("id")
        if not isinstance(value, str) or not _JOB_ID.fullmatch(value):
            raise problems.not_found("You have no job with this id.")
        self.about["job"] = value
        return value

    def count(self, name: str) -> int | None:
        """A query parameter that is a number of things.

        Raises:
            Problem: 400.
        """
        value = self._mapping("queryStringParameters").get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _COUNT.fullmatch(value):
            raise problems.bad_field(name, "must be a whole number of up to 9 digits")
        return int(value)

    def flag(self, name: str) -> bool:
        """A query parameter that is 1 or 0, or not there.

        Raises:
            Problem: 400.
        """
        value = self._mapping("queryStringParameters").get(name, "0")
        if value not in ("0", "1"):
            raise problems.bad_field(name, "must be 0 or 1")
        return bool(value == "1")

    def idempotency_key(self) -> str | None:
        """The header's value.

        Raises:
            Problem: 400.
        """
        value = self.header("idempotency-key")
        if value is not None and not _JOB_ID.fullmatch(value):
            raise problems.bad_field("Idempotency-Key", "must be 1 to 64 letters, digits, - or _")
        return value

    def _mapping(self, name: str) -> Mapping[str, Any]:
        value = self.event.get(name)
        return value if isinstance(value, dict) else {}


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

        def make_ec2() -> Any:
            return boto3_ec2(environment.region, environment.endpoint)

        waker = Waker(
            table,
            registry,
            clock,
            make_ec2,
            environment.kill_usd,
            environment.env,
            environment.node_types,
            environment.wake_as,
        )
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
            control=Control(table, registry, clock, make_ec2, waker),
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
        return _json(
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
        return _json(
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
        return _json(202 if alive else 200, {"job_id": job_id, "status": status, "request_id": request.id})

    def queue_health(self, request: Request, owner: str) -> dict[str, Any]:
        """`GET /queue-health`: how much waits, how long, and whether somebody works on it."""
        self.control.go_on(request.deadline)
        return _json(200, {**self.queues.read(request.deadline), "request_id": request.id})

    def stop(self, request: Request, operator: str) -> dict[str, Any]:
        """`POST /stop`: the node is told to stop; a body isn't looked at."""
        return self._ordered(Order("stop"), request, operator)

    def resize(self, request: Request, operator: str) -> dict[str, Any]:
        """`POST /resize`: the node is stopped, started or made another type."""
        return self._ordered(order_of(body.parsed(request.event), self.environment.node_types), request, operator)

    def _ordered(self, order: Order, request: Request, operator: str) -> dict[str, Any]:
        node = self.control.carry_out(order, f"operator {operator}", request.deadline)
        return _json(202, {"action": order.action, "node": node, "request_id": request.id})


def health(request: Request) -> dict[str, Any]:
    """`GET /health`: open to anybody, so it says nothing but that the router runs.

    With `?deep=1` it says how everything behind it is, to an operator only. The route has no authorizer, so the token
    is looked at here alone.
    """
    said: dict[str, Any] = {"status": "ok", "env": os.environ.get("AISTRATUS_ENV", ""), "version": __version__}
    if request.flag("deep"):
        router = _router()
        router.gate.operator(request.header("authorization"), request.deadline)
        checks = router.checks.run(request.deadline)
        said |= {"status": "ok" if all(check["ok"] for check in checks.values()) else "degraded", "checks": checks}
    return _json(200, {**said, "request_id": request.id})


def contract(request: Request) -> dict[str, Any]:
    """`GET /openapi.json`: the API's contract, open as well. One path in it is a setting of the env."""
    from pathlib import Path  # here, so that only a cold start that begins with this route pays for it

    document = json.loads(Path(__file__).with_name("openapi.json").read_text("utf-8"))
    paths = document["paths"]
    document["paths"] = {request.health_path if path == "/health" else path: paths[path] for path in paths}
    return _json(200, document)


HEALTH: Final = "GET /health"
CONTRACT: Final = "GET /openapi.json"

ROUTES: Final[Mapping[str, Callable[[Router, Request, str], dict[str, Any]]]] = {
    "POST /infer": Router.infer,
    "GET /jobs/{id}": Router.job,
    "DELETE /jobs/{id}": Router.cancel,
    "GET /queue-health": Router.queue_health,
}
"""By API Gateway's route key; each needs a caller."""

OF_OPERATORS: Final[Mapping[str, Callable[[Router, Request, str], dict[str, Any]]]] = {
    "POST /stop": Router.stop,
    "POST /resize": Router.resize,
}
"""Likewise; each needs a caller of the group `operators`."""


@lru_cache(maxsize=1)
def _router() -> Router:
    """Made by the first request that needs it and kept by the Lambda environment, with its open connections."""
    return Router.assemble(os.environ, Clock())


def _gone_on(request: Request) -> dict[str, Any]:
    """The guard's call: only who may invoke this function gets here, and no request of the API is such an event."""
    return _json(200, {"node": _router().control.go_on(request.deadline)})


def _answer(request: Request) -> dict[str, Any]:
    if request.route == HEALTH:
        return health(request)
    if request.route == CONTRACT:
        return contract(request)
    route = ROUTES.get(request.route)
    order = OF_OPERATORS.get(request.route)
    if route is None and order is None:
        raise problems.not_found("There is no such route.")
    router = _router()
    if order is not None:
        operator = router.gate.operator(request.header("authorization"), request.deadline)
        return order(router, request, operator.subject)
    assert route is not None
    owner = router.gate.owner(request.header("authorization"), request.deadline)
    return route(router, request, owner)


def _json(status: int, content: Mapping[str, Any]) -> dict[str, Any]:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(content)}
