"""One EC2 instance as a process: its boot, its worker, and the commands that are run on it.

A thread for each running instance does what systemd does on the real machine: it prepares the node
(`node_bootstrap.py`), starts `python -m aistratus.worker` from the shipped bundle, and restarts it when it dies. The
worker runs the bundle's code and not our source tree: the bundle's folder comes first on its path, and that is checked
before the first start.

A worker that exits with status 64 asks for the machine to be switched off. Every worker is started through `leash.py`,
so that none outlives the embedded cloud.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aistratus.local import leash, node_commands, node_system
from aistratus.local.node_bootstrap import (
    BootstrapError,
    NodeConfiguration,
    Prepared,
    prepare,
    read_configuration,
    read_manifest,
)
from aistratus.local.node_clients import make_client
from aistratus.local.node_log import NodeLog
from aistratus.local.sshd import PORT, Sshd, program

log = logging.getLogger(__name__)

MANIFEST_EVERY_S: Final = 0.25
"""The instance is often created before the artifacts are in the bucket; asking costs 2 ms here."""
MANIFEST_WITHIN_S: Final = 900.0
"""After this the node gives up until its next start; `up` uploads within seconds."""
PREPARE_AGAIN_S: Final = 2.0
"""Pause after a failed download; the next try also reads the manifest again."""
RESTART_AFTER_S: Final = 0.5
"""systemd's RestartSec of the worker's unit."""
START_LIMIT: Final = (10, 10.0)
"""systemd's StartLimitBurst and StartLimitIntervalSec (seconds): ten starts in ten seconds are a broken worker."""
STOP_GRACE_S: Final = 5.0
"""What a worker gets between SIGTERM and SIGKILL when its instance stops."""
POWER_OFF: Final = 64
"""Exit status by which a worker asks for the machine to be switched off."""

PowerOff = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class InstanceFacts:
    """What a node needs to know about its instance."""

    instance_id: str
    region: str
    user_data: str
    instance_type: str = ""
    public_key: str = ""
    """The key that its SSH server accepts; empty: none."""
    address: str = ""
    """The address that its SSH server listens on; empty: it has none."""


