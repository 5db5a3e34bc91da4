"""A build really deploys: scripts/buildspec.yml's commands, run in a copy of the source against the embedded cloud."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from converge_engine import REGION
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from whole_stack import Env

from aistratus.package import Package, functions_zip, router_zip, worker_zip
from aistratus.pins import VENDORED

ROOT = Path(__file__).resolve().parents[2]
BUILDSPEC = yaml.safe_load((ROOT / "scripts/buildspec.yml").read_text(encoding="utf-8"))
PHASES = ("install", "pre_build", "build", "post_build")


def commands() -> str:
    """All commands in the order in which CodeBuild runs them, as one script: a failure ends it."""
    found = [command for phase in PHASES for command in BUILDSPEC["phases"].get(phase, {}).get("commands", [])]
    return "\n".join(["set -e", *found])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkout whose router differs from ours in one line."""
    folder = tmp_path / "source"
    left_out = shutil.ignore_patterns("local", "models", "__pycache__")
    shutil.copytree(ROOT / "aistratus", folder / "aistratus", ignore=left_out)
    (folder / "scripts/lock").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/buildspec.yml", folder / "scripts")
    shutil.copy(ROOT / "scripts/lock/deploy.txt", folder / "scripts/lock")
    with (folder / "aistratus/router/limits.py").open("a") as file:
        file.write("# changed\n")
    return folder


def router_of(name: str, endpoint: str, home: Path, router: Package | None = None) -> Env:
    """An env that has just the router and what it stands on."""
    env = Env(name, endpoint=endpoint, packages=(router or router_zip(), functions_zip(), worker_zip()), home=home)
    env.stack = env.stack.only(["router_live"])
    return env


@pytest.fixture(scope="module")
def env(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Env:
    """One that is up."""
    env = router_of(f"b{secrets.token_hex(3)}", endpoint, tmp_path_factory.mktemp("operator"))
    env.up()
    return env


def build(source: Path, env: Env, endpoint: str) -> subprocess.CompletedProcess[str]:
    """Runs the build as CodeBuild would: in the checkout, with the project's variables and the role's credentials."""
    variables = {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "HOME": str(source.parent),
        "AISTRATUS_ENV": env.name,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "build",
        "AWS_SECRET_ACCESS_KEY": "build",
    }
    return subprocess.run(["bash", "-c", commands()], cwd=source, env=variables, capture_output=True, text=True)


def live(env: Env) -> tuple[str, str]:
    """The version that the alias leads to, and the digest of its code."""
    function = env.cloud.name("router")
    version = env.cloud.lambda_.get_alias(FunctionName=function, Name="live")["FunctionVersion"]
    config = env.cloud.lambda_.get_function_configuration(FunctionName=function, Qualifier=version)
    return version, config["CodeSha256"]


def packed(source: Path) -> Package:
    """The router's zip as that checkout packs it."""
    script = "import sys; from aistratus.package import router_zip; sys.stdout.buffer.write(router_zip().content)"
    done = subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, check=True)
    return Package("router.zip", done.stdout)


def test_a_build_publishes_the_checkouts_router_byte_for_byte_as_up_does(
    source: Path, env: Env, endpoint: str, tmp_path: Path
) -> None:
    first, before = live(env)
    done = build(source, env, endpoint)
    assert done.returncode == 0, done.stderr
    second, after = live(env)
    theirs = packed(source)
    assert after == theirs.sha256_base64 != before
    assert second != first
    assert f"leads to version {second} with code {after}" in done.stdout

    assert build(source, env, endpoint).returncode == 0
    assert live(env) == (second, after)

    assert router_of(env.name, endpoint, tmp_path, theirs).plan().empty


def test_a_build_with_native_code_ends_in_a_sentence_and_changes_nothing(source: Path, env: Env, endpoint: str) -> None:
    before = live(env)
    (source / "aistratus/router/fast.so").write_bytes(b"\x7fELF")
    done = build(source, env, endpoint)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "aistratus/router/fast.so is native code, which can't ship: it fits one kind of machine only"
    )
    assert live(env) == before


def test_a_build_of_an_env_that_is_not_up_ends_in_a_sentence(source: Path, endpoint: str, tmp_path: Path) -> None:
    env = router_of("nowhere", endpoint, tmp_path)
    done = build(source, env, endpoint)
    assert done.returncode == 6
    assert done.stderr == (
        f"there is no function tinyllama-{env.name}-router in {REGION}; `aistratus --env {env.name} up` builds it\n"
    )


def test_what_a_build_installs_is_what_it_needs_and_locked() -> None:
    lock = (ROOT / "scripts/lock/deploy.txt").read_text()
    whole = (ROOT / "scripts/lock/local.txt").read_text()
    blocks, known = (re.findall(r"(?m)^\S.*(?:\n    .*)*", text) for text in (lock, whole))
    assert set(blocks) <= set(known)
    needed, todo = set(VENDORED), ["boto3"]
    while todo:
        name = canonicalize_name(todo.pop())
        if name not in needed:
            needed.add(name)
            todo += [
                requirement.name
                for text in distribution(name).requires or ()
                if (requirement := Requirement(text)).marker is None or requirement.marker.evaluate({"extra": ""})
            ]
    assert {block.partition("==")[0] for block in blocks} == needed


def test_a_build_imports_no_more_than_it_installs() -> None:
    script = "import sys, aistratus.deploy; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"pydantic", "typer", "rich", "httpx", "moto", "paramiko", "psutil"}
