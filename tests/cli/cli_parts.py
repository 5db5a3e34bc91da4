"""A person at the command line: a home folder, an environment, and `aistratus` as it is installed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"
WITHIN_S = 120
"""Cap for what takes a second or two on an idle machine; one that does much else at once needs far longer."""
LOOK_EVERY_S = 0.02


def program() -> str:
    """The installed command."""
    found = shutil.which("aistratus", path=str(Path(sys.executable).parent))
    assert found, "the package isn't installed in this environment"
    return found


def plain_environment(home: Path) -> dict[str, str]:
    """What a fresh login has: no AWS settings, none of ours, no colours, no proxy."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # Nobody asks an instance for credentials that isn't one; without this a laptop waits two seconds for nothing.
    return kept | {"HOME": str(home), "PATH": path, "AWS_EC2_METADATA_DISABLED": "true", "TERM": "dumb"}


def _hear_ctrl_c() -> None:
    """Whoever starts the tests in the background of a shell has SIGINT ignored, and so would the commands."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        content: dict[str, Any] = json.loads(self.out)
        return content

    @property
    def words(self) -> str:
        """Everything it printed."""
        return self.out + self.err


@dataclass(frozen=True)
class Person:
    """Somebody with a home folder of their own, and so with an embedded cloud of their own."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    def with_variables(self, **variables: str) -> Person:
        return Person(self.home, {**self.variables, **variables})

    @property
    def environment(self) -> dict[str, str]:
        return plain_environment(self.home) | self.variables

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """The command, still running."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [program(), *arguments],
            env=self.environment,
            cwd=self.home,
            text=True,
            preexec_fn=_hear_ctrl_c,
            **(streams | options),
        )

    def run(self, *arguments: str, typed: str = "") -> Said:
        """The command, ended. `typed` comes through a pipe."""
        done = subprocess.run(
            [program(), *arguments],
            env=self.environment,
            cwd=self.home,
            input=typed,
            text=True,
            capture_output=True,
            timeout=WITHIN_S * 2,
            check=False,
        )
        return _without_traceback(Said(done.returncode, done.stdout, done.stderr))

    def shell(self, line: str) -> Said:
        """A line as it is typed into bash."""
        done = subprocess.run(
            ["bash", "-c", line],
            env=self.environment,
            cwd=self.home,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=WITHIN_S * 2,
            check=False,
        )
        return _without_traceback(Said(done.returncode, done.stdout, done.stderr))


def _without_traceback(said: Said) -> Said:
    assert "Traceback" not in said.words, said.words
    return said


def ended(process: subprocess.Popen[str]) -> Said:
    """How a started command ended."""
    out, err = process.communicate(timeout=WITHIN_S)
    return _without_traceback(Said(process.returncode, out, err))


@functools.cache
def _witness() -> boto3.Session:
    return boto3.Session(aws_access_key_id="witness", aws_secret_access_key="witness", region_name=REGION)


def client(endpoint: str, service: str) -> Any:
    """boto3 as an independent witness of what is in the account."""
    return _witness().client(service, endpoint_url=endpoint, config=Config(proxies={}))


PLUGIN = """#!{python}
import json, os, socket, sys, threading
from urllib.parse import urlsplit

if sys.argv[1:] == ["--version"]:
    sys.exit(print("1.2.707.0"))
response, _region, verb, _profile, asked, _endpoint = sys.argv[1:]
assert verb == "StartSession" and json.loads(asked)["DocumentName"] == "AWS-StartSSHSession"
told = json.loads(os.environ[response])
assert told["TokenValue"] not in "".join(sys.argv)
place = urlsplit(told["StreamUrl"])
there = socket.create_connection((place.hostname, place.port))


def carry():
    while came := os.read(0, 65536):
        there.sendall(came)
    there.shutdown(socket.SHUT_WR)


threading.Thread(target=carry, daemon=True).start()
while came := there.recv(65536):
    os.write(1, came)
os._exit(0)
"""


def session_plugin(folder: Path) -> Path:
    """A folder with what AWS's plugin is to us: it carries bytes between its streams and the session's address."""
    folder.mkdir()
    program = folder / "session-manager-plugin"
    program.write_text(PLUGIN.replace("{python}", sys.executable))
    program.chmod(0o755)
    return folder


def eventually(look: Callable[[], T], until: Callable[[T], bool] = bool) -> T:
    """What `look` gives once it satisfies `until`; the last look if that doesn't come about in time."""
    deadline = time.monotonic() + WITHIN_S
    found = look()
    while not until(found) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        found = look()
    return found


def node_state(endpoint: str, env: str) -> str:
    """The state of the env's one instance."""
    answer = client(endpoint, "ec2").describe_instances(Filters=[{"Name": "tag:Env", "Values": [env]}])
    states = [one["State"]["Name"] for entry in answer["Reservations"] for one in entry["Instances"]]
    assert len(states) == 1
    return str(states[0])
