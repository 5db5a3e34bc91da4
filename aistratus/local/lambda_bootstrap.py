"""The entry point of an execution environment, like `/var/runtime/bootstrap` on AWS.

This file is copied into the lambda site and started there by an isolated interpreter (`-I -S`), so it may use
the standard library and what real Lambda has, never our package. It ties the process's life to the embedded
cloud's, bounds its memory, puts the task root and the site on `sys.path`, and hands over to AWS's own runtime
client (`awslambdaric`). Where that has no wheel, the loop below speaks the same Runtime API:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

Arguments: file descriptor of the lifeline, address-space limit in bytes, the site's directory, then the
directories that layers put on the path.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

API = "/2018-06-01/runtime"
PR_SET_PDEATHSIG = 1


def main(lifeline: int, address_space: int, site: str, layers: list[str]) -> None:
    _limit_memory(address_space)
    _die_with_the_cloud(lifeline)
    task_root = os.environ["LAMBDA_TASK_ROOT"]
    sys.path[:0] = [task_root, *layers, site]
    sys.argv = [f"{site}/bootstrap"]
    # AWS's client is of no use without its native half.
    if importlib.util.find_spec("runtime_client") is None:
        _own_loop()
    else:
        _aws_loop()


def _limit_memory(address_space: int) -> None:
    """A backstop between two looks of the runner at the resident memory; not every system has it."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        return


def _die_with_the_cloud(lifeline: int) -> None:
    """End when the embedded cloud ends, even by kill -9: its end of the pipe closes with it.

    The thread needs the interpreter's lock, which native code may hold for long, hence the kernel's own way too
    where there is one.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def wait_for_the_end() -> None:
        while os.read(lifeline, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait_for_the_end, name="lifeline", daemon=True).start()


def _aws_loop() -> None:
    bootstrap: Any = importlib.import_module("awslambdaric.bootstrap")
    host, _, prefix = os.environ["AWS_LAMBDA_RUNTIME_API"].partition("/")
    client: Any = bootstrap.LambdaRuntimeClient(host)
    plain_call = client.call_rapid

    # Our Runtime API has a secret path in its address: the native half takes it, `http.client` doesn't.
    def call_rapid(method: str, endpoint: str, *rest: Any, **more: Any) -> None:
        plain_call(method, f"/{prefix}{endpoint}", *rest, **more)

    client.call_rapid = call_rapid
    bootstrap.run(os.environ["_HANDLER"], client)


# --- the same contract without AWS's package -------------------------------------------------------------


class Context:
    """What a handler gets as its second argument; attribute names are AWS's."""

    def __init__(self, headers: Any) -> None:
        self.aws_request_id: str = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn: str = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = None
        self.client_context = None
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._deadline_ms - int(time.time() * 1000))


def _own_loop() -> None:
    import http.client
    import socket

    for stream in (sys.stdout, sys.stderr):  # both go into one pipe, in order
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    host, _, prefix = os.environ["AWS_LAMBDA_RUNTIME_API"].partition("/")
    connection = http.client.HTTPConnection(host)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(method: str, path: str, body: bytes | None = None) -> tuple[Any, bytes]:
        sys.stdout.flush()  # what was printed must be out before the answer is
        sys.stderr.flush()
        connection.request(method, f"/{prefix}{API}{path}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"the Runtime API answered {answer.status} to {path}")
        return answer.headers, content

    try:
        handler = _find_handler(os.environ["_HANDLER"])
    except BaseException as error:  # noqa: BLE001  (whatever the module does, a sys.exit too, is an init error)
        call("POST", "/init/error", _described(error))
        sys.exit(1)
    while True:
        headers, payload = call("GET", "/invocation/next")
        context = Context(headers)
        try:
            answer = json.dumps(handler(json.loads(payload), context)).encode()
        except Exception as error:  # noqa: BLE001  (what a handler raises is its caller's to know)
            call("POST", f"/invocation/{context.aws_request_id}/error", _described(error))
        else:
            call("POST", f"/invocation/{context.aws_request_id}/response", answer)


class RuntimeFault(Exception):
    """A function that can't be started; `kind` is AWS's name for the reason."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _find_handler(name: str) -> Any:
    module, dot, function = name.rpartition(".")
    if not dot:
        raise RuntimeFault("Runtime.MalformedHandlerName", f"Bad handler '{name}': not enough values to unpack")
    try:
        found = importlib.import_module(module.replace("/", "."))
    except ImportError as error:
        raise RuntimeFault("Runtime.ImportModuleError", f"Unable to import module '{module}': {error}") from error
    except SyntaxError as error:
        raise RuntimeFault("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module}': {error}") from error
    try:
        return getattr(found, function)
    except AttributeError as error:
        message = f"Handler '{function}' missing on module '{module}'"
        raise RuntimeFault("Runtime.HandlerNotFound", message) from error


def _described(error: BaseException) -> bytes:
    """The error as AWS describes it to the caller; also told on stdout, as there."""
    kind = error.kind if isinstance(error, RuntimeFault) else type(error).__name__
    trace = [] if isinstance(error, RuntimeFault) else traceback.extract_tb(error.__traceback__)[1:]
    frames = traceback.format_list(trace)
    lines = [f"[ERROR] {kind}: {error}", "Traceback (most recent call last):", *frames]
    print("\r".join(lines).replace("\n", "\r"))
    return json.dumps({"errorMessage": str(error), "errorType": kind, "stackTrace": frames}).encode()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
