"""What the router's tests stand on: moto over HTTP, a front that can break, and the function in its own process.

The function is run as Lambda runs it: from the built zip, in a fresh interpreter without our source tree and without
the site-packages of this environment, with boto3 beside it and nothing else.
"""

from __future__ import annotations

import http.client
import io
import json
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk, jws
from moto.server import ThreadedMotoServer

from aistratus import wire
from aistratus.package import router_zip

REGION = "eu-central-1"
KEYS = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret-example", "region_name": REGION}
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


@contextmanager
def moto_server() -> Iterator[str]:
    """moto on a free port of the loopback; gives its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked_router(tmp_path_factory.mktemp("code"))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lambda_runtime(tmp_path_factory.mktemp("runtime"))


# --- a front before moto ------------------------------------------------------------------------------

Fault = Callable[[BaseHTTPRequestHandler, Callable[[], None]], None]
"""Called instead of forwarding, with the way to forward after all."""


@dataclass
class Front:
    """Forwards to `behind`, keeps the operations that passed, serves keys of its own, and breaks where it is told."""

    behind: str
    url: str = ""
    keys: list[dict[str, Any]] | None = None
    key_requests: int = 0
    operations: list[str] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    def break_next(self, operation: str, *faults: Fault) -> None:
        """Makes the next calls of an operation, e.g. `SendMessage`, meet these faults, one each."""
        self.faults.setdefault(operation, []).extend(faults)


def throttled(handler: BaseHTTPRequestHandler, _: Callable[[], None]) -> None:
    _reply(handler, 400, {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slow down"})


def failing(handler: BaseHTTPRequestHandler, _: Callable[[], None]) -> None:
    _reply(handler, 500, {"__type": "com.amazon.coral.service#InternalServerError"})


def denied(handler: BaseHTTPRequestHandler, _: Callable[[], None]) -> None:
    _reply(handler, 400, {"__type": "com.amazon.coral.service#AccessDeniedException", "message": "not allowed"})


def reset(handler: BaseHTTPRequestHandler, _: Callable[[], None]) -> None:
    handler.close_connection = True
    handler.connection.close()


def answer_lost(handler: BaseHTTPRequestHandler, forward: Callable[[], None]) -> None:
    """Carried out, but the caller never hears of it."""
    handler.wfile = io.BytesIO()
    forward()
    handler.close_connection = True
    handler.connection.close()


def _reply(handler: BaseHTTPRequestHandler, status: int, content: Any) -> None:
    body = json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def front_of(behind: str) -> Iterator[Front]:
    front = Front(behind)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            return

        def do_GET(self) -> None:
            if self.path.endswith("/.well-known/jwks.json"):
                front.key_requests += 1
                if front.keys is not None:
                    _reply(self, 200, {"keys": front.keys})
                    return
            self._pass(b"")

        def do_POST(self) -> None:
            self._pass(self.rfile.read(int(self.headers.get("content-length", 0))))

        def _pass(self, body: bytes) -> None:
            operation = self.headers.get("x-amz-target", "").rpartition(".")[2] or self._action(body)
            front.operations.append(operation)
            waiting = front.faults.get(operation)
            if waiting:
                waiting.pop(0)(self, lambda: self._forward(body))
            else:
                self._forward(body)

        def _action(self, body: bytes) -> str:
            """Of EC2's form-encoded calls."""
            return next((p[7:].decode() for p in body.split(b"&") if p.startswith(b"Action=")), self.path)

        def _forward(self, body: bytes) -> None:
            connection = http.client.HTTPConnection(front.behind.removeprefix("http://"), timeout=20)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response(answer.status)
            self.send_header("content-type", answer.getheader("content-type", ""))
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # connections that a fault has closed

    server = Server(("127.0.0.1", 0), Handler)
    front.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()


# --- what the function works with ---------------------------------------------------------------------


@lru_cache
def client_of(service: str, endpoint: str) -> Any:
    """boto3's client; making one costs more than most calls here."""
    return boto3.client(service, endpoint_url=endpoint, **KEYS)


@lru_cache
def image_at(endpoint: str) -> str:
    """Any of moto's images; listing them takes it a second."""
    return str(client_of("ec2", endpoint).describe_images(Owners=["amazon"])["Images"][0]["ImageId"])


