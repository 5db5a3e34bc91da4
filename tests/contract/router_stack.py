"""Fixtures of the router's tests: moto over HTTP, and the resources that the router works with.

`router_front.py` breaks the calls in between, `router_function.py` runs the router, `router_signer.py` makes tokens.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from router_front import Front, front_of
from router_function import Function, lambda_runtime, unpacked_router

from aistratus import wire

REGION = "eu-central-1"

KEYS = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret-example", "region_name": REGION}


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


@pytest.fixture(scope="module")
def front(moto: str) -> Iterator[Front]:
    with front_of(moto) as made:
        yield made


@pytest.fixture
def function(stack: Stack, front: Front, code: Path, runtime: Path) -> Iterator[Function]:
    """The router behind `front`, for the test's own `stack`."""
    front.operations.clear()
    front.faults.clear()
    made = Function(code, runtime, stack.variables(front.url))
    yield made
    made.close()


@pytest.fixture
def alice(stack: Stack) -> str:
    """A user's token."""
    return stack.user("alice")


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
