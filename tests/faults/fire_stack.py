"""A stack that `aistratus up` has really built, in an embedded cloud and a home folder of its own, to be shot at.

Nothing in it is a double: the gateway executes the API as it is configured, the router runs from its zip, the node
answers with the demo model. There are three people: two users who must not see each other, and the operator who signs
in with `aistratus chat`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.config import Config

from aistratus.client.signin import AdminSignIn

REGION = "eu-central-1"
PASSWORD = "Long-enough-for-a-test-1"
CANARY = "k4n4ry.n3ver.t0.be.l0gged"
"""Stands in prompts, headers and paths that are sent, and must stand in no log. Its dots can be in no job id."""

FIRE = """\
[api]
rate_per_minute = 1000
throttle = { rate = 10000.0, burst = 5000 }
throttles."POST /infer" = { rate = 10000.0, burst = 5000 }
throttles."GET /jobs/{id}" = { rate = 10000.0, burst = 5000 }
throttles."DELETE /jobs/{id}" = { rate = 10000.0, burst = 5000 }
throttles."GET /health" = { rate = 10000.0, burst = 5000 }
throttles."GET /openapi.json" = { rate = 10000.0, burst = 5000 }
throttles."GET /queue-health" = { rate = 10000.0, burst = 5000 }
"""
"""Limits that thousands of requests don't meet: what is behind the throttle is to be shot at."""


@dataclass(frozen=True)
class Person:
    """A signed-in user. `token` is an access token."""

    name: str
    sub: str
    token: str
    id_token: str


class ProcessWatch:
    """Keeps every command line that any process on this machine has had since, as `ps` would show it."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopping.wait(0.1):
            for process in psutil.process_iter(["cmdline"]):
                self.seen.add("\0".join(process.info["cmdline"] or ()))


@dataclass(frozen=True)
class Stack:
    """What is up. `endpoint` is all of AWS, `api` the HTTP API's address, `ids` the ledger."""

    home: Path
    endpoint: str
    ids: dict[str, dict[str, str]]
    watch: ProcessWatch

    @property
    def gateway(self) -> str:
        """The gateway's own address, without an API."""
        return self.api.rpartition("/")[0]

    @property
    def api(self) -> str:
        return self.ids["api"]["endpoint"]

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    @cached_property
    def lambdas(self) -> Any:
        return self.client("lambda")

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line, as this home's user calls it."""
        return command(self.home, *arguments, check=check)

    def new_person(self, name: str, *, pool: str | None = None, client: str | None = None) -> Person:
        """Somebody of our pool, or of another."""
        cognito = self.client("cognito-idp")
        pool, client = pool or self.ids["user_pool"]["id"], client or self.ids["user_client"]["id"]
        cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
        cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=PASSWORD, Permanent=True)
        attributes = cognito.admin_get_user(UserPoolId=pool, Username=name)["UserAttributes"]
        sub = next(entry["Value"] for entry in attributes if entry["Name"] == "sub")
        return self.sign_in(name, sub, pool, client)

    def sign_in(self, name: str, sub: str, pool: str, client: str) -> Person:
        tokens = AdminSignIn(self.client("cognito-idp"), pool, client, name, lambda: PASSWORD).sign_in()
        return Person(name, sub, tokens.access, tokens.id)

    def log_lines(self) -> dict[str, list[str]]:
        """Every message of every log group, by group."""
        logs = self.client("logs")
        groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
        return {group: [line for stream in self._streams(logs, group) for line in stream] for group in groups}

    @staticmethod
    def _streams(logs: Any, group: str) -> Iterator[list[str]]:
        for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]:
            lines: list[str] = []
            token: dict[str, str] = {}
            while True:
                page = logs.get_log_events(
                    logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True, **token
                )
                lines += [event["message"] for event in page["events"]]
                if not page["events"] or token.get("nextToken") == page["nextForwardToken"]:
                    break
                token = {"nextToken": page["nextForwardToken"]}
            yield lines

    def files(self) -> Iterator[Path]:
        """Every file that the stack keeps on this machine."""
        return (path for path in self.home.rglob("*") if path.is_file() and not path.is_symlink())


@contextmanager
def up(home: Path, settings: str = FIRE) -> Iterator[Stack]:
    """Builds the stack with `aistratus up` and takes its cloud away at the end."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "aistratus.toml").write_text(settings)
    watch = ProcessWatch()
    try:
        command(home, "up", "-y", "-o", "json", "--trace", str(home / "up.trace"))
        ids = json.loads(command(home, "env", "show", "-o", "json").stdout)["ids"]
        record = next(home.rglob("cloud.json"))
        stack = Stack(home, json.loads(record.read_text())["endpoint"], ids, watch)
        await_node(stack)
        yield stack
    finally:
        watch.stop()
        command(home, "local", "stop", check=False)


def await_node(stack: Stack, within_s: float = 60.0) -> None:
    """The model is loaded; the API answers before that, but with work still going on at the side."""
    table, deadline = stack.client("dynamodb"), time.monotonic() + within_s
    while time.monotonic() < deadline:
        key = {"pk": {"S": "node#heartbeat"}}
        beat = table.get_item(TableName=stack.ids["jobs_table"]["name"], Key=key).get("Item", {})
        if beat.get("state", {}).get("S") == "ready":
            return
        time.sleep(0.1)  # one look; all looks together are capped above
    raise AssertionError("the node isn't ready")


def command(home: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("aistratus")), *arguments],
        cwd=home, env=environment(home), capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0 or not check, f"{arguments} ended with {done.returncode}: {done.stdout} {done.stderr}"
    return done


def environment(home: Path) -> dict[str, str]:
    """A user's surroundings: nothing of AWS, nothing of another aistratus."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR", "PYTHONPATH")}
    return {**kept, "HOME": str(home)}
