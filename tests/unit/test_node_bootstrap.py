"""The node's first script, run by a real bash: its paths lead into a folder, and what only an instance has (systemd,
dnf, the metadata, the AWS command line) are small programs that do the least of it and write down that they were asked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aistratus.node.bootstrap import Model, manifest, user_data

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("bash", "sha256sum")), reason="the script is for Amazon Linux"
)

MODEL = b"a small model"
SHA256 = hashlib.sha256(MODEL).hexdigest()

PROGRAMS = {
    "logger": "cat >/dev/null",
    "id": "exit 1",
    "useradd": "",
    "dnf": "",
    "install": """
        given=(); while (($#)); do case $1 in -o|-g) shift 2;; *) given+=("$1"); shift;; esac; done
        PATH=/usr/bin:/bin exec install "${given[@]}"
    """,
    "systemctl": """
        case $1 in
          is-active) [[ -e $ROOT/active ]];;
          restart) [[ $2 != *worker* ]] || touch "$ROOT/active";;
        esac
    """,
    "python3.11": """
        [[ $2 == venv ]] || exec "$PYTHON" -S "$@"
        mkdir -p "$3/bin"; echo '#!/bin/sh
        echo "pip $*" >>"$ROOT/asked"' >"$3/bin/pip"; chmod +x "$3/bin/pip"
    """,
    "aws": """
        from=$4 to=$5 bucket=s3://bucket
        [[ $from != $bucket* ]] || from=$ROOT/bucket${from#$bucket}
        [[ $to != $bucket* ]] || to=$ROOT/bucket${to#$bucket}
        mkdir -p "${to%/*}"; cp "$from" "$to"
    """,
    "curl": """
        url=${@: -1}; while (($#)); do [[ $1 != --output ]] || out=$2; shift; done
        case $url in
          */api/token) echo token;;
          */instance-id) echo i-1;;
          */user-data) cp "$ROOT/user-data" "$out";;
          *) cp "$ROOT/public-model" "$out";;
        esac
    """,
}


@dataclass(frozen=True)
class Machine:
    """An instance in a folder."""

    root: Path

    def bundle(self, text: str) -> str:
        """Puts a bundle into the bucket and names it in the manifest; gives its hash."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("requirements.txt", "")
            archive.writestr("aistratus/worker/__init__.py", text)
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        self.put(f"node/{digest}.zip", content.getvalue())
        model = Model(name="small", sha256=SHA256, context_tokens=64, url="https://models.example/small.gguf")
        environment: dict[str, Any] = {"WORKER_QUEUE_URL": "https://queue", "WORKER_LOG_GROUP": "/the/group"}
        told = manifest(bundle_key=f"node/{digest}.zip", bundle_sha256=digest, model=model, environment=environment)
        self.put("node/manifest.json", json.dumps(told).encode())
        return digest

    def put(self, key: str, content: bytes) -> None:
        target = self.root / "bucket" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def run(self, script: Path, *arguments: str) -> tuple[int, list[str]]:
        """Exit status, and what was asked of the machine's programs."""
        asked = self.root / "asked"
        asked.write_text("")
        environment = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "ROOT": str(self.root),
            "PYTHON": sys.executable,
        }
        done = subprocess.run(["bash", script, *arguments], env=environment, check=False, capture_output=True)
        return done.returncode, asked.read_text().splitlines()

    def boot(self) -> tuple[int, list[str]]:
        """What systemd does at each boot."""
        return self.run(self.root / "opt/aistratus/boot")

    def read(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine after cloud-init has run the user data, once."""
    (tmp_path / "bin").mkdir()
    for name, body in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >>"$ROOT/asked"\n{body}\n')
        program.chmod(0o755)
    for folder in ("etc/systemd/system", "etc/logrotate.d", "var/log", "var/lib"):
        (tmp_path / folder).mkdir(parents=True)
    text = user_data(bucket="bucket", region="eu-central-1").replace("/dev/console", "/dev/null")
    (tmp_path / "user-data").write_text(re.sub(r"/(opt|var|etc)/", rf"{tmp_path}/\1/", text))
    (tmp_path / "public-model").write_bytes(MODEL)
    machine = Machine(tmp_path)
    machine.bundle("first")
    return machine


def test_cloud_inits_only_run_leaves_a_service_that_runs_at_every_boot(machine: Machine) -> None:
    status, asked = machine.run(machine.root / "user-data")

    assert status == 0
    assert [line for line in asked if not line.startswith(("logger", "install"))] == [
        "systemctl daemon-reload",
        "systemctl enable --quiet aistratus-node.service",
        "systemctl start --no-block aistratus-node.service",
    ]
    assert f"ExecStart={machine.root}/opt/aistratus/boot" in machine.read("etc/systemd/system/aistratus-node.service")


def test_a_boot_starts_the_worker_of_the_manifest_and_the_next_one_leaves_it_alone(machine: Machine) -> None:
    machine.run(machine.root / "user-data")

    status, asked = machine.boot()
    assert status == 0
    assert "systemctl restart aistratus-worker.service" in asked
    (installed,) = (line for line in asked if line.startswith("pip install"))
    assert "--require-hashes --only-binary :all:" in installed  # what was altered, or would run code, isn't installed
    worker = machine.read("opt/aistratus/worker.env").splitlines()
    assert {"WORKER_QUEUE_URL=https://queue", "WORKER_INSTANCE_ID=i-1", f"WORKER_MODEL_SHA256={SHA256}"} <= set(worker)
    assert (machine.root / f"bucket/models/{SHA256}.gguf").read_bytes() == MODEL  # so that it is fetched once

    status, asked = machine.boot()
    assert status == 0
    assert not [line for line in asked if "worker.service" in line and "is-active" not in line]
    assert not [line for line in asked if ".zip" in line or ".gguf" in line]


def test_a_new_manifest_is_in_force_after_the_next_boot(machine: Machine) -> None:
    machine.run(machine.root / "user-data")
    machine.boot()
    second = machine.bundle("second")

    status, asked = machine.boot()

    assert status == 0
    assert "systemctl restart aistratus-worker.service" in asked
    assert [folder.name for folder in (machine.root / "opt/aistratus/releases").iterdir()] == [second]
    unit = machine.read("etc/systemd/system/aistratus-worker.service")
    assert f"PYTHONPATH={machine.root}/opt/aistratus/releases/{second}" in unit


def test_a_model_that_was_fetched_whole_before_a_crash_is_not_asked_for_again(machine: Machine) -> None:
    machine.run(machine.root / "user-data")
    models = machine.root / "opt/aistratus/models"
    models.mkdir()
    (models / f"{SHA256}.gguf.download").write_bytes(MODEL)

    status, asked = machine.boot()

    assert status == 0
    assert not [line for line in asked if "models.example" in line]


def test_a_model_that_is_not_the_named_one_fails_the_boot_so_that_it_is_tried_again(machine: Machine) -> None:
    machine.run(machine.root / "user-data")
    (machine.root / "public-model").write_bytes(b"something else")

    status, asked = machine.boot()

    assert status != 0
    assert not [line for line in asked if "worker.service" in line]
    assert not list((machine.root / "opt/aistratus/models").iterdir())
    (machine.root / "public-model").write_bytes(MODEL)
    assert machine.boot()[0] == 0
