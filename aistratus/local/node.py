"""EC2 instances as processes: each instance has a folder, and one that is a node of ours runs its worker there.

What systemd does on the real machine is done here by a thread for each running node: it gets the node ready
(`node_bootstrap.py`), starts `python -m aistratus.worker` from the shipped bundle, and starts it again when it
dies. The worker runs the code of the bundle and not our source tree: the bundle's folder comes first on its path,
and that is checked before the first start.

A worker that exits with status 64 has asked the machine to switch itself off. Every worker is held by a leash
(`leash.py`), so that none outlives the embedded cloud.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
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
from aistratus.local.node_log import NodeLog
from aistratus.local.sshd import BEGIN, END, PORT, Sshd, program

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

_MAKING_CLIENTS: Final = threading.Lock()
"""A session makes one client at a time (boto3's rule)."""

PowerOff = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class InstanceFacts:
    """What a node has to know about its instance."""

    instance_id: str
    region: str
    user_data: str
    instance_type: str = ""
    public_key: str = ""
    """Whom its sshd lets in; empty for nobody."""
    address: str = ""
    """Where that listens; empty for nowhere."""


class Nodes:
    """All instances of this cloud, by id. Calls return at once; what takes time happens in the node's thread."""

    def __init__(self, *, endpoint: str, state_dir: Path, credentials: Mapping[str, str]) -> None:
        self._endpoint, self._state_dir, self._credentials = endpoint, state_dir, dict(credentials)
        self._nodes: dict[str, Node] = {}
        self._lock = threading.Lock()

    def boot(self, facts: InstanceFacts, power_off: PowerOff) -> None:
        """Starts an instance that isn't running. `power_off` is called when it switches itself off."""
        with self._lock:
            node = Node(
                facts=facts,
                home=self._state_dir / facts.instance_id,
                endpoint=self._endpoint,
                # Any key is accepted; this one tells whose calls they are.
                credentials={**self._credentials, "AWS_ACCESS_KEY_ID": facts.instance_id},
                power_off=power_off,
            )
            self._nodes[facts.instance_id] = node
        node.start()

    def shut_down(self, instance_id: str, then: Callable[[], None], *, forget: bool = False) -> None:
        """Stops an instance's worker; afterwards removes its folder (`forget`) and calls `then`."""
        with self._lock:
            node = self._nodes.pop(instance_id, None)

        def end() -> None:
            if node is not None:
                node.stop(STOP_GRACE_S)
            if forget:
                shutil.rmtree(self._state_dir / instance_id, ignore_errors=True)
            then()

        threading.Thread(target=end, daemon=True, name=f"stop-{instance_id}").start()

    def running(self, instance_id: str) -> Node | None:
        """The node of a running instance."""
        with self._lock:
            return self._nodes.get(instance_id)

    def console(self, instance_id: str) -> str:
        """What an instance's console shows."""
        root = self._state_dir / instance_id / "root"
        log, keys = root / "var/log/user-data.log", sorted(root.glob("etc/ssh/ssh_host_*_key.pub"))
        shown = [log.read_text(errors="replace")] if log.is_file() else []
        if keys:
            shown += [f"{BEGIN}\n", *(key.read_text() for key in keys), f"{END}\n"]
        return "".join(shown)

    def ids(self) -> list[str]:
        """Ids of the running instances."""
        with self._lock:
            return sorted(self._nodes)

    def close(self) -> None:
        """Ends all workers, with little time for each."""
        with self._lock:
            nodes, self._nodes = list(self._nodes.values()), {}
        threads = [threading.Thread(target=node.stop, args=(0.4,), daemon=True) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class Node:
    """One running instance."""

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
        """Is the worker's unit to be read anew before its next start?"""

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
        self._want(True)
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
        """Lets the operator in by SSH, where this computer has a server and the instance a key."""
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

    def _want(self, wanted: bool) -> None:
        """Is the worker to run?"""
        (self._wanted.set if wanted else self._wanted.clear)()
        node_commands.tell(self.home, active=wanted)

    def _run(self) -> None:
        configuration = read_configuration(self.facts.user_data)
        if configuration is None:
            return self._obey_until_end()
        note = self._note(None)
        try:
            self._serve(configuration, note)
        except Exception:  # the thread's last line: without it a failed node would just be silent
            log.exception("node %s failed", self.facts.instance_id)
            note.line("the node failed; the embedded cloud's log has the reason")
        finally:
            note.close()

    def _obey_until_end(self) -> None:
        while not self._ending.wait(node_commands.POLL_S):
            if node_commands.take(self.home) == "poweroff":
                self._ending.set()
                self.power_off()

    def _serve(self, configuration: NodeConfiguration, note: NodeLog) -> None:
        ready = self._get_ready(configuration, note)
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

    def _get_ready(self, configuration: NodeConfiguration, note: NodeLog) -> Prepared | None:
        s3 = self.client("s3")
        deadline = time.monotonic() + MANIFEST_WITHIN_S
        while time.monotonic() < deadline and not self._ending.is_set():
            pause = MANIFEST_EVERY_S
            try:
                manifest = read_manifest(s3, configuration)
                if manifest is not None:
                    return prepare(s3, configuration, manifest, self.home)
            except _passing_faults() as error:
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
        """The worker must run what was shipped; importing our own tree instead would hide a broken bundle."""
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
                self._obey(node_commands.take(self.home))
                continue
            if len(starts) == starts.maxlen and time.monotonic() - starts[0] < START_LIMIT[1]:
                note.line(f"the worker ended {START_LIMIT[0]} times within {START_LIMIT[1]:.0f} s; it stays down")
                self._want(False)
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
        """Runs the worker once; gives back its exit status."""
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
            self._obey(node_commands.take(self.home))
        reader.join(1.0)
        note.line(f"the worker ended with status {status}")
        return status

    def _obey(self, verb: str | None) -> None:
        """Commands that were run on the node (`systemctl restart aistratus-worker`, `shutdown -h now`)."""
        if verb == "poweroff":
            self._ending.set()
            self.power_off()
        elif verb == "stop":
            self._want(False)
            self._end_worker(STOP_GRACE_S)
        elif verb in ("start", "restart", "reboot"):
            self._renew = True
            self._want(True)
            if verb != "start":
                self._end_worker(STOP_GRACE_S)

    def _launched(self) -> Prepared | None:
        """The worker that the bootstrap script has installed, if it ran here."""
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
            process.kill()  # the leash dies, and by it the worker
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
        """The instance's own client; making one costs more than what it is mostly needed for."""
        return self.client("s3")

    def client(self, service: str) -> Any:
        """A client of this cloud, as the instance's role would have it."""
        from botocore.config import Config

        with _MAKING_CLIENTS:
            return _session().client(
                service,
                region_name=self.facts.region,
                aws_access_key_id=self.credentials["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=self.credentials["AWS_SECRET_ACCESS_KEY"],
                endpoint_url=self.endpoint,
                config=Config(proxies={}),
            )


@functools.cache
def _session() -> Any:
    """One for all nodes and all their attempts: a session of its own reads 3 MB of JSON before its first client."""
    import boto3

    return boto3.Session()


def _passing_faults() -> tuple[type[Exception], ...]:
    """What may be wrong while `up` still uploads: a missing or half-made artifact, a network fault."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BootstrapError, OSError, ValueError, KeyError, BotoCoreError, ClientError


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
