"""What is shot at the API, and how an answer is judged.

A `Judge` holds the contract and counts. Whatever was asked, an answer must be no 5xx, must have a status and a form
that the contract declares for its route, and must say nothing of what was sent where a log or a header could carry it
on. The shots come from schemathesis (cases that fit the contract and cases that don't) and from strategies of our own
for what a well-behaved HTTP library refuses to send: control characters in headers, odd targets, events that no
gateway would make.
"""

from __future__ import annotations

import base64
import json
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fire_stack import CANARY, Person, Stack
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

CONTRACT_URI = "urn:contract"
OUTSIDE = {400: None, 403: None, 404: None, 413: None, 431: None}
"""Statuses of API Gateway's own for what reaches no route of ours."""

ESCAPES = "\r\n\t\0\x1b[31m\x7f\x85\u2028{}\"'\\%$"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass
class Judge:
    """Compares answers with the contract that the stack itself serves."""

    contract: dict[str, Any]
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        resource = Resource.from_contents({"$schema": "https://json-schema.org/draft/2020-12/schema", **self.contract})
        self._registry = Registry().with_resource(CONTRACT_URI, resource)

    @property
    def requests(self) -> int:
        return sum(self.counts.values())

    def judge(self, route: str, answer: Answer) -> None:
        """Fails unless the contract allows this answer for `GET /health`, …, or `outside` of all routes."""
        self.counts[f"{route} {answer.status}"] += 1
        assert answer.status < 500, (route, answer)
        for name, value in answer.headers.items():
            assert CANARY not in name + value, (route, answer)
        if route == "outside":
            assert answer.status in OUTSIDE, answer
            assert answer.status == 404 or answer.kind in ("application/json", "text/plain"), answer
            return
        declared = self._responses(route)
        assert str(answer.status) in declared, f"{route} answered {answer.status}, which the contract doesn't have"
        content = declared[str(answer.status)]["content"]
        assert answer.kind in content, f"{route} answered {answer.status} as {answer.kind}"
        self._matches(f"{self._pointer(route)}/responses/{answer.status}/content/{_token(answer.kind)}/schema", answer)
        if answer.kind == "application/problem+json":
            problem = json.loads(answer.body)
            assert problem["status"] == answer.status
            assert CANARY not in problem["detail"] + problem["title"], problem
            if answer.status in (429, 503):
                assert int(answer.headers["retry-after"]) >= 1

    def _responses(self, route: str) -> dict[str, Any]:
        method, _, path = route.partition(" ")
        return self.contract["paths"][path][method.lower()]["responses"]

    @staticmethod
    def _pointer(route: str) -> str:
        method, _, path = route.partition(" ")
        return f"#/paths/{_token(path)}/{method.lower()}"

    def _matches(self, pointer: str, answer: Answer) -> None:
        validator = Draft202012Validator({"$ref": CONTRACT_URI + pointer}, registry=self._registry)
        errors = [error.message for error in validator.iter_errors(json.loads(answer.body))]
        assert not errors, (pointer, errors, answer)


def _token(text: str) -> str:
    """A part of a JSON pointer within a URI fragment."""
    return text.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")


