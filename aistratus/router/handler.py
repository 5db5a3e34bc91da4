"""The Lambda function behind the API.

`handle` is the entry point. An event comes from API Gateway in payload format 2.0, or from anybody who may invoke the
function, so nothing in it is trusted: neither its shape nor the claims in it (`request.py`). Each route is one short
method (`routes.py`); what goes wrong is raised as a `Problem` and becomes an answer here.

Cold start is the number that users feel, and so this module and what it imports stay with the standard library;
python-jose is loaded with the first token, boto3 when a node must be started, and nothing else at all.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any, Final

from aistratus import __version__, wire
from aistratus.router import log, problems
from aistratus.router.aws import AwsError
from aistratus.router.clock import Clock, Deadline
from aistratus.router.environment import Misconfigured
from aistratus.router.problems import Problem
from aistratus.router.request import Request
from aistratus.router.routes import OPERATOR_ROUTES, ROUTES, Router, json_answer

HEALTH: Final = "GET /health"
"""The route key by which the log names the health check, wherever the env's settings put it."""
CONTRACT: Final = "GET /openapi.json"


def handle(event: Any, context: Any) -> dict[str, Any]:
    """Lambda's entry point.

    Returns:
        A result in payload format 2.0: `statusCode`, `headers`, `body`.
    """
    if event == wire.WARM:
        return json_answer(200, {"status": "warm"})
    clock = Clock()
    started = clock.monotonic()
    request = Request(event if isinstance(event, dict) else {}, context, Deadline.of(clock, context))
    route = _route_of(request)
    failure: dict[str, Any] = {}
    try:
        answer = _carry_on(request) if event == wire.CARRY_ON else _answer(request, route)
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
        route=route,
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


def _health_path() -> str:
    return os.environ.get("HEALTH_PATH", "/health")


def _route_of(request: Request) -> str:
    """The request's route key if it is one of ours, else `unknown`: the log must not repeat what a caller made up."""
    key = request.route_key
    if key == f"GET {_health_path()}":
        return HEALTH
    return key if key in (*ROUTES, *OPERATOR_ROUTES, CONTRACT) else "unknown"


def health(request: Request) -> dict[str, Any]:
    """`GET /health`: open to anybody, so it says nothing but that the router runs.

    With `?deep=1` it reports on everything behind the router, to an operator only. The route has no authorizer, so the
    token is checked only here.
    """
    said: dict[str, Any] = {"status": "ok", "env": os.environ.get("AISTRATUS_ENV", ""), "version": __version__}
    if request.flag("deep"):
        router = _router()
        router.gate.operator(request.header("authorization"), request.deadline)
        checks = router.checks.run(request.deadline)
        said |= {"status": "ok" if all(check["ok"] for check in checks.values()) else "degraded", "checks": checks}
    return json_answer(200, {**said, "request_id": request.id})


def contract(request: Request) -> dict[str, Any]:
    """`GET /openapi.json`: the API's contract, open as well. One path in it is a setting of the env."""
    from pathlib import Path  # here, so that only a cold start that begins with this route pays for it

    document = json.loads(Path(__file__).with_name("openapi.json").read_text("utf-8"))
    paths = document["paths"]
    document["paths"] = {_health_path() if path == "/health" else path: paths[path] for path in paths}
    return json_answer(200, document)


@lru_cache(maxsize=1)
def _router() -> Router:
    """Made by the first request that needs it and kept by the Lambda environment, with its open connections."""
    return Router.assemble(os.environ, Clock())


def _carry_on(request: Request) -> dict[str, Any]:
    """The guard's event: only who may invoke this function gets here, and no request of the API is such an event."""
    return json_answer(200, {"node": _router().control.carry_on(request.deadline)})


def _answer(request: Request, route: str) -> dict[str, Any]:
    if route == HEALTH:
        return health(request)
    if route == CONTRACT:
        return contract(request)
    token = request.header("authorization")
    if route in OPERATOR_ROUTES:
        router = _router()
        operator = router.gate.operator(token, request.deadline)
        return OPERATOR_ROUTES[route](router, request, operator.subject)
    if route in ROUTES:
        router = _router()
        return ROUTES[route](router, request, router.gate.owner(token, request.deadline))
    raise problems.not_found("There is no such route.")
