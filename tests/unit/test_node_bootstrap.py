"""The node's first script, run by a real bash: its paths lead into a folder, and what only an instance has (systemd,
dnf, the metadata, the AWS command line) are small programs that do the least of it and write down that they were asked.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aistratus import wire
from aistratus.node.bootstrap import Model, manifest, user_data

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("bash", "sha256sum")), reason="the script is for Amazon Linux"
)

MODEL = b"a small model"
SHA256 = hashlib.sha256(MODEL).hexdigest()

PROGRAMS = {
    "logger": "cat >/dev/null",
    "id": "[[ -e $ROOT/user ]]",
    "useradd": 'touch "$ROOT/user"',
    "dnf": """
        [[ $* != *cloudwatch* ]] || { agent=$ROOT/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl
        mkdir -p "${agent%/*}"; printf '#!/bin/bash\\necho "agent $*" >>"$ROOT/asked"' >"$agent"; chmod +x "$agent"; }
    """,
    "nvidia-smi": "[[ -e $ROOT/driver ]]",
    "ldconfig": "[[ ! -e $ROOT/driver ]] || echo libcublas.so.12",
    "nvidia-modprobe": "",
    "modprobe": 'touch "$ROOT/driver"',
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
    "df": """
        echo Avail; cat "$ROOT/free" 2>/dev/null || echo 9000000000
    """,
    "aws": """
        [[ $1 == s3 ]] || { stat --format=%s "$ROOT/bucket/$6"; exit; }
        from=$4 to=$5 bucket=s3://bucket
        [[ $from != $bucket* ]] || from=$ROOT/bucket${from#$bucket}
        [[ $to != $bucket* ]] || to=$ROOT/bucket${to#$bucket}
        mkdir -p "${to%/*}"; cp "$from" "$to"
    """,
    "curl": """
        url=${@: -1} head=; while (($#)); do [[ $1 != --output ]] || out=$2; [[ $1 != --head ]] || head=1; shift; done
        [[ -z $head ]] || { echo "Content-Length: $(stat --format=%s "$ROOT/public-model")"; exit; }
        case $url in
          */api/token) echo token;;
          */instance-id) echo i-1;;
          */instance-type) cat "$ROOT/type";;
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

    def run(self, script: Path, *arguments: str, heard: list[str] | None = None) -> tuple[int, list[str]]:
        """Exit status, and what was asked of the machine's programs; `heard` gets what was said."""
        asked = self.root / "asked"
        asked.write_text("")
        environment = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "ROOT": str(self.root),
            "NODE_ROOT": str(self.root),
            "PYTHON": sys.executable,
        }
        done = subprocess.run(["bash", script, *arguments], env=environment, check=False, capture_output=True)
        if heard is not None:
            heard += done.stdout.decode().splitlines()
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
    (tmp_path / "user-data").write_text(text)
    (tmp_path / "public-model").write_bytes(MODEL)
    (tmp_path / "type").write_text("t3.small")
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

    heard: list[str] = []
    status, asked = machine.run(machine.root / "user-data", "launch", heard=heard)
    assert (status, set(steps(heard).values())) == (0, {"kept"}), "a launch right after a boot changes nothing"


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


@pytest.mark.parametrize("in_bucket", [False, True])
def test_a_model_for_which_the_volume_has_no_room_is_not_fetched(machine: Machine, in_bucket: bool) -> None:
    machine.run(machine.root / "user-data")
    if in_bucket:
        machine.put(f"models/{SHA256}.gguf", MODEL)
    (machine.root / "free").write_text(str((256 << 20) + len(MODEL) - 1))
    heard: list[str] = []
    status, asked = machine.run(machine.root / "user-data", "launch", heard=heard)
    assert status != 0
    assert "set node.volume_gib to more, run `aistratus up`, and stop and start the node" in heard[-1]
    fetching = "aws s3 cp" if in_bucket else "--continue-at"
    assert not [line for line in asked if "gguf" in line and fetching in line]
    (machine.root / "free").unlink()
    assert machine.boot()[0] == 0


def steps(heard: list[str]) -> dict[str, str]:
    """What each step did; how long it took stands behind."""
    told = [line.split() for line in heard if line.startswith("step ")]
    assert all(milliseconds.isdigit() for *_, milliseconds in told)
    return {name: verdict for _, name, verdict, _ in told}


