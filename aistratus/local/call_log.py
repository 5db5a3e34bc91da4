"""Records AWS calls with their caller and parameters: `/_aistratus/calls` on the endpoint of a strict cloud, in JSON.

moto can't prove least privilege (see `README.md`), so tests record the calls and let a policy evaluator judge them
afterwards. Everybody's calls are recorded: the command line's, a deployed function's with its role's credentials, a
node's with its own.

- `POST {"record": true}` starts a new recording, `{"record": false}` ends it;
- `GET` gives `{"calls": [{"caller", "service", "operation", "parameters", "status"}]}`: the caller is the ARN of the
  role that the credentials belong to, else the access key's id; the service and the names are boto3's.

Requests are stored raw and parsed on `GET`, so that recording is cheap.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, unquote

PATH: Final = "/_aistratus/calls"

MOST: Final = 50_000
"""Calls that are kept; a whole `up` makes some hundreds."""

LONGEST_BODY: Final = 1024**2
"""Bytes of a body that are kept: parameters are short, and uploads have theirs in the address."""

_KEY: Final = re.compile(r"Credential=([^/,\s]+)/\d{8}/")
_CHUNKED: Final = "aws-chunked"

SERVICES: Final = {
    "apigateway": "apigatewayv2",
    "monitoring": "cloudwatch",
    "tagging": "resourcegroupstaggingapi",
    "servicequotas": "service-quotas",
    "codestar-connections": "codestar-connections",
    "email": "ses",
}
"""boto3's names where a service signs under another one."""


@dataclass(frozen=True)
class Request:
    """One request as it came, with the status of its answer."""

    key: str
    service: str
    method: str
    path: str
    query: str
    target: str
    headers: frozenset[str]
    body: bytes
    status: int


