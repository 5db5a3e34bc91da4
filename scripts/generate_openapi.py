"""Writes `aistratus/router/openapi.json`, the OpenAPI 3.1 contract of the HTTP API, which the router serves.

The body of `POST /infer` comes from the request model (`aistratus.client.request.InferRequest`), limits and problem
types from `aistratus.wire`, titles and required groups from the router itself; the rest is declared here: the answers
of each route and their form.

    python scripts/generate_openapi.py           write the file
    python scripts/generate_openapi.py --check   exit 1 if the committed file is not what would be written

Errors have two forms. The router's are `application/problem+json`; those of API Gateway, which refuses some requests
before the router is called (no valid token, throttled, too large, no such route), are its own `{"message": …}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from aistratus import __version__, wire
from aistratus.client.request import TEXT_PATTERN, TOTAL_CHARS, InferRequest
from aistratus.router.control import ACTIONS, CHANGING
from aistratus.router.node_state import ASLEEP
from aistratus.router.problems import TITLES

TARGET: Final = Path(__file__).resolve().parents[1] / "aistratus" / "router" / "openapi.json"

Json = dict[str, Any]

PORTABLE_TEXT: Final = r"^[^\x00]*$"
"""`TEXT_PATTERN` without the surrogates, which not every reader of a contract can write in a pattern."""

COUNT_MAX: Final = 999_999_999
JOB_ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
REQUEST_ID: Final = {"type": "string", "description": "finds this request in the logs"}
STATUS: Final = {"type": "string", "enum": [wire.QUEUED, wire.RUNNING, *sorted(wire.FINAL)]}
NODE: Final = {"type": "string", "enum": ["ready", "starting", "stopping", "unavailable"]}
ETA: Final = {
    "type": ["integer", "null"],
    "minimum": 0,
    "description": "seconds until the node is ready, if it is on its way",
}
STATES: Final = sorted({"stopped", "pending", "running", CHANGING, ASLEEP, *NODE["enum"]})
"""Of a node that was given an order: EC2's words, or the router's where it was woken."""
MILLISECONDS: Final = {"type": "integer", "minimum": 0}

BY_ROUTER: Final = {
    400: wire.INVALID_REQUEST,
    401: wire.UNAUTHORIZED,
    403: wire.FORBIDDEN,
    404: wire.NOT_FOUND,
    409: wire.CONFLICT,
    413: wire.TOO_LARGE,
    429: wire.RATE_LIMITED,
    503: wire.SERVICE_UNAVAILABLE,
}
BY_GATEWAY: Final = frozenset({400, 401, 404, 413, 429, 431, 503})
"""What API Gateway answers by itself. 431 and most of its 400s never reach a route's own limits."""

GATEWAY_TITLES: Final = {431: "The headers are too large"}


def main(arguments: list[str]) -> int:
    text = generate()
    if "--check" in arguments:
        return 0 if TARGET.is_file() and TARGET.read_text("utf-8") == text else 1
    TARGET.write_text(text, "utf-8", newline="\n")
    return 0


def generate() -> str:
    """The text of the contract."""
    return json.dumps(contract(), indent=1, ensure_ascii=True) + "\n"


