"""The parts of a local node: its configuration, what it downloads, its commands, and the leash of its processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from aistratus.local import leash, node_commands
from aistratus.local.node_bootstrap import BootstrapError, NodeConfiguration, fetch, read_configuration, unpack

SCRIPT = """#!/bin/bash
set -euo pipefail
# --- configuration
NODE_BUCKET='a-bucket'
export NODE_MANIFEST_KEY="node/manifest.json"   # a comment
NODE_REGION=eu-central-1
# --- end of configuration
NODE_BUCKET=another
"""


def test_the_configuration_is_read_between_its_marks() -> None:
    assert read_configuration(SCRIPT) == NodeConfiguration(
        bucket="a-bucket", manifest_key="node/manifest.json", region="eu-central-1"
    )


@pytest.mark.parametrize(
    "text",
    ["", "#!/bin/sh\necho", SCRIPT.replace("NODE_REGION", "OTHER"), SCRIPT.replace("# --- end of configuration", "")],
)
def test_an_instance_without_configuration_is_no_node(text: str) -> None:
    assert read_configuration(text) is None


class Bucket:
    """S3 as far as a download needs it: one object, handed out in chunks."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, 0

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, object]:
        self.asked += 1
        return {"Body": Body(self.content)}


class Body(io.BytesIO):
    def iter_chunks(self, size: int) -> object:
        return iter(lambda: self.read(size), b"")


CONTENT = b"content"
DIGEST = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    bucket = Bucket(CONTENT)
    for _ in range(2):
        fetch(bucket, "b", "k", None, DIGEST, tmp_path / "sub" / "file")
    assert (tmp_path / "sub" / "file").read_bytes() == CONTENT
    assert bucket.asked == 1


def test_a_file_with_another_digest_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(BootstrapError, match="the manifest says"):
        fetch(Bucket(b"other"), "b", "k", None, DIGEST, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", [None, "file:///etc/passwd", "ftp://host/x"])
def test_a_model_comes_from_a_bucket_or_over_http(tmp_path: Path, url: str | None) -> None:
    with pytest.raises(BootstrapError, match="neither a key nor a URL"):
        fetch(Bucket(b""), "b", None, url, DIGEST, tmp_path / "file")


def test_a_bundle_with_names_that_lead_out_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("../../outside", "x")
    with pytest.raises(BootstrapError, match="unsafe name"):
        unpack(archive, tmp_path / "code")
    assert not (tmp_path / "code").exists()


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        ("sudo systemctl restart aistratus-worker.service", "restart"),
        ("systemctl stop aistratus-worker", "stop"),
        ("sudo -u root shutdown -h now", "poweroff"),
        ("sudo systemctl poweroff", "poweroff"),
        ("reboot", "reboot"),
        ("systemctl status aistratus-worker", None),
        ("systemctl restart sshd || true", None),
    ],
)
def test_system_commands_reach_the_node_and_not_this_machine(tmp_path: Path, line: str, verb: str | None) -> None:
    node_commands.install(tmp_path, tmp_path / "worker.log")
    path = os.pathsep.join([str(node_commands.folder(tmp_path)), os.defpath])
    subprocess.run(["/bin/sh", "-c", line], env={"PATH": path}, check=True)
    assert node_commands.take(tmp_path) == verb
    assert node_commands.take(tmp_path) is None


def leashed(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", leash.__file__, "0.2", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import sys; sys.exit(64)", 64),
        ("import os; os.kill(os.getpid(), 9)", 137),
    ],
)
def test_a_leash_tells_how_its_command_ended(code: str, status: int) -> None:
    process = leashed(sys.executable, "-c", code)
    assert process.wait(20) == status


STUBBORN = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "import os; print(os.getpid(), child.pid, flush=True); time.sleep(600)"
)


@pytest.mark.parametrize("how", ["closed", "killed", "terminated"])
def test_a_command_and_what_it_started_end_with_the_leash(how: str) -> None:
    process = leashed(sys.executable, "-c", STUBBORN)
    assert process.stdout is not None
    assert process.stdin is not None
    command, child = (psutil.Process(int(pid)) for pid in process.stdout.readline().split())
    if how == "closed":
        process.stdin.close()
    elif how == "terminated":
        process.terminate()
    else:
        process.kill()
    process.wait(20)
    assert ended(command)
    # A leash that is killed can only take its own command along (PR_SET_PDEATHSIG, Linux).
    assert how == "killed" or ended(child)
    if not ended(child, within_s=0.0):
        child.kill()


def ended(process: psutil.Process, within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)  # looks again; capped above
    return True
