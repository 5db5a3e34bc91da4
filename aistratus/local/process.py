"""Starts, finds and ends the embedded cloud, for the command line.

The cloud is one detached process per state directory. It is identified by a record, `cloud.json`, that the process
writes once it answers: its pid, the creation time of that pid (a pid alone may have been reused), and its two
addresses. Its state is in memory only, so a record of a dead process means that everything in that cloud is lost; that
is reported, once.

Two commands at the same time must get the same cloud: starting and ending happen under a file lock, and the second
command finds the first one's record.

This module is imported by every command of the local env, so it imports neither moto nor boto3.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import platformdirs
import psutil

from aistratus.exclusive import Busy, exclusive
from aistratus.private import make_private

START_WITHIN_S: Final = 30.0
"""A start takes two to three seconds on two idle cores; a busy machine may need ten times that."""
STOP_WITHIN_S: Final = 5.0
"""The cloud ends its children and itself within a second of SIGTERM; after this it is killed."""
LOCK_WITHIN_S: Final = START_WITHIN_S + STOP_WITHIN_S
"""The longest that another command may rightly hold the lock: one stop and one start."""
POLL_S: Final = 0.02
"""How often a waiting command looks again; looking is one `stat` or one `open`."""
LOG_LINES: Final = 3
"""How much of the log is shown when a start fails; its path is shown too."""
SAME_PROCESS_S: Final = 1.0
"""Two readings of one process's creation time may differ by a clock tick, never by this much."""

RECORD: Final = "cloud.json"
LOG: Final = "cloud.log"
LOCK: Final = "cloud.lock"
ROOM_BYTES: Final = 1 << 16
"""With less than this left on the disk, that is why a cloud didn't start."""
MAILBOX: Final = "mail.jsonl"
OF_ITS_LIFE: Final = ("functions", "nodes")
"""Folders of what runs in a cloud: code and files that are nobody's any more when it has ended."""
STOP: Final = "aistratus local stop"


class CloudError(Exception):
    """The embedded cloud couldn't do what was asked; the text is one sentence for a person."""


class MissingExtra(CloudError):
    """The packages of the `local` extra aren't installed."""

    def __init__(self) -> None:
        super().__init__("the embedded cloud needs more packages: pip install 'aistratus[local]'")


class CloudGone(CloudError):
    """The record named a process that no longer lives. Raised once: the record is removed with it."""

    def __init__(self) -> None:
        super().__init__("the embedded cloud is not running; its state is gone; `aistratus up` builds it again")


class CloudAbsent(CloudError):
    """No cloud was started, or it was ended properly."""

    def __init__(self) -> None:
        super().__init__("the embedded cloud is not running; `aistratus up` starts it")


@dataclass(frozen=True, kw_only=True)
class Running:
    """A cloud that answers: `endpoint` is all of AWS's APIs, `gateway` is where HTTP APIs are called.

    `started` tells that this very call started it, `lost` that an earlier cloud in the same state directory had
    died and took its state with it.
    """

    endpoint: str
    gateway: str
    pid: int
    log: Path
    strict: bool = False
    started: bool = False
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Record:
    """What `cloud.json` holds. `created` is seconds since the epoch as psutil gives them for `pid`."""

    schema: int
    pid: int
    created: float
    endpoint: str
    gateway: str
    strict: bool
    started_at: float
    version: str

    def alive(self) -> bool:
        """Whether that very process still runs; a zombie or another process under its pid doesn't count."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < SAME_PROCESS_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def state_directory() -> Path:
    """`$AISTRATUS_STATE_DIR/local`, or `local` in the user's state directory."""
    root = os.environ.get("AISTRATUS_STATE_DIR")
    return (Path(root) if root else platformdirs.user_state_path("aistratus")) / "local"


def log_path(state_dir: Path | None = None) -> Path:
    """The cloud's own log; functions and workers write to log groups and to files beside it."""
    return _directory(state_dir) / LOG


def require_extra() -> None:
    """Raises MissingExtra unless the packages that the cloud needs can be found (none is imported)."""
    needed = ("moto", "flask", "flask_cors", "joserfc", "openapi_spec_validator", "docker", "starlette", "uvicorn")
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise MissingExtra()


def running(state_dir: Path | None = None) -> Running | None:
    """The cloud of this state directory if it lives; asks the system, not the network."""
    directory = _directory(state_dir)
    record = read_record(directory)
    return _as_running(directory, record) if record is not None and record.alive() else None


def require(state_dir: Path | None = None) -> Running:
    """The living cloud, for commands that can't do without what is in it.

    Raises:
        CloudGone: it died since it was started; told once, afterwards it counts as absent.
        CloudAbsent: there is none.
    """
    directory = _directory(state_dir)
    record = read_record(directory)
    if record is None:
        raise CloudAbsent()
    if record.alive():
        return _as_running(directory, record)
    with locked(directory):
        if read_record(directory) == record:
            (directory / RECORD).unlink(missing_ok=True)
    raise CloudGone()