def contract() -> Json:
    """The contract as an OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Aistratus",
            "version": __version__,
            "summary": "Prompts in, replies out.",
            "description": "A prompt becomes a job at once; the job's text is read as it grows.",
        },
        "servers": [{"url": "./", "description": "where this document was found"}],
        "paths": {
            "/health": {"get": _health()},
            "/openapi.json": {"get": _document()},
            "/infer": {"post": _infer()},
            "/jobs/{id}": {"parameters": [_job_parameter()], "get": _read(), "delete": _cancel()},
            "/queue-health": {"get": _queue_health()},
            "/stop": {"post": _stop()},
            "/resize": {"post": _resize()},
        },
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "an access token of the env's user pool",
                }
            },
            "schemas": _schemas(),
        },
    }


# --- routes ---------------------------------------------------------------------------------------------------------


def _health() -> Json:
    return {
        "operationId": "health",
        "summary": "Does the router run, and what it stands on?",
        "description": "Open to everybody; with deep=1 for operators only.",
        "security": [{}, {"token": []}],
        "parameters": [
            {
                "name": "deep",
                "in": "query",
                "required": False,
                "description": "1: also look at the secret, the queue, the table and the node",
                "schema": {"type": "string", "enum": ["0", "1"]},
            }
        ],
        "responses": {
            "200": _answer("It does. With deep=1: whether everything else does, too.", "Health"),
            **_refusals(400, 401, 403, 429, 431, 503),
        },
    }


def _document() -> Json:
    schema = {"type": "object", "required": ["openapi", "paths"]}
    return {
        "operationId": "openapi",
        "summary": "This document",
        "security": [],
        "responses": {
            "200": {"description": "This document.", "content": {"application/json": {"schema": schema}}},
            **_refusals(400, 429, 431),
        },
    }


def _infer() -> Json:
    return {
        "operationId": "infer",
        "summary": "Take a prompt; the reply grows in a job",
        "security": [{"token": []}],
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "becomes the job's id: the same key and body find the same job again",
                "schema": JOB_ID,
            }
        ],
        "requestBody": {
            "required": True,
            "description": f"up to {wire.BODY_BYTES} bytes",
            "content": {"application/json": {"schema": _ref("InferRequest")}},
        },
        "responses": {
            "202": _answer("The job is queued, or was queued by an earlier request with this key.", "Accepted"),
            **_refusals(400, 401, 409, 413, 429, 431, 503),
        },
    }


def _read() -> Json:
    return {
        "operationId": "read",
        "summary": "A job, and its text from a position on",
        "security": [{"token": []}],
        "parameters": [
            _count("after", "characters (code points) that are known already"),
            _count("attempt", "the attempt that they came from; a new one starts the text again"),
        ],
        "responses": {
            "200": _answer("The job so far.", "Job"),
            **_refusals(400, 401, 404, 413, 429, 431, 503),
        },
    }


def _cancel() -> Json:
    return {
        "operationId": "cancel",
        "summary": "Stop a job",
        "security": [{"token": []}],
        "responses": {
            "200": _answer("It had ended before.", "Cancelled"),
            "202": _answer("It is cancelled, or will be in a moment.", "Cancelled"),
            **_refusals(400, 401, 404, 413, 429, 431, 503),
        },
    }


def _queue_health() -> Json:
    return {
        "operationId": "queue_health",
        "summary": "What waits, how long, and whether somebody works on it",
        "security": [{"token": []}],
        "responses": {"200": _answer("The queue as it is.", "QueueHealth"), **_refusals(400, 401, 413, 429, 431, 503)},
    }


def _stop() -> Json:
    return {
        "operationId": "stop",
        "summary": "Stop the node; the next prompt wakes it",
        "description": "For operators only. A job in hand is given back and answered later.",
        "security": [{"token": []}],
        "responses": {
            "202": _answer("How it stands now.", "Ordered"),
            **_refusals(400, 401, 403, 409, 413, 429, 431, 503),
        },
    }


def _resize() -> Json:
    return {
        "operationId": "resize",
        "summary": "Stop or start the node, or make it another type",
        "description": "For operators only. A change of type goes on after the answer: see GET /queue-health.",
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "description": f"up to {wire.BODY_BYTES} bytes",
            "content": {"application/json": {"schema": _ref("Order")}},
        },
        "responses": {
            "202": _answer("How it stands now.", "Ordered"),
            **_refusals(400, 401, 403, 409, 413, 429, 431, 503),
        },
    }


def _job_parameter() -> Json:
    return {"name": "id", "in": "path", "required": True, "description": "the job's id", "schema": JOB_ID}


def _count(name: str, description: str) -> Json:
    schema = {"type": "integer", "minimum": 0, "maximum": COUNT_MAX}
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _answer(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _refusals(*statuses: int) -> Json:
    """Answers of the router and of API Gateway by status."""
    return {str(status): _refusal(status) for status in statuses}


def _refusal(status: int) -> Json:
    content: Json = {}
    if status in BY_ROUTER:
        content["application/problem+json"] = {"schema": _ref("Problem")}
    if status in BY_GATEWAY:
        content["application/json"] = {"schema": _ref("GatewayMessage")}
    answer: Json = {"description": GATEWAY_TITLES.get(status) or TITLES[status], "content": content}
    if status in (429, 503):
        seconds = {"type": "integer", "minimum": 1}
        answer["headers"] = {"Retry-After": {"description": "seconds; set by the router", "schema": seconds}}
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return answer


# --- schemas --------------------------------------------------------------------------------------------------------


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> Json:
    request = _portable(InferRequest.model_json_schema(ref_template="#/components/schemas/{model}"))
    parts: Json = request.pop("$defs", {})
    return {
        "InferRequest": request,
        **parts,
        "Health": _health_said(),
        "Accepted": _object(job_id=JOB_ID, status=STATUS, node=NODE, eta_s=ETA,
                            conversation={"type": "string", "format": "uuid"}, request_id=REQUEST_ID),
        "Cancelled": _object(job_id=JOB_ID, status=STATUS, request_id=REQUEST_ID),
        "Job": _job(),
        "QueueHealth": _queue_numbers(),
        "Order": _order(),
        "Ordered": _object(
            action={"type": "string", "enum": list(ACTIONS)},
            node=_object(state={"type": "string", "enum": list(STATES)}, type={"type": ["string", "null"]}),
            request_id=REQUEST_ID,
        ),
        "Problem": _problem(),
        "GatewayMessage": {
            "type": "object",
            "description": "what API Gateway answers before the router is asked",
            "required": ["message"],
            "properties": {"message": {"type": ["string", "null"]}},
        },
    }  # fmt: skip


def _health_said() -> Json:
    said = _object(
        status={"type": "string", "enum": ["ok", "degraded"]},
        env={"type": "string"},
        version={"type": "string"},
        request_id=REQUEST_ID,
    )
    said["properties"]["checks"] = _object(
        secret=_check("set", "unset", "unreadable"),
        queue=_check("reachable", "unreachable"),
        table=_check("writable", "read-only"),
        node=_check(ASLEEP, *NODE["enum"], "unknown"),
    )
    return said


def _check(*states: str) -> Json:
    return _object(
        ok={"type": "boolean"},
        state={"type": "string", "enum": list(states)},
        reason={"type": ["string", "null"], "description": "what is wrong; never a value"},
    )


def _job() -> Json:
    usage = _object(
        prompt_tokens={"type": "integer", "minimum": 0}, completion_tokens={"type": "integer", "minimum": 0}
    )
    timings = {
        "type": "object",
        "properties": {
            "queued_ms": MILLISECONDS,
            "first_token_ms": MILLISECONDS,
            "total_ms": MILLISECONDS,
            "tokens_per_second": {"type": "number", "minimum": 0},
        },
    }
    return _object(
        job_id=JOB_ID,
        status=STATUS,
        attempt={"type": "integer", "minimum": 0, "description": "0 while queued"},
        restarted={"type": "boolean", "description": "the text starts again: the asked attempt is not the current one"},
        text={"type": "string", "description": "what comes after the asked position"},
        cursor={"type": "integer", "minimum": 0, "description": "where the next reading begins"},
        conversation={"type": "string", "format": "uuid"},
        model={"type": ["string", "null"], "description": "who answered"},
        usage=_or_null(usage),
        timings=_or_null(timings),
        error={"type": ["string", "null"], "description": "why it failed, as one sentence"},
        node=_or_null(NODE),
        eta_s=ETA,
        request_id=REQUEST_ID,
    )


def _queue_numbers() -> Json:
    count = {"type": "integer", "minimum": 0}
    seconds = {"type": ["number", "null"], "minimum": 0}
    euros = {"type": "number", "minimum": 0}
    cost = _object(today_eur=euros, month_eur=euros, eur_per_hour=euros, limit_eur=euros)
    return _object(
        depth={**count, "description": "prompts that wait"},
        in_flight={**count, "description": "prompts that a worker holds"},
        dead={**count, "description": "prompts that were given up"},
        oldest_age_s={**seconds, "description": "of the oldest one; null if there is none or nobody knows yet"},
        heartbeat_age_s={**seconds, "description": "since the worker's last sign of life; null if there is none"},
        node=_object(
            state={"type": "string", "enum": ["ready", "warming", "pending", "stopped", CHANGING]},
            type={"type": ["string", "null"]},
            stops_in_s={**seconds, "description": "until it switches itself off; null while it works or sleeps"},
            eta_s={**seconds, "description": "until it is ready, learned from the latest boots"},
        ),
        cost={**_or_null(cost), "description": "in EUR without tax, as metered; null where that isn't known"},
        request_id=REQUEST_ID,
    )


def _order() -> Json:
    type_ = {"type": "string", "description": "an EC2 type that the env's settings allow; for the action resize only"}
    order = _object(action={"type": "string", "enum": list(ACTIONS)})
    order["properties"]["type"] = type_
    return order


def _problem() -> Json:
    kinds = sorted({*BY_ROUTER.values(), wire.NODE_UNAVAILABLE})
    entry = _object(field={"type": "string"}, message={"type": "string"})
    problem = _object(
        type={"type": "string", "enum": kinds},
        title={"type": "string"},
        status={"type": "integer", "minimum": 400, "maximum": 599},
        detail={"type": "string", "description": "one sentence for a person; holds nothing that was sent"},
        request_id=REQUEST_ID,
    )
    problem["description"] = "RFC 9457, application/problem+json"
    problem["properties"]["errors"] = {"type": "array", "items": entry, "description": "the fields that are wrong"}
    return problem


def _object(**properties: Json) -> Json:
    """Exactly these properties, all of them there."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _portable(part: Any) -> Any:
    """The model's schema for readers of all kinds; limits that it has no word for keep their `x-` keyword."""
    if isinstance(part, list):
        return [_portable(entry) for entry in part]
    if not isinstance(part, dict):
        return PORTABLE_TEXT if part == TEXT_PATTERN else part
    return {key: _portable(value) for key, value in part.items() if key != "title" or not isinstance(value, str)}


assert TOTAL_CHARS.startswith("x-"), "OpenAPI allows keywords of one's own only with x- in front"

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
