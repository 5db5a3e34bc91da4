"""The embedded cloud's process: moto behind the shim, the gateway, the function runner and the nodes.

The order of a start: bind both sockets, so that every part knows both addresses; put moto's settings into the
environment, because moto reads them at import; import moto and patch it; serve; write the record by which other
commands find the cloud. SIGTERM or SIGINT ends it: child processes first, then the record, then the process.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from aistratus import __version__
from aistratus.local import watch
from aistratus.local.hosts import is_own_host
from aistratus.local.process import RECORD, Record, read_record, write_record
from aistratus.private import make_private

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp, Receive, Scope, Send

    from aistratus.local.scheduler import Scheduler
    from aistratus.local.shim import Cloud

log = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
ACCOUNT: Final = "123456789012"
DEFAULT_REGION: Final = "eu-central-1"
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "embedded", "AWS_SECRET_ACCESS_KEY": "embedded"}
"""Any pair is accepted; the names are there so that no real key is ever picked up by mistake."""
CHILDREN_WITHIN_S: Final = 0.6
"""What functions and workers get to end by themselves; the whole process is to end within a second."""
GARBAGE_AFTER: Final = 50_000
"""Objects that requests make before garbage is looked for; a request makes some thousands."""


def serve(*, state_dir: Path, port: int = 0, strict: bool = False) -> int:
    """Runs the embedded cloud in this process until a signal ends it; gives back the exit code."""
    gc.disable()  # until all is loaded: it stays, and looking through it again and again is a third of a start
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    os.umask(0o077)
    state_dir = state_dir.absolute()
    make_private(state_dir)
    try:
        front_socket = _listen(port)
    except OSError as error:
        print(f"port {port} on {LOOPBACK} can't be used: {error.strerror}", file=sys.stderr)
        return 1
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    parts = _build(front_socket, _listen(0), state_dir, strict)
    record = _announce(parts, state_dir, strict)
    log.info("endpoint %s, gateway %s, pid %d", parts.endpoint, parts.gateway, os.getpid())
    threading.Thread(target=_warm_up, args=(parts.cloud,), daemon=True, name="warm").start()
    watch.wait(ending, state_dir, record)
    _end(parts, state_dir)
    return 0


@dataclass(frozen=True)
class Parts:
    """What runs in this process."""

    endpoint: str
    gateway: str
    cloud: Cloud
    scheduler: Scheduler
    uvicorn: uvicorn.Server


def moto_environment(state_dir: Path) -> dict[str, str]:
    """moto's settings; it reads them when it is imported. See https://docs.getmoto.org/en/latest/docs/configuration."""
    return {
        "MOTO_ACCOUNT_ID": ACCOUNT,
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",  # AWS-managed policies can be attached
        "MOTO_ENABLE_AMI_VALIDATION": "true",  # an unknown image is refused
        "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",  # and so is an unknown type
        "MOTO_DISABLE_GLOBAL_CORS": "true",  # no web page is to read these answers
        "MOTO_LAMBDA_DATA_DIR": str(state_dir / "lambda-layers"),
        "AWS_DEFAULT_REGION": "us-east-1",  # where moto looks for global services' state
        **CREDENTIALS,
    }