def ensure(*, state_dir: Path | None = None, port: int = 0, strict: bool = False) -> Running:
    """The cloud of this state directory, started if it isn't there.

    Args:
        state_dir: folder of the record, the log and everything the cloud keeps on disk.
        port: port of the AWS endpoint on 127.0.0.1; 0 takes any free one.
        strict: also enforce the AWS rules that emulators forgive.

    Raises:
        MissingExtra: the `local` extra isn't installed.
        CloudError: it didn't start (with the end of its log), or one runs already on another port or without
            the strictness that is asked for.
    """
    directory = _directory(state_dir)
    found = running(directory)
    if found is None:
        require_extra()
        make_private(directory)
        with locked(directory):
            record = read_record(directory)
            if record is None or not record.alive():
                return replace(_start(directory, port, strict), lost=record is not None)
            found = _as_running(directory, record)
    if port and not found.endpoint.endswith(f":{port}"):
        raise CloudError(f"the embedded cloud runs already at {found.endpoint}; `{STOP}` makes room for port {port}")
    if strict and not found.strict:
        raise CloudError(f"the embedded cloud runs already without --strict; `{STOP}` ends it")
    return found


def stop(state_dir: Path | None = None) -> bool:
    """Ends the cloud and everything that runs in it. True if there was one to end."""
    directory = _directory(state_dir)
    if read_record(directory) is None:
        return False
    with locked(directory):
        record = read_record(directory)
        if record is None:
            return False
        was_alive = record.alive()
        if was_alive:
            _end(record)
        for name in OF_ITS_LIFE:
            shutil.rmtree(directory / name, ignore_errors=True)
        (directory / RECORD).unlink(missing_ok=True)
        return was_alive


def read_record(directory: Path) -> Record | None:
    """The record, or None where there is none that this version can read."""
    try:
        data = json.loads((directory / RECORD).read_text())
        return Record(**data) if data.get("schema") == 1 else None
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
        return None


def write_record(directory: Path, record: Record) -> None:
    """Puts the record in place in one step, so that nobody reads half of it."""
    draft = directory / f"{RECORD}.{os.getpid()}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(record), file)
    draft.replace(directory / RECORD)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the state directory's lock; the system frees it when its holder dies."""
    path = directory / LOCK
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive(path, within=LOCK_WITHIN_S))
        except Busy:
            raise CloudError(f"another command has held {path} for {LOCK_WITHIN_S:.0f} s; is it stuck?") from None
        yield


def _directory(state_dir: Path | None) -> Path:
    return (state_dir if state_dir is not None else state_directory()).absolute()


def _as_running(directory: Path, record: Record) -> Running:
    return Running(
        endpoint=record.endpoint,
        gateway=record.gateway,
        pid=record.pid,
        log=directory / LOG,
        strict=record.strict,
    )


def _start(directory: Path, port: int, strict: bool) -> Running:
    """Starts the process and waits until it has written its record. The caller holds the lock."""
    (directory / RECORD).unlink(missing_ok=True)
    command = [sys.executable, "-m", "aistratus.local", "--state-dir", str(directory), "--port", str(port)]
    log = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        child = subprocess.Popen(
            command + (["--strict"] if strict else []),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C at the terminal is for the command, not for the cloud
            cwd=directory,  # keeps no other folder busy, and puts nobody's modules on the path
            env=_environment(),
        )
    finally:
        os.close(log)
    # Reaps the child if it dies while this command still runs; a zombie would look alive to others.
    threading.Thread(target=child.wait, daemon=True, name="cloud-reaper").start()
    record = _await_record(directory, child)
    return replace(_as_running(directory, record), started=True)


def _await_record(directory: Path, child: subprocess.Popen[bytes]) -> Record:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        record = read_record(directory)
        if record is not None and record.pid == child.pid:
            return record
        if child.poll() is not None:
            raise CloudError(f"the embedded cloud ended while it started: {_last_lines(directory / LOG)}")
        time.sleep(POLL_S)
    child.kill()
    raise CloudError(f"the embedded cloud didn't answer within {START_WITHIN_S:.0f} s: {_last_lines(directory / LOG)}")


def _environment() -> dict[str, str]:
    """This command's environment without its AWS settings, which are about another cloud.

    Its own addresses are kept out of any proxy; real ones (a model's public URL) may still need it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_", "BOTO_"))}
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, [kept.get(name), "127.0.0.1", "localhost"]))
    return kept


def _last_lines(log: Path) -> str:
    if shutil.disk_usage(log.parent).free < ROOM_BYTES:  # then not even this is logged
        return f"no room is left in {log.parent}; make some"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{' / '.join(lines[-LOG_LINES:]) or 'nothing was logged'} (all of it in {log})"


def _end(record: Record) -> None:
    """SIGTERM, and SIGKILL for a process that doesn't end in time. A zombie has ended: who reaps it is its parent."""
    with contextlib.suppress(psutil.NoSuchProcess):  # it may end by itself at any moment, which is what is wanted
        psutil.Process(record.pid).terminate()
        if _gone_within(record, STOP_WITHIN_S):
            return
        psutil.Process(record.pid).kill()
        if not _gone_within(record, STOP_WITHIN_S):
            raise CloudError(f"process {record.pid} doesn't end, even when it is killed")


def _gone_within(record: Record, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while record.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