@dataclass(frozen=True)
class Stack:
    """The resources of one env in moto, each test with its own table, queue and pool."""

    endpoint: str
    table: str
    queue_url: str
    pool_id: str
    client_id: str
    prefix: str
    dead_letter_url: str

    @classmethod
    def create(cls, endpoint: str) -> Stack:
        name = f"tinyllama-{uuid.uuid4().hex[:8]}"
        clients = {service: client_of(service, endpoint) for service in ("dynamodb", "sqs", "cognito-idp")}
        clients["dynamodb"].create_table(
            TableName=f"{name}-jobs",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        )
        queue, dead_letters = (
            clients["sqs"].create_queue(QueueName=f"{name}{end}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
            for end in ("", "-dlq")
        )
        pool = clients["cognito-idp"].create_user_pool(PoolName=name)["UserPool"]["Id"]
        client = clients["cognito-idp"].create_user_pool_client(
            UserPoolId=pool,
            ClientName=name,
            ExplicitAuthFlows=["ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
        )["UserPoolClient"]["ClientId"]
        return cls(endpoint, f"{name}-jobs", queue, pool, client, f"/tinyllama/{name}", dead_letters)

    @property
    def secret(self) -> str:
        """The secret's name; nobody has made it yet."""
        return f"{self.prefix.removeprefix('/')}/openai-api-key"

    def client(self, service: str) -> Any:
        return client_of(service, self.endpoint)

    def user(self, name: str) -> str:
        """An access token of a new user."""
        return self.tokens(name)["AccessToken"]

    def tokens(self, name: str) -> Mapping[str, Any]:
        cognito = self.client("cognito-idp")
        cognito.admin_create_user(UserPoolId=self.pool_id, Username=name, MessageAction="SUPPRESS")
        cognito.admin_set_user_password(
            UserPoolId=self.pool_id, Username=name, Password="Correct-Horse-9", Permanent=True
        )
        return dict(
            cognito.admin_initiate_auth(
                UserPoolId=self.pool_id,
                ClientId=self.client_id,
                AuthFlow="ADMIN_USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": name, "PASSWORD": "Correct-Horse-9"},
            )["AuthenticationResult"]
        )

    def item(self, pk: str) -> dict[str, Any] | None:
        found = self.client("dynamodb").get_item(TableName=self.table, Key={"pk": {"S": pk}}).get("Item")
        return wire.unpack(found) if found else None

    def put(self, item: Mapping[str, Any]) -> None:
        self.client("dynamodb").put_item(TableName=self.table, Item=wire.pack(item))

    def jobs(self) -> list[dict[str, Any]]:
        items = self.client("dynamodb").scan(TableName=self.table)["Items"]
        return [plain for item in items if (plain := wire.unpack(item))["pk"].startswith("job#")]

    def beat(self, age_s: float = 0, state: str = "ready") -> None:
        """The worker's heartbeat, that many seconds old."""
        now = time.time()
        self.put(
            {
                "pk": wire.HEARTBEAT_PK,
                "at_ms": int((now - age_s) * 1000),
                "state": state,
                "instance_id": "i-1",
                "expires_at": int(now) + 600,
            }
        )

    def messages(self) -> list[wire.Job]:
        """All messages on the queue, which they leave."""
        sqs = self.client("sqs")
        found: list[wire.Job] = []
        while got := sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get("Messages"):
            for message in got:
                found.append(wire.Job.from_message(message["Body"]))
                sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def node(self) -> str:
        """A stopped instance, recorded in the ledger."""
        ec2 = self.client("ec2")
        image = image_at(self.endpoint)
        made = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)
        instance = str(made["Instances"][0]["InstanceId"])
        ec2.stop_instances(InstanceIds=[instance])
        self.record_node(instance)
        return instance

    def record_node(self, instance: str) -> None:
        self.client("ssm").put_parameter(
            Name=f"{self.prefix}/node", Value=json.dumps({"id": instance}), Type="String", Overwrite=True
        )

    def variables(self, endpoint: str | None = None, **extra: str) -> dict[str, str]:
        return {
            "AISTRATUS_ENV": "test",
            "JOBS_TABLE": self.table,
            "QUEUE_URL": self.queue_url,
            "DEAD_LETTER_URL": self.dead_letter_url,
            "USER_POOL_ID": self.pool_id,
            "CLIENT_ID": self.client_id,
            "OPENAI_SECRET": self.secret,
            "LEDGER_PREFIX": self.prefix,
            "RATE_PER_MINUTE": "1000",
            "KILL_USD": "24.68",
            "NODE_TYPES": "g4dn.xlarge,g5.xlarge,t3.small",
            "WAKE_AS": "last",
            "LIMIT_EUR": "20",
            "USD_PER_EUR": "1.25",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
            "AWS_SESSION_TOKEN": "session-example",
            **extra,
        }


# --- the function ---------------------------------------------------------------------------------------


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


# --- tokens of our own ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signer:
    """An RSA key, and tokens signed with it in good and bad ways."""

    pem: str
    kid: str

    @classmethod
    def create(cls, kid: str) -> Signer:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return cls(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode(), kid)

    @property
    def public_jwk(self) -> dict[str, Any]:
        public = jwk.construct(self.pem, "RS256").public_key().to_dict()
        public = {name: v.decode() if isinstance(v, bytes) else v for name, v in public.items()}
        return {**public, "kid": self.kid, "use": "sig"}

    def token(self, claims: Mapping[str, Any], algorithm: str = "RS256", **header: Any) -> str:
        return str(jws.sign(dict(claims), self.pem, headers={"kid": self.kid, **header}, algorithm=algorithm))


def claims_of(stack: Stack, **changed: Any) -> dict[str, Any]:
    """Claims of a good access token; None removes one."""
    now = int(time.time())
    claims = {
        "iss": f"https://cognito-idp.{REGION}.amazonaws.com/{stack.pool_id}",
        "sub": "3f1c-user",
        "client_id": stack.client_id,
        "token_use": "access",
        "iat": now,
        "exp": now + 600,
    } | changed
    return {name: value for name, value in claims.items() if value is not None}


def unsigned(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes = b"x") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