class Node:
    """A running instance, and the thread that looks after its worker."""

    def __init__(
        self, *, facts: InstanceFacts, home: Path, endpoint: str, credentials: dict[str, str], power_off: PowerOff
    ) -> None:
        self.facts, self.home, self.endpoint = facts, home, endpoint
        self.credentials, self.power_off = credentials, power_off
        self._boot = secrets.token_hex(8)
        self._ending, self._wanted = threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._sshd: Sshd | None = None
        self._renew = False
        """Whether the worker's systemd unit must be read again before its next start."""

    @property
    def root(self) -> Path:
        """Where commands run on this node start."""
        return self.home / "root"

    @property
    def worker_log(self) -> Path:
        return self.home / "worker.log"

    def start(self) -> None:
        inside = [self.root / name for name in node_system.FOLDERS]
        for folder in (self.root, self.home / "worker", self.home / "bundle", *inside):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        programs = node_system.programs(self.facts.instance_id, self.facts.instance_type)
        node_commands.install(self.home, self.worker_log, programs)
        shown = self.root / "var/log/aistratus/worker.log"
        if not shown.is_symlink():
            shown.symlink_to(self.worker_log)
        self._set_wanted(True)
        self._listen()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"node-{self.facts.instance_id}")
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """SIGTERM to the worker, SIGKILL after `grace_s` seconds; returns when the node's thread has ended."""
        self._ending.set()
        if self._sshd is not None:
            self._sshd.close()
        self._end_worker(grace_s)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(grace_s)

    def command_environment(self) -> dict[str, str]:
        """Environment of commands that the operator runs on the node."""
        own = str(node_commands.folder(self.home))
        path = os.pathsep.join([own, os.environ.get("PATH", os.defpath)])
        return self._environment() | {"PATH": path, "NODE_ROOT": str(self.root)}

    def _listen(self) -> None:
        """Starts an SSH server for the operator, where this computer has one and the instance a key."""
        sshd = program()
        if sshd is None or not self.facts.public_key or not self.facts.address:
            return
        try:
            self._sshd = Sshd(
                sshd=sshd,
                listen=(self.facts.address, PORT),
                folder=self.home / "sshd",
                host_key=self.root / "etc/ssh/ssh_host_ed25519_key",
                authorized=self.facts.public_key,
                environment=self.command_environment(),
                root=self.root,
            )
        except OSError as error:
            log.warning("node %s has no SSH: %s", self.facts.instance_id, error)

    def _set_wanted(self, wanted: bool) -> None:
        """Sets whether the worker should run, and publishes that for `systemctl` on the node."""
        (self._wanted.set if wanted else self._wanted.clear)()
        node_commands.tell(self.home, active=wanted)

    def _run(self) -> None:
        configuration = read_configuration(self.facts.user_data)
        if configuration is None:
            return self._wait_for_power_off()
        note = self._note(None)
        try:
            self._serve(configuration, note)
        except Exception:  # the thread's last line: without it a failed node would just be silent
            log.exception("node %s failed", self.facts.instance_id)
            note.line("the node failed; the embedded cloud's log has the reason")
        finally:
            note.close()

    def _wait_for_power_off(self) -> None:
        while not self._ending.wait(node_commands.POLL_S):
            if node_commands.take(self.home) == "poweroff":
                self._ending.set()
                self.power_off()

    def _serve(self, configuration: NodeConfiguration, note: NodeLog) -> None:
        ready = self._prepare(configuration, note)
        if ready is None:
            return
        try:
            self._check_origin(ready.bundle)
        except BootstrapError as error:
            note.line(f"the worker isn't started: {error}")
            return
        group = ready.environment.get("WORKER_LOG_GROUP")
        worker_note = self._note(group)
        try:
            self._keep_running(ready, worker_note)
        finally:
            worker_note.close()

    def _prepare(self, configuration: NodeConfiguration, note: NodeLog) -> Prepared | None:
        s3 = self.client("s3")
        deadline = time.monotonic() + MANIFEST_WITHIN_S
        while time.monotonic() < deadline and not self._ending.is_set():
            pause = MANIFEST_EVERY_S
            try:
                manifest = read_manifest(s3, configuration)
                if manifest is not None:
                    return prepare(s3, configuration, manifest, self.home)
            except _transient_errors() as error:
                note.line(f"not ready yet: {error}")
                pause = PREPARE_AGAIN_S
            self._ending.wait(pause)
        if not self._ending.is_set():
            note.line(
                f"gave up: no usable manifest at s3://{configuration.bucket}/{configuration.manifest_key} "
                f"within {MANIFEST_WITHIN_S:.0f} s"
            )
        return None

    def _check_origin(self, bundle: Path) -> None:
        """Raises BootstrapError unless Python imports the shipped code: our source tree would hide a broken bundle."""
        command = [sys.executable, "-P", "-c", "import aistratus; print(aistratus.__file__)"]
        found = subprocess.run(
            command,
            env=self._environment(bundle),
            cwd=self.root,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if not Path(found.stdout.strip() or "/").resolve().is_relative_to(bundle.resolve()):
            raise BootstrapError(
                f"the bundle's code isn't what Python imports, but {found.stdout.strip()!r}: "
                f"{found.stderr.strip()[-300:]}"
            )

    def _keep_running(self, ready: Prepared, note: NodeLog) -> None:
        starts: deque[float] = deque(maxlen=START_LIMIT[0])
        while not self._ending.is_set():
            if not self._wanted.wait(node_commands.POLL_S):
                self._carry_out(node_commands.take(self.home))
                continue
            if len(starts) == starts.maxlen and time.monotonic() - starts[0] < START_LIMIT[1]:
                note.line(f"the worker ended {START_LIMIT[0]} times within {START_LIMIT[1]:.0f} s; it stays down")
                self._set_wanted(False)
                starts.clear()
                continue
            starts.append(time.monotonic())
            if self._renew:
                self._renew, ready = False, self._launched() or ready
            if self._work(ready, note) == POWER_OFF and not self._ending.is_set():
                note.line("the worker asked for the machine to be switched off")
                self._ending.set()
                self.power_off()
                return
            self._ending.wait(RESTART_AFTER_S if self._wanted.is_set() else 0)

    def _work(self, ready: Prepared, note: NodeLog) -> int:
        """Runs the worker once and returns its exit status."""
        command = [
            sys.executable,
            "-I",
            "-S",
            leash.__file__,
            str(STOP_GRACE_S),
            sys.executable,
            "-P",
            "-m",
            "aistratus.worker",
        ]
        process = subprocess.Popen(
            command,
            env=self._environment(ready.bundle) | self._worker_environment(ready),
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._process = process
        node_commands.tell(self.home, active=True, pid=process.pid)
        assert process.stdout is not None
        reader = threading.Thread(target=note.follow, args=(process.stdout,), daemon=True)
        reader.start()
        while (status := _wait(process, node_commands.POLL_S)) is None:
            if self._ending.is_set():
                status = self._end(process, STOP_GRACE_S)
                break
            self._carry_out(node_commands.take(self.home))
        reader.join(1.0)
        note.line(f"the worker ended with status {status}")
        return status

    def _carry_out(self, verb: str | None) -> None:
        """What a command on the node asked for: `systemctl restart aistratus-worker`, `shutdown -h now`."""
        if verb == "poweroff":
            self._ending.set()
            self.power_off()
        elif verb == "stop":
            self._set_wanted(False)
            self._end_worker(STOP_GRACE_S)
        elif verb in ("start", "restart", "reboot"):
            self._renew = True
            self._set_wanted(True)
            if verb != "start":
                self._end_worker(STOP_GRACE_S)

    def _launched(self) -> Prepared | None:
        """The worker that the bootstrap script has installed; `None` if the script hasn't run on this node."""
        ready = node_system.unit(self.root)
        if ready is not None:
            self._check_origin(ready.bundle)
        return ready

    def _end_worker(self, grace_s: float) -> None:
        if self._process is not None:
            self._end(self._process, grace_s)

    @staticmethod
    def _end(process: subprocess.Popen[bytes], grace_s: float) -> int:
        process.terminate()
        status = _wait(process, grace_s)
        if status is None:
            process.kill()  # kills the leash, which ends the worker
            status = process.wait()
        return status

    def _environment(self, bundle: Path | None = None) -> dict[str, str]:
        kept = {
            name: os.environ[name]
            for name in ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
            if name in os.environ
        }
        own = {
            **self.credentials,
            "HOME": str(self.root),
            "AWS_REGION": self.facts.region,
            "AWS_DEFAULT_REGION": self.facts.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return kept | own | ({"PYTHONPATH": str(bundle)} if bundle else {})

    def _worker_environment(self, ready: Prepared) -> dict[str, str]:
        return ready.environment | {
            "PYTHONUNBUFFERED": "1",
            "WORKER_INSTANCE_ID": self.facts.instance_id,
            "WORKER_STATE_DIR": str(self.home / "worker"),
            "WORKER_BOOT_ID": self._boot,
            "WORKER_INSTANCE_TYPE": self.facts.instance_type,
            # A GPU of this computer isn't the node's.
            "WORKER_GPU_DEVICES": str(self.root / "sys/bus/pci/devices"),
        }

    def _note(self, group: str | None) -> NodeLog:
        return NodeLog(
            file=self.worker_log,
            logs=self.client("logs") if group else None,
            group=group,
            stream=self.facts.instance_id,
        )

    @functools.cached_property
    def s3(self) -> Any:
        """The instance's own client, kept: making one costs more than the calls that it is needed for."""
        return self.client("s3")

    def client(self, service: str) -> Any:
        """A client of this cloud, as the instance's role would have it."""
        return make_client(service, region=self.facts.region, endpoint=self.endpoint, credentials=self.credentials)


def _transient_errors() -> tuple[type[Exception], ...]:
    """Expected while `up` still uploads: a missing or half-written artifact, a network fault."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BootstrapError, OSError, ValueError, KeyError, BotoCoreError, ClientError


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