def campaign(examples: int, *, shrink: bool = False, derandomize: bool = True) -> settings:
    """So many examples without hypothesis's own limits on time."""
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])]
    return settings(
        max_examples=examples, deadline=None, database=None, derandomize=derandomize, phases=phases,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


# --- a client that sends anything -----------------------------------------------------------------------------------


def send(stack: Stack, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> Answer:
    """One request on a connection of its own, byte for byte as given; a connection that is closed counts as 400."""
    place = urlsplit(stack.api)
    lines = [f"{method} {place.path}{target} HTTP/1.1".encode("utf-8", "surrogateescape")]
    lines.append(f"Host: {place.netloc}".encode())
    lines += [name + b": " + value for name, value in headers]
    lines += [f"Content-Length: {len(body)}".encode(), b"Connection: close"]
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=60) as connection:
        try:
            connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        except (ConnectionResetError, BrokenPipeError):
            received = b""
    return parsed(received)


def parsed(received: bytes) -> Answer:
    """The first answer in what a server sent."""
    if not received:
        return Answer(400, {"content-type": "text/plain"}, b"")
    head, _, body = received.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        assert colon and name and not any(sign in line for sign in "\r\n\0\x1b"), f"an injected header: {line!r}"
        headers[name.lower()] = value.strip()
    length = headers.get("content-length")
    return Answer(int(first.split(" ")[1]), headers, body if length is None else body[: int(length)])


# --- strategies -----------------------------------------------------------------------------------------------------

text = st.text(st.characters(codec="utf-8") | st.sampled_from(ESCAPES), max_size=60)
marked = text.map(lambda rest: CANARY + rest)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | marked,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
FIELDS = ("prompt", "conversation", "history", "system", "max_tokens", "temperature", "top_p", "seed", "stop")
bodies = st.one_of(
    st.fixed_dictionaries(
        {"prompt": marked},
        optional={
            "max_tokens": st.integers(-1, 3),
            "temperature": st.floats(),
            "seed": st.integers(),
            "stop": st.lists(marked, max_size=5),
            "history": st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "x"]), "content": marked})),
        },
    ).map(lambda body: json.dumps(body).encode()),
    st.dictionaries(st.sampled_from(FIELDS) | text, json_values, max_size=5).map(
        lambda body: json.dumps(body).encode()
    ),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=80),
    st.sampled_from(
        [
            b"",
            b"[" * 50_000,
            b'{"prompt":' + b"9" * 6_000 + b"}",
            b'{"prompt":"' + b"a" * 1_000_000 + b'"}',
            b'{"prompt":"a","prompt":"b"}',
            b'{"prompt":"\\ud800"}',
            b'{"prompt":"\\u0000"}',
            b'{"prompt":NaN}',
            b"\xef\xbb\xbf{}",
            '{"prompt":"hi","max_tokens":1}'.encode("utf-16"),
        ]
    ),
)
header_values = st.one_of(
    marked.map(lambda value: value.encode()),
    st.sampled_from(
        [
            b"a\r\nX-Injected: yes",
            b"a\nX-Injected: yes",
            b"a\r\n\r\nHTTP/1.1 200 OK",
            b"\x1b[2J\x1b[31m" + CANARY.encode(),
            b"\0",
            b"\xff\xfe",
            b"a" * 9_000,
            b"a" * 20_000,
            b"..%2f..%2f",
            b"a, b",
            b"${jndi:ldap://127.0.0.1/a}",
            b'"}\n{"level":"error"',
        ]
    ),
)
header_names = st.sampled_from(
    [b"Idempotency-Key", b"User-Agent", b"X-Forwarded-For", b"Content-Type", b"Cookie", b"Origin", b"X-Amzn-Trace-Id",
     b"Accept", b"Content-Encoding", b"Expect", b"apigw-requestid", b"x-" + CANARY.encode()]
)  # fmt: skip
segments = st.one_of(
    text.map(lambda value: quoted(value.encode())),
    st.sampled_from(["", ".", "..", "%2e%2e", "%2f", "%00", "%0d%0a", "%1b%5b31m", "%ff", "%", "%zz", "%23", "*", "~"]),
    st.just(CANARY),
)
targets = st.one_of(
    st.tuples(st.just("/jobs/"), segments).map("".join),
    st.tuples(st.just("/jobs/x?"), st.sampled_from(["after", "attempt", CANARY]), st.just("="), segments).map("".join),
    st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(
        [
            "/infer",
            "/health",
            "/openapi.json",
            "/queue-health",
            "/infer/",
            "//infer",
            "/infer?x=1",
            "/HEALTH",
            "/jobs",
            "/",
        ]
    ),
)
methods = st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "FOO"])


def quoted(data: bytes) -> str:
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02X}" for byte in data)


def route_of(method: str, target: str) -> str:
    """The route that a target belongs to if the gateway matches it, else `outside`."""
    path = target.partition("?")[0]
    parts = path.split("/")[1:]
    if parts == ["infer"] and method == "POST":
        return "POST /infer"
    if method == "GET" and path in ("/health", "/openapi.json", "/queue-health"):
        return f"GET {path}"
    if len(parts) == 2 and parts[0] == "jobs" and parts[1] and method in ("GET", "DELETE"):
        return f"{method} /jobs/{{id}}"
    return "outside"


# --- campaigns ------------------------------------------------------------------------------------------------------


def fire_raw(stack: Stack, judge: Judge, person: Person, rules: settings) -> None:
    """Requests that no HTTP library would send."""

    @rules
    @given(methods, targets, st.lists(st.tuples(header_names, header_values), max_size=3), bodies, st.booleans())
    def shoot(method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes, signed: bool) -> None:
        token = [(b"Authorization", f"Bearer {person.token}".encode())] if signed else []
        answer = send(stack, method, target, [*token, *headers], body)
        if method == "HEAD":
            answer = Answer(answer.status, answer.headers, b"{}")
        assert "x-injected" not in answer.headers
        preflight = method == "OPTIONS" and answer.status == 204
        early = answer.status in (400, 413, 431) and answer.kind in ("text/plain", "application/json", "")
        if preflight or early:  # an answer of HTTP itself or of the gateway before any route
            judge.counts[f"early {answer.status}"] += 1
            return
        judge.judge(route_of(method, target), answer)

    shoot()


def fire_bodies(stack: Stack, judge: Judge, person: Person, rules: settings) -> None:
    """Bodies and idempotency keys of all kinds at `POST /infer`."""
    keys = st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True).map(str.encode) | header_values

    @rules
    @given(bodies, keys)
    def shoot(body: bytes, key: bytes | None) -> None:
        headers = [(b"Authorization", person.token.encode()), (b"Content-Type", b"application/json")]
        answer = send(stack, "POST", "/infer", headers + ([(b"Idempotency-Key", key)] if key is not None else []), body)
        if answer.status in (400, 413, 431) and answer.kind in ("text/plain", "application/json"):
            judge.counts[f"early {answer.status}"] += 1
            return
        judge.judge("POST /infer", answer)

    shoot()


