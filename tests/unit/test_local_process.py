"""Finding a cloud by its record, without starting one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from aistratus.local import process, watch
from aistratus.local.hosts import is_from_page, is_link_to_an_action, is_own_host, is_own_origin
from aistratus.local.process import CloudGone, Record


def own_record() -> Record:
    """A record of this very process."""
    return Record(
        schema=1,
        pid=os.getpid(),
        created=psutil.Process().create_time(),
        endpoint="http://127.0.0.1:1",
        gateway="http://127.0.0.1:2",
        strict=False,
        started_at=0.0,
        version="0",
    )


def until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_importing_it_loads_no_sdk_and_no_moto() -> None:
    script = "import sys, aistratus.local.process; print([m for m in ('moto', 'boto3', 'flask') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_a_record_of_a_living_process_is_a_running_cloud(tmp_path: Path) -> None:
    process.write_record(tmp_path, own_record())
    found = process.running(tmp_path)
    assert found is not None
    assert (found.pid, found.endpoint, found.gateway) == (os.getpid(), "http://127.0.0.1:1", "http://127.0.0.1:2")


def test_a_stranger_under_a_dead_clouds_pid_is_neither_the_cloud_nor_ended(tmp_path: Path) -> None:
    process.write_record(tmp_path, replace(own_record(), created=1.0))
    assert process.running(tmp_path) is None
    assert process.stop(tmp_path) is False  # and this test still runs
    process.write_record(tmp_path, replace(own_record(), created=1.0))
    with pytest.raises(CloudGone):
        process.require(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1}'])
def test_an_unreadable_record_is_no_cloud(tmp_path: Path, text: str) -> None:
    (tmp_path / process.RECORD).write_text(text)
    assert process.running(tmp_path) is None


@pytest.mark.parametrize("text", [None, "{", '{"schema": 1}'])
def test_a_living_cloud_writes_its_lost_record_again(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / process.RECORD).write_text(text)
    ending, record = threading.Event(), own_record()
    watching = threading.Thread(target=watch.wait, args=(ending, tmp_path, record), kwargs={"every": 0.01})
    watching.start()
    try:
        until(lambda: process.read_record(tmp_path) == record)
        assert watching.is_alive()
    finally:
        ending.set()
        watching.join()


def test_nothing_is_written_while_a_command_starts_another_cloud(tmp_path: Path) -> None:
    with process.locked(tmp_path):
        assert watch.written_again(tmp_path, own_record()) is None
    assert process.read_record(tmp_path) is None


@pytest.mark.parametrize("lose", ["folder", "place"])
def test_a_cloud_that_nobody_can_find_any_more_ends(tmp_path: Path, lose: str) -> None:
    folder, record = tmp_path / "state", own_record()
    folder.mkdir()
    watching = threading.Thread(
        target=watch.wait, args=(threading.Event(), folder, record), kwargs={"every": 0.01}, daemon=True
    )
    watching.start()
    until(lambda: process.read_record(folder) == record)
    if lose == "folder":
        folder.rename(tmp_path / "elsewhere")
        folder.mkdir()
    else:
        parent = psutil.Process(os.getppid())
        process.write_record(folder, replace(record, pid=parent.pid, created=parent.create_time()))
    watching.join(timeout=30)
    assert not watching.is_alive()


def test_no_folder_is_no_cloud(tmp_path: Path) -> None:
    assert process.running(tmp_path / "none") is None
    assert process.stop(tmp_path / "none") is False


def test_the_state_directory_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AISTRATUS_STATE_DIR", str(tmp_path))
    assert process.state_directory() == tmp_path / "local"
    assert process.log_path() == tmp_path / "local" / "cloud.log"


def test_the_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from aistratus.local import process\n"
        "with process.locked(Path(sys.argv[1])): print('in', flush=True); sys.stdin.readline()\nprint('out')"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == "in\n"
    first.kill()  # a holder that dies frees it
    first.wait()
    with process.locked(tmp_path):
        assert (tmp_path / process.LOCK).exists()
    first.stdin.close()
    first.stdout.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "localhost:4566", "LOCALHOST", "bucket.localhost:1"])
def test_names_of_this_machine_are_served(host: str) -> None:
    assert is_own_host(host)
    assert is_own_origin(f"http://{host}")


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "localhost.evil:80",
        "0.0.0.0",
        "[::1]:80",
        "sts.amazonaws.com",
    ],
)
def test_other_names_are_not(host: str | None) -> None:
    assert not is_own_host(host)


def test_only_programs_send_no_origin() -> None:
    assert is_own_origin(None)
    assert not is_own_origin("null")
    assert not is_own_origin("https://evil.example")


@pytest.mark.parametrize(
    ("origin", "site", "from_page"),
    [
        (None, None, False),
        (None, "none", False),
        (None, "same-origin", False),
        (None, "same-site", True),
        (None, "cross-site", True),
        (None, "anything", True),
        ("http://localhost:3000", "cross-site", False),
        ("https://evil.example", None, True),
        ("https://evil.example", "same-origin", True),
    ],
)
def test_what_a_page_from_elsewhere_sends_is_known(origin: str | None, site: str | None, from_page: bool) -> None:
    assert is_from_page(origin, site) == from_page


@pytest.mark.parametrize(
    ("method", "query", "authorization", "link"),
    [
        ("GET", "Action=CreateUser", "", True),
        ("HEAD", "a=b&Action=", "", True),
        ("GET", "Action=CreateUser&X-Amz-Signature=0", "", True),
        ("GET", "Action=CreateUser", "AWS4-HMAC-SHA256 Credential=…", False),
        ("POST", "Action=CreateUser", "", False),
        ("GET", "list-type=2", "", False),
    ],
)
def test_an_address_that_names_an_operation_is_known(method: str, query: str, authorization: str, link: bool) -> None:
    assert is_link_to_an_action(method, query, authorization) == link
