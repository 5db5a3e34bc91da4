"""The builder of images: its first boot, and what it does with Docker, without it, and with an image that is there."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from aistratus.node.build import IMAGE, NO_DOCKER, script, user_data

NAME = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/tinyllama-t-builder:0123"

DOCKER = """#!/bin/bash
echo "docker $*" >>"$ROOT/asked"
case $1 in
  info) [[ -e $ROOT/daemon ]] || { echo "Cannot connect to the Docker daemon" >&2; exit 1; } ;;
  manifest) [[ -e $ROOT/pushed ]] ;;
  login) [[ $(cat) == password ]] ;;
  build) [[ -f context/aistratus/x.py && -f Dockerfile ]] ;;
  push) touch "$ROOT/pushed" ;;
esac
"""


@pytest.fixture
def builder(tmp_path: Path) -> Path:
    """A builder in a folder."""
    for folder in ("bin", "work", "var/log"):
        (tmp_path / folder).mkdir(parents=True)
    for name, text in {"docker": DOCKER, "aws": "#!/bin/sh\necho password\n", "cloud-init": "#!/bin/sh\n"}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("aistratus/x.py", "")
    (tmp_path / "work/worker.zip").write_bytes(bundle.getvalue())
    (tmp_path / "work/Dockerfile").write_text("FROM scratch")
    return tmp_path


def run(builder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{builder}/bin:{os.environ['PATH']}", "ROOT": str(builder), "NODE_ROOT": str(builder)}
    text = script("/work", NAME, "eu-central-1")
    return subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=False)


def asked(builder: Path) -> list[str]:
    return [line.split()[1] for line in (builder / "asked").read_text().splitlines()]


def test_an_image_is_built_and_pushed_once_for_each_worker(builder: Path) -> None:
    (builder / "daemon").touch()
    done = run(builder)
    assert (done.returncode, IMAGE.findall(done.stdout)) == (0, [NAME]), done.stdout
    assert asked(builder) == ["info", "login", "manifest", "build", "push"]
    assert done.stdout == (builder / "var/log/build.log").read_text()
    (builder / "asked").unlink()
    assert IMAGE.findall(run(builder).stdout) == [NAME]
    assert asked(builder) == ["info", "login", "manifest"]


def test_without_docker_nothing_pretends_that_an_image_was_built(builder: Path) -> None:
    done = run(builder)
    assert done.returncode == NO_DOCKER
    assert done.stdout == "there is no Docker on this machine: Cannot connect to the Docker daemon\n"
    assert asked(builder) == ["info"]


def test_a_builder_ends_by_itself_whatever_comes_after() -> None:
    text = user_data(region="eu-central-1", log_group="/tinyllama/t/build-runner")
    commands = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    ends = next(number for number, line in enumerate(commands) if line.startswith("shutdown -h +50"))
    assert ends < next(number for number, line in enumerate(commands) if "dnf" in line)
    subprocess.run(["bash", "-n", "-c", text], check=True)
    with pytest.raises(ValueError, match="BUILDER_REGION"):
        user_data(region="x'; rm", log_group="/g")
