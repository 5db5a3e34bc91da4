"""The parts that the gateway's and the runner's tests run against: moto's server, a runner, a gateway, all real.

Everything is configured over HTTP with boto3, as the product does it. Moto keeps its state for the process, so
names are unique and what was made is removed again.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import httpx
import moto.backends  # noqa: F401  (must be loaded before the server's first request)
import uvicorn
from moto.core.config import default_user_config
from moto.server import ThreadedMotoServer

from aistratus.local.gateway import build_gateway
from aistratus.local.runner import FunctionRunner, Invocation

ACCOUNT = "123456789012"
REGION = "eu-central-1"

ECHO = """
def handle(event, context):
    return event
"""


def zipped(**files: str) -> bytes:
    """A zip of `name="source"` modules, readable for everybody as Lambda wants it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source in files.items():
            entry = zipfile.ZipInfo(f"{name}.py")
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, source)
    return buffer.getvalue()


class StillClock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Cloud:
    """Moto over HTTP in this process."""

    def __init__(self) -> None:
        default_user_config["lambda"] = {"use_docker": False}
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self._role: str | None = None

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    @property
    def role(self) -> str:
        if self._role is None:
            created = self.client("iam").create_role(
                RoleName=f"role-{uuid.uuid4().hex[:8]}", AssumeRolePolicyDocument="{}"
            )
            self._role = created["Role"]["Arn"]
        return self._role

    def function(self, source: str = ECHO, *, variables: dict[str, str] | None = None, **settings: Any) -> str:
        """Create a function from a module's source; its name."""
        name = f"f-{uuid.uuid4().hex[:8]}"
        self.client("lambda").create_function(
            **{
                "FunctionName": name,
                "Runtime": "python3.12",
                "Role": self.role,
                "Handler": "app.handle",
                "Code": {"ZipFile": zipped(app=source)},
                "Environment": {"Variables": variables or {}},
                "Timeout": 10,
                "MemorySize": 256,
                **settings,
            }
        )
        return name

    def log_lines(self, group: str) -> list[str]:
        logs = self.client("logs")
        streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
        return [
            event["message"]
            for stream in streams
            for event in logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
        ]

    def stop(self) -> None:
        self._server.stop()


def invoke(
    runner: FunctionRunner,
    name: str,
    event: object = None,
    *,
    qualifier: str | None = None,
    kind: str = "RequestResponse",
) -> Invocation:
    return runner.invoke(
        account=ACCOUNT,
        region=REGION,
        name=name,
        qualifier=qualifier,
        payload=json.dumps(event).encode(),
        invocation=kind,
    )


class GatewayServer:
    """The gateway behind uvicorn on a free port."""

    def __init__(self, runner: FunctionRunner, clock: Callable[[], float]) -> None:
        config = uvicorn.Config(
            build_gateway(runner, clock=clock),
            log_level="warning",
            lifespan="off",
            access_log=False,
        )
        # asyncio switches Nagle off only for sockets that name their protocol; else each answer waits 40 ms.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(128)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


@dataclass
class Api:
    """An HTTP API under construction; `url` is its address at the gateway."""

    cloud: Cloud
    gateway: GatewayServer
    id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.control = self.cloud.client("apigatewayv2")
        made = self.control.create_api(Name=f"api-{uuid.uuid4().hex[:8]}", ProtocolType="HTTP", **self.settings)
        self.id = made["ApiId"]

    @property
    def url(self) -> str:
        return f"{self.gateway.url}/{self.id}"

    def stage(self, name: str = "$default", **settings: Any) -> Api:
        self.control.create_stage(ApiId=self.id, StageName=name, AutoDeploy=True, **settings)
        return self

    def integration(self, function: str, *, qualifier: str | None = None, allow: bool = True, **settings: Any) -> str:
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
        if qualifier:
            arn += f":{qualifier}"
        if allow:
            self.allow(function, qualifier=qualifier)
        made = self.control.create_integration(
            **{
                "ApiId": self.id,
                "IntegrationType": "AWS_PROXY",
                "IntegrationUri": arn,
                "PayloadFormatVersion": "2.0",
                **settings,
            }
        )
        return str(made["IntegrationId"])

    def allow(self, function: str, *, qualifier: str | None = None, route: str = "*/*") -> None:
        more = {"Qualifier": qualifier} if qualifier else {}
        self.cloud.client("lambda").add_permission(
            FunctionName=function,
            StatementId=uuid.uuid4().hex,
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
            SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{self.id}/{route}",
            **more,
        )

    def route(self, key: str, integration: str, **settings: Any) -> Api:
        self.control.create_route(ApiId=self.id, RouteKey=key, Target=f"integrations/{integration}", **settings)
        return self

    def serve(self, source: str = ECHO, *, key: str = "$default", **settings: Any) -> Api:
        """The whole way in one go: a function, its integration, one route and the default stage."""
        function = self.cloud.function(source, **settings)
        return self.stage().route(key, self.integration(function))

    def request(self, method: str, path: str, **settings: Any) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.request(method, self.url + path, **settings)

    def get(self, path: str, **settings: Any) -> httpx.Response:
        return self.request("GET", path, **settings)

    def delete(self) -> None:
        self.control.delete_api(ApiId=self.id)


@dataclass
class Workshop:
    """A cloud, a runner and a gateway, and every API that a test made of them."""

    state: Path
    clock: StillClock = field(default_factory=StillClock)

    def __post_init__(self) -> None:
        self.cloud = Cloud()
        self.runner = FunctionRunner(endpoint=self.cloud.endpoint, state_dir=self.state)
        self.gateway = GatewayServer(self.runner, self.clock)
        self._apis: list[Api] = []

    def api(self, **settings: Any) -> Api:
        api = Api(self.cloud, self.gateway, settings=settings)
        self._apis.append(api)
        return api

    def close(self) -> None:
        self.gateway.stop()
        self.runner.close()
        for api in self._apis:
            api.delete()
        self.cloud.stop()