def _build(front_socket: socket.socket, gateway_socket: socket.socket, state_dir: Path, strict: bool) -> Parts:
    endpoint, gateway = (_address(bound) for bound in (front_socket, gateway_socket))
    for name in [name for name in os.environ if name.startswith(("AWS_", "MOTO_"))]:
        del os.environ[name]
    os.environ.update(moto_environment(state_dir))
    from aistratus.local.loading import read_lazily

    read_lazily()
    from aistratus.local.call_log import PATH as CALLS
    from aistratus.local.call_log import CallLog
    from aistratus.local.dispatch import Dispatcher
    from aistratus.local.front import FrontServer, Guarded, ServiceLocks
    from aistratus.local.gateway import build_gateway
    from aistratus.local.hosted import HostedPages
    from aistratus.local.nodes import Nodes
    from aistratus.local.runner import FunctionRunner
    from aistratus.local.scheduler import Scheduler
    from aistratus.local.shim import Cloud, install
    from aistratus.local.shim.sts import role_of
    from aistratus.local.strict import install_rules
    from aistratus.local.strict.control import answer as control

    shutil.rmtree(state_dir / "nodes", ignore_errors=True)  # of instances that went with an earlier cloud
    locks = ServiceLocks()
    runner = FunctionRunner(endpoint=endpoint, state_dir=state_dir / "functions")
    cloud = Cloud(
        endpoint=endpoint,
        gateway=gateway,
        account=ACCOUNT,
        state_dir=state_dir,
        runner=runner,
        nodes=Nodes(endpoint=endpoint, state_dir=state_dir / "nodes", credentials=CREDENTIALS),
        locks=locks,
    )
    install(cloud)
    app = HostedPages(Dispatcher(), locks)
    scheduler, front = Scheduler(cloud), Guarded(app, locks)
    if strict:
        delays, calls = install_rules(cloud), CallLog(role_of)
        scheduler = Scheduler(cloud, ahead=delays.ahead)
        delays.on_advance(scheduler.look)

        def drive(path: str, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
            return calls.answer(method, body) if path == CALLS else control(delays, method, body)

        front = Guarded(app, locks, drive, calls.note)
    FrontServer(front, front_socket).start()
    server = _serve_gateway(build_gateway(runner), gateway_socket)
    scheduler.start()
    return Parts(endpoint, gateway, cloud, scheduler, server)


def _serve_gateway(app: ASGIApp, listening: socket.socket) -> uvicorn.Server:
    import uvicorn

    config = uvicorn.Config(
        OwnHosts(app),
        log_level="warning",
        access_log=False,
        ws="none",
        http="h11",
        loop="asyncio",
        server_header=False,
        timeout_graceful_shutdown=0,
        proxy_headers=False,  # or any caller's X-Forwarded-For would pass for the address that is logged
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True, name="gateway").start()
    return server


class OwnHosts:
    """ASGI: refuses requests whose Host isn't this machine (see `hosts.py`). Origins are CORS's business there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_own_host(_header(scope, b"host")):
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"message":"Forbidden"}'})
            return
        await self._app(scope, receive, send)


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _announce(parts: Parts, state_dir: Path, strict: bool) -> Record:
    record = Record(
        schema=1,
        pid=os.getpid(),
        created=psutil.Process().create_time(),
        endpoint=parts.endpoint,
        gateway=parts.gateway,
        strict=strict,
        started_at=time.time(),
        version=__version__,
    )
    write_record(state_dir, record)
    return record


def _warm_up(cloud: Cloud) -> None:
    """Loads the rest, and from then on garbage is looked for, in what requests make."""
    try:
        _warm(cloud)
    finally:
        gc.freeze()
        gc.set_threshold(GARBAGE_AFTER, 10, 20)
        gc.enable()


def _warm(cloud: Cloud) -> None:
    """Loads what the first calls would wait for, while the command that started us still imports its SDK."""
    from moto.core.utils import get_service_model
    from moto.ec2.models import ec2_backends
    from moto.iam.models import iam_backends

    for service in (
        "sts",
        "ssm",
        "ec2",
        "iam",
        "s3",
        "sqs",
        "dynamodb",
        "lambda",
        "logs",
        "cognito-idp",
        "apigatewayv2",
        "sns",
        "budgets",
        "events",
        "scheduler",
    ):
        get_service_model(service)
    for name, load in (
        ("ec2", lambda: ec2_backends[cloud.account][DEFAULT_REGION]),
        ("iam", lambda: iam_backends[cloud.account]["aws"]),
    ):
        with cloud.locks.of(name):
            load()


def _end(parts: Parts, state_dir: Path) -> None:
    """Ends the children, at the latest when their time is over, and takes the record away."""
    closing = [threading.Thread(target=close, daemon=True) for close in (parts.cloud.close, parts.cloud.runner.close)]
    parts.scheduler.close()
    parts.uvicorn.should_exit = True
    for thread in closing:
        thread.start()
    deadline = time.monotonic() + CHILDREN_WITHIN_S
    for thread in closing:
        thread.join(max(0.0, deadline - time.monotonic()))
    record = read_record(state_dir)
    if record is not None and record.pid == os.getpid():
        (state_dir / RECORD).unlink(missing_ok=True)
    logging.shutdown()
    # Threads of open connections would hold a normal exit back; there is nothing left to save.
    os._exit(0)


def _listen(port: int) -> socket.socket:
    # Named, because asyncio switches Nagle off only where the protocol is named, or each answer waits 40 ms.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((LOOPBACK, port))
    bound.listen(256)
    return bound


def _address(bound: socket.socket) -> str:
    return f"http://{LOOPBACK}:{bound.getsockname()[1]}"