def test_a_launch_tells_its_steps_and_the_second_one_changes_and_restarts_nothing(machine: Machine) -> None:
    """Also where cloud-init never ran."""
    heard: list[str] = []
    status, asked = machine.run(machine.root / "user-data", "launch", heard=heard)
    assert status == 0, heard
    assert steps(heard) == dict.fromkeys(("system", "worker", "model", "service", "log"), "changed")
    assert "systemctl enable --quiet aistratus-node.service" in asked
    assert heard[-1] == "node ready" == machine.read("var/log/user-data.log").splitlines()[-1]
    groups = json.loads(machine.read("opt/aistratus/log-agent.json"))["logs"]["logs_collected"]["files"]["collect_list"]
    assert [one["log_stream_name"] for one in groups] == ["i-1", "i-1/bootstrap"]

    files = {path: path.stat().st_mtime_ns for path in (machine.root / "opt").rglob("*") if path.is_file()}
    heard.clear()
    status, asked = machine.run(machine.root / "user-data", "launch", heard=heard)
    assert status == 0
    assert set(steps(heard).values()) == {"kept"}
    assert [line for line in asked if line.startswith(("systemctl", "dnf", "pip", "agent", "useradd"))] == [
        "systemctl is-active --quiet aistratus-worker.service"
    ]
    now = {path: path.stat().st_mtime_ns for path in (machine.root / "opt").rglob("*") if path.is_file()}
    assert {path.name for path in now if now[path] != files.get(path)} == {"manifest.json", "lock"}


def test_a_run_that_is_cut_off_before_the_restart_leaves_it_to_the_next(machine: Machine) -> None:
    machine.run(machine.root / "user-data", "launch")
    (machine.root / "opt/aistratus/running").unlink()
    _, asked = machine.run(machine.root / "user-data", "launch")
    assert "systemctl restart aistratus-worker.service" in asked


def test_what_a_gpu_needs_is_installed_once_and_on_a_machine_with_one_only(machine: Machine) -> None:
    (machine.root / "type").write_text("g4dn.xlarge")
    heard: list[str] = []
    _, asked = machine.run(machine.root / "user-data", "launch", heard=heard)
    assert steps(heard)["gpu"] == "changed"
    assert [line for line in asked if "nvidia-driver-cuda" in line and "libcublas-12" in line]
    assert "WORKER_GPU_LAYERS=1000" in machine.read("opt/aistratus/worker.env")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert machine.read("opt/aistratus/gpu") == f"{boot} usable\n"
    heard.clear()
    _, asked = machine.run(machine.root / "user-data", "launch", heard=heard)
    assert steps(heard)["gpu"] == "kept" and not [line for line in asked if line.startswith("dnf")]
    assert "nvidia-modprobe -u -c=0" in asked  # a boot forgets the device

    (machine.root / "driver").unlink()
    (machine.root / "bin/modprobe").write_text("#!/bin/sh\nexit 1\n")  # the driver was built, and doesn't start
    heard.clear()
    machine.run(machine.root / "user-data", "launch", heard=heard)
    assert "the GPU can't be used; the model runs on the processor" in heard
    assert machine.read("opt/aistratus/gpu") == f"{boot} unusable\n"

    (machine.root / "type").write_text("t3.small")
    heard.clear()
    machine.run(machine.root / "user-data", "launch", heard=heard)
    assert "gpu" not in steps(heard)
    assert "WORKER_GPU_LAYERS=0" in machine.read("opt/aistratus/worker.env")


@pytest.mark.parametrize(("status", "off"), [(wire.POWER_OFF, True), (1, False), (0, False)])
def test_a_worker_that_asks_for_it_switches_the_machine_off(machine: Machine, status: int, off: bool) -> None:
    """systemd's part is to run this line as root (`+`) with the worker's status, and not to start that again."""
    machine.run(machine.root / "user-data", "launch")
    unit = machine.read("etc/systemd/system/aistratus-worker.service")
    assert f"RestartPreventExitStatus={wire.POWER_OFF}\n" in unit
    (line,) = re.findall(r"^ExecStopPost=\+(.*)$", unit, re.M)
    (machine.root / "asked").write_text("")
    environment = {"PATH": f"{machine.root}/bin:{os.environ['PATH']}", "ROOT": str(machine.root)}
    command = shlex.split(line.replace("$$", "$"))  # systemd's way to write one
    subprocess.run(command, env=environment | {"EXIT_STATUS": str(status)}, check=True)
    assert (machine.read("asked") == "systemctl --no-block poweroff\n") is off


def test_two_runs_at_once_are_one_after_the_other(machine: Machine) -> None:
    lock = machine.root / "opt/aistratus/lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file, ThreadPoolExecutor(1) as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        heard: list[str] = []
        run = pool.submit(machine.run, machine.root / "user-data", "launch", heard=heard)
        log = machine.root / "var/log/user-data.log"
        while not (log.exists() and "another run is under way" in log.read_text()) and not run.done():
            time.sleep(0.01)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert run.result()[0] == 0
    assert "another run is under way; waiting for its end" in heard
