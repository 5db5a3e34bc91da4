"""The router as Lambda runs it: from the built zip, in a process of its own.

The interpreter sees neither our source tree nor this environment's site-packages: only the zip, and boto3 beside it.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from aistratus.package import router_zip

LAMBDA_HAS = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")

DRIVER = """
import io, json, os, sys
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    asked = json.loads(line)
    sys.stdout = printed = io.StringIO()
    from aistratus.router.handler import handle
    class Context:
        aws_request_id = "lambda-request"
        def get_remaining_time_in_millis(self): return asked["remaining_ms"]
    answer = handle(asked["event"], Context())
    answers.write(json.dumps({"answer": answer, "printed": printed.getvalue(), "modules": list(sys.modules)}) + "\\n")
    answers.flush()
"""


@dataclass(frozen=True)
class Result:
    """What one invocation gave."""

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    printed: str
    modules: frozenset[str]

    @property
    def bad_fields(self) -> list[str]:
        return [error["field"] for error in self.body.get("errors", [])]


def unpacked_router(folder: Path) -> Path:
    """The router's zip, unpacked as Lambda does."""
    with zipfile.ZipFile(io.BytesIO(router_zip().content)) as archive:
        archive.extractall(folder)
    return folder


def lambda_runtime(folder: Path) -> Path:
    """A folder with what Lambda's Python has beside a function: boto3 and what it needs."""
    folder.mkdir(exist_ok=True)
    for name in LAMBDA_HAS:
        found = distribution(name)
        tops = {path.parts[0] for path in found.files or () if not path.parts[0].startswith("..")}
        for top in tops - {"__pycache__"}:
            (folder / top).symlink_to(str(found.locate_file(top)))
    return folder


class Function:
    """The function's process; one invocation at a time, as in Lambda."""

    def __init__(self, code: Path, runtime: Path, variables: Mapping[str, str]) -> None:
        start = f"import sys; sys.path[:0] = [{str(code)!r}, {str(runtime)!r}]\n{DRIVER}"
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(variables),
            text=True,
        )

    def invoke(self, event: Any, remaining_ms: int = 29_000) -> Result:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"event": event, "remaining_ms": remaining_ms}) + "\n")
        self._process.stdin.flush()
        given = json.loads(self._process.stdout.readline())
        answer = given["answer"]
        return Result(
            answer["statusCode"],
            answer["headers"],
            json.loads(answer["body"]),
            given["printed"],
            frozenset(given["modules"]),
        )

    def infer(self, token: str, body: Any, key: str | None = None) -> Result:
        headers = {"idempotency-key": key} if key else {}
        text = body if isinstance(body, str) else json.dumps(body)
        return self.invoke(event("POST /infer", token, body=text, headers=headers))

    def job(self, token: str, job_id: str, **query: str) -> Result:
        return self.invoke(event("GET /jobs/{id}", token, path={"id": job_id}, query=query))

    def cancel(self, token: str, job_id: str) -> Result:
        return self.invoke(event("DELETE /jobs/{id}", token, path={"id": job_id}))

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def event(
    route: str,
    token: str | None,
    *,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    path: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """An event of API Gateway in payload format 2.0."""
    method, _, raw_path = route.partition(" ")
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": raw_path,
        "rawQueryString": "",
        "headers": {**({"authorization": f"Bearer {token}"} if token else {}), **(headers or {})},
        "requestContext": {"requestId": "edge-request=", "http": {"method": method, "path": raw_path}},
        "isBase64Encoded": False,
    }
    made |= {name: value for name, value in (("pathParameters", path), ("queryStringParameters", query)) if value}
    if body is not None:
        made["body"] = body
    return {**made, **more}