class CallLog:
    """Keeps requests while a test asks for it."""

    def __init__(self, role_of: Callable[[str], str | None]) -> None:
        """`role_of` gives the ARN of the role whose credentials have this access key id."""
        self._role_of = role_of
        self._lock = threading.Lock()
        self._requests: list[Request] | None = None

    def note(self, environ: Mapping[str, Any], service: str, status: int) -> None:
        """Remembers a request that was answered."""
        if self._requests is None or not service:
            return
        plain = int(environ["CONTENT_LENGTH"]) <= LONGEST_BODY and _CHUNKED not in environ.get(
            "HTTP_CONTENT_ENCODING", ""
        )
        environ["wsgi.input"].seek(0)
        request = Request(
            key=_key(environ),
            service=SERVICES.get(service, service),
            method=environ["REQUEST_METHOD"],
            path=str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ.get("PATH_INFO", "")).split("?")[
                0
            ],
            query=environ.get("QUERY_STRING", ""),
            target=str(environ.get("HTTP_X_AMZ_TARGET", "")),
            headers=frozenset(name[5:].lower().replace("_", "-") for name in environ if name.startswith("HTTP_")),
            body=environ["wsgi.input"].read() if plain else b"",
            status=status,
        )
        with self._lock:
            if self._requests is not None and len(self._requests) < MOST:
                self._requests.append(request)

    def answer(self, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON body of a control request."""
        if method == "GET":
            with self._lock:
                requests = list(self._requests or ())
            return 200, {"calls": [self._told(request) for request in requests]}
        try:
            record = bool(json.loads(body)["record"])
        except (ValueError, KeyError, TypeError) as error:
            return 400, {"message": f"can't be done: {error}"}
        with self._lock:
            self._requests = [] if record else None
        return 200, {"record": record}

    def _told(self, request: Request) -> dict[str, Any]:
        operation, parameters = read(request)
        return {
            "caller": self._role_of(request.key) or request.key,
            "service": request.service,
            "operation": operation,
            "parameters": parameters,
            "status": request.status,
        }


def _key(environ: Mapping[str, Any]) -> str:
    found = _KEY.search(environ.get("HTTP_AUTHORIZATION", ""))
    if found:
        return found.group(1)
    signed: str = parse_qs(environ.get("QUERY_STRING", "")).get("X-Amz-Credential", [""])[0]
    return signed.split("/")[0]


# --- from the wire to an operation and its parameters ------------------------------------------------------------


def read(request: Request) -> tuple[str, dict[str, Any]]:
    """The operation's name and its parameters, as the service's own model has them; an empty name if it has none."""
    from moto.core.utils import get_service_model

    model = get_service_model(request.service)
    if request.target:
        return request.target.rpartition(".")[2], json.loads(request.body or b"{}")
    if model.metadata["protocol"] in ("query", "ec2"):
        form = dict(parse_qsl(request.body.decode() or request.query, keep_blank_values=True))
        return form["Action"], _form(model, form)
    return _by_path(request)


def _form(model: Any, form: dict[str, str]) -> dict[str, Any]:
    from moto.core.parse import PROTOCOL_PARSERS

    operation = model.operation_model(form["Action"])
    parser: Any = PROTOCOL_PARSERS[model.metadata["protocol"]](operation, blob_parser=str, timestamp_parser=str)
    parsed: dict[str, Any] = parser.parse({"values": form})
    return parsed


def _by_path(request: Request) -> tuple[str, dict[str, Any]]:
    query = {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
    for route in _routes(request.service):
        told = route.fixed.items() <= query.items() and route.headers <= request.headers
        if route.method == request.method and told:
            matched = route.path.fullmatch(request.path.rstrip("/") or "/")
            if matched:
                labels = {name: unquote(value) for name, value in matched.groupdict().items()}
                return route.operation, labels | route.named(query) | _body(request)
    return "", {}


def _body(request: Request) -> dict[str, Any]:
    """The members of a JSON body with their models' names; of S3's XML just what says which versions are meant."""
    if request.service == "s3":
        keys = re.findall(rb"<Object>(.*?)</Object>", request.body, re.DOTALL)
        objects = [
            {name.decode(): value.decode() for name, value in re.findall(rb"<(Key|VersionId)>([^<]*)<", one)}
            for one in keys
        ]
        tags = re.findall(rb"<Tag><Key>([^<]*)</Key><Value>([^<]*)</Value></Tag>", request.body)
        found = [{"Key": key.decode(), "Value": value.decode()} for key, value in tags]
        return ({"Delete": {"Objects": objects}} if objects else {}) | ({"Tags": found} if found else {})
    try:
        content = json.loads(request.body or b"{}")
    except ValueError:
        return {}
    return {name[:1].upper() + name[1:]: value for name, value in content.items()} if isinstance(content, dict) else {}


@dataclass(frozen=True)
class _Route:
    operation: str
    method: str
    path: re.Pattern[str]
    fixed: dict[str, str]
    headers: frozenset[str]
    names: dict[str, str]

    def named(self, query: Mapping[str, str]) -> dict[str, str]:
        """The parameters in the query, by their members' names."""
        return {member: query[name] for name, member in self.names.items() if name in query}


@functools.cache
def _routes(service: str) -> tuple[_Route, ...]:
    """How a service's operations are told apart by method, path and query: those that ask for more come first."""
    from moto.core.utils import get_service_model

    model = get_service_model(service)
    routes = list(_each_route(model))
    return tuple(
        sorted(routes, key=lambda route: (-len(route.fixed), -len(route.headers), route.path.pattern.count("(?P")))
    )


def _each_route(model: Any) -> Iterator[_Route]:
    for name in model.operation_names:
        operation = model.operation_model(name)
        if operation.deprecated:  # S3 has two operations with one address
            continue
        uri, _, query = operation.http["requestUri"].partition("?")
        members = operation.input_shape.members if operation.input_shape else {}
        labels, names = _located(members, "uri"), _located(members, "querystring")
        required = operation.input_shape.required_members if operation.input_shape else []
        headers = frozenset(name.lower() for name, member in _located(members, "header").items() if member in required)
        fixed = dict(parse_qsl(query, keep_blank_values=True))
        fixed.pop("x-id", None)
        yield _Route(name, operation.http["method"], _pattern(uri.rstrip("/") or "/", labels), fixed, headers, names)


def _located(members: Mapping[str, Any], place: str) -> dict[str, str]:
    """The members that stand in this place of a request, by the names that they have there."""
    return {
        shape.serialization.get("name", member): member
        for member, shape in members.items()
        if shape.serialization.get("location") == place
    }


def _pattern(uri: str, labels: Mapping[str, str]) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]+\})", uri)
    text = ""
    for part in parts:
        if part.startswith("{"):
            greedy = part.endswith("+}")
            name = labels.get(part.strip("{}+"), part.strip("{}+"))
            text += f"(?P<{name}>{'.+' if greedy else '[^/]+'})"
        else:
            text += re.escape(part)
    return re.compile(text)
