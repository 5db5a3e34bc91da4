"""Starts the process of an execution environment, with exactly the environment variables that Lambda sets.

Nothing of the embedded cloud's own environment is passed on: no `PYTHONPATH`, no proxy, no credentials.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aistratus.local.deployed_function import DeployedFunction
from aistratus.local.execution import MIB, ExecutionEnvironment
from aistratus.local.function_logs import LinesSoFar, LogStream, stream_name
from aistratus.local.log_events import LogEvents
from aistratus.local.runtime_api import Mailbox, RuntimeApi

ADDRESS_SPACE_OVER_MEMORY: Final = 2 * 1024**3
"""Address space beyond the function's memory: mapped libraries and thread stacks, which never become resident."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all environments of one cloud share.

    `spawner` must be an executor of one thread that lives as long as the cloud: Linux sends a child its death
    signal when the *thread* that started it ends. `bytecode` is where compiled modules are kept.
    """

    api: RuntimeApi
    log_events: LogEvents
    spawner: Executor
    bootstrap: Path
    bytecode: Path
    endpoint: str


def start(
    function: DeployedFunction,
    shared: Surroundings,
    *,
    task_root: Path,
    layers: list[Path],
    credentials: Mapping[str, str],
) -> ExecutionEnvironment:
    """Start a process for this version; it isn't initialised yet. `layers` are unpacked, in the function's order."""
    mailbox = shared.api.open()
    name = stream_name(function.version)
    stream = LogStream(function.account, function.region, function.log_group, name, shared.log_events)
    read_end, write_end = os.pipe()
    command = [
        sys.executable,
        "-I",
        "-S",
        "-X",
        "utf8",
        "-X",
        f"pycache_prefix={shared.bytecode}",
        str(shared.bootstrap),
        str(read_end),
        str(function.memory * MIB + ADDRESS_SPACE_OVER_MEMORY),
        str(shared.bootstrap.parent),
        *map(str, _layer_paths(layers)),
    ]
    environment = {
        **dict(function.variables),
        **_lambda_variables(function, mailbox, task_root, stream),
        **credentials,
        "AWS_ENDPOINT_URL": shared.endpoint,
    }
    try:
        process = shared.spawner.submit(
            subprocess.Popen[bytes],
            command,
            env=environment,
            cwd=task_root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(read_end,),
            start_new_session=True,
            bufsize=0,
        ).result()
    except BaseException:  # Ctrl-C too: the half-made environment is taken back, whatever ended it
        os.close(write_end)
        shared.api.close_mailbox(mailbox)
        raise
    finally:
        os.close(read_end)
    return ExecutionEnvironment(
        function, api=shared.api, process=process, mailbox=mailbox, lifeline=write_end, lines=LinesSoFar(stream)
    )


def _layer_paths(layers: list[Path]) -> list[Path]:
    """Lambda's order: the newest layer's `python/lib/python3.x/site-packages` and `python` first."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    roots = [layer / "python" for layer in reversed(layers)]
    return [path for root in roots for path in (root / "lib" / version / "site-packages", root)]


def _lambda_variables(
    function: DeployedFunction, mailbox: Mailbox, task_root: Path, stream: LogStream
) -> dict[str, str]:
    """The reserved variables of Lambda, which a function's own can't replace.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    variables = {
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": stream.group,
        "AWS_LAMBDA_LOG_STREAM_NAME": stream.stream,
        "AWS_LAMBDA_RUNTIME_API": mailbox.address,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        "LAMBDA_TASK_ROOT": str(task_root),
        "_HANDLER": function.handler,
        "TZ": ":UTC",
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    if function.log_format == "JSON":
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
    # An interpreter outside the system's library path can't start without it (AWS sets one too).
    if "LD_LIBRARY_PATH" in os.environ:
        variables["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return variables