def events(stack: Stack, person: Person) -> st.SearchStrategy[Any]:
    """Events for a direct invoke: true ones with parts replaced, and anything else that JSON can say."""
    true = {
        "version": "2.0",
        "routeKey": "GET /jobs/{id}",
        "rawPath": "/jobs/x",
        "headers": {"authorization": f"Bearer {person.token}"},
        "requestContext": {"requestId": "abc", "authorizer": {"jwt": {"claims": {"sub": "admin"}}}},
        "pathParameters": {"id": "x"},
        "isBase64Encoded": False,
    }
    routes = st.sampled_from(
        ["GET /health", "GET /openapi.json", "GET /queue-health", "POST /infer", "GET /jobs/{id}", "DELETE /jobs/{id}"]
    )
    replaced = st.fixed_dictionaries(
        {"routeKey": routes},
        optional={
            "headers": json_values
            | st.fixed_dictionaries({"authorization": st.just(person.token), "idempotency-key": json_values}),
            "pathParameters": json_values | st.fixed_dictionaries({"id": json_values}),
            "queryStringParameters": json_values | st.fixed_dictionaries({"after": json_values, "attempt": text}),
            "requestContext": json_values | st.fixed_dictionaries({"requestId": json_values}),
            "body": json_values
            | bodies.map(lambda body: body.decode("utf-8", "replace"))
            | bodies.map(lambda body: base64.b64encode(body).decode()),
            "isBase64Encoded": st.booleans() | json_values,
        },
    )
    prompts = st.fixed_dictionaries({"prompt": marked, "max_tokens": st.just(1)}).map(json.dumps)
    good = prompts.map(lambda body: {**true, "routeKey": "POST /infer", "body": body})
    return st.one_of(replaced.map(lambda changes: {**true, **changes}), good, json_values)


def fire_invokes(stack: Stack, judge: Judge, person: Person, rules: settings) -> None:
    """Events that nobody's gateway made, straight to the deployed function."""

    @rules
    @given(events(stack, person))
    def shoot(event: Any) -> None:
        route, answer = invoke(stack, event)
        judge.judge(route, answer)

    shoot()


def invoke(stack: Stack, event: Any) -> tuple[str, Answer]:
    """The function's answer to an event, and the route that it was for."""
    payload = json.dumps(event).encode()
    done = stack.lambdas.invoke(FunctionName=stack.ids["router"]["name"], Qualifier="live", Payload=payload)
    result = json.loads(done["Payload"].read())
    assert "FunctionError" not in done, (event, result)
    key = event.get("routeKey") if isinstance(event, dict) else None
    method, _, target = key.partition(" ") if isinstance(key, str) else ("", "", "")
    known = f"{method} {target}" if route_of(method, target) != "outside" else "outside"
    headers = {name.lower(): value for name, value in result["headers"].items()}
    if known == "outside":
        assert (result["statusCode"], headers["content-type"]) == (404, "application/problem+json"), result
    return known, Answer(result["statusCode"], headers, result["body"].encode())


def _whole_numbers_are_whole(case: Any) -> bool:
    """JSON Schema calls 5.0 an integer, this API doesn't, and no schema can say so."""
    body = case.body if isinstance(case.body, dict) else {}
    return not any(isinstance(body.get(name), float) for name in ("max_tokens", "seed"))


def fire_contract(stack: Stack, judge: Judge, person: Person, examples: int, rule: Callable[[int], settings]) -> None:
    """schemathesis: for each operation cases that fit the contract, which must be accepted, and cases that don't."""
    import requests
    import schemathesis
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        negative_data_rejection,
        positive_data_acceptance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        content_type_conformance, negative_data_rejection, positive_data_acceptance, response_headers_conformance,
        response_schema_conformance, status_code_conformance,
    ]  # fmt: skip
    schema = schemathesis.openapi.from_dict(judge.contract)
    # Tokens are attacked elsewhere, and parameters that a route doesn't know are ignored.
    schema.config.generation.with_security_parameters = False
    schema.config.generation.allow_extra_parameters = False
    session = requests.Session()
    operations = [found.ok() for found in schema.get_all_operations()]
    for operation in operations:
        route = f"{operation.method.upper()} {operation.path}"
        modes = [schemathesis.GenerationMode.POSITIVE]
        if any(True for _ in operation.iter_parameters()) or operation.body:
            modes.append(schemathesis.GenerationMode.NEGATIVE)  # who takes nothing can't be asked wrongly
        for mode in modes:
            cases = operation.as_strategy(generation_mode=mode).filter(_whole_numbers_are_whole)

            @rule(max(1, examples // (2 * len(operations))))
            @given(cases, st.just(route))
            def shoot(case: Any, route: str) -> None:
                response = case.call(
                    base_url=stack.api, session=session, headers={"Authorization": f"Bearer {person.token}"}
                )
                headers = {name.lower(): values[0] for name, values in response.headers.items()}
                judge.judge(route, Answer(response.status_code, headers, response.content))
                case.validate_response(response, checks=checks)

            shoot()
