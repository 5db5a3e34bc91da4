"""What ships is the same everywhere, complete, and free of native code."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aistratus import package
from aistratus.package import PackagingError, archive, functions_zip, router_zip, worker_zip
from aistratus.pins import VENDORED, WORKER, WORKER_ROOTS

ROOT = Path(__file__).resolve().parents[2]


def names(content: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


def test_packing_twice_gives_the_same_bytes() -> None:
    assert router_zip() == router_zip()
    assert functions_zip() == functions_zip()
    assert worker_zip() == worker_zip()


def test_the_hashes_are_of_the_content() -> None:
    made = router_zip()
    digest = hashlib.sha256(made.content).digest()
    assert (made.sha256_hex, made.sha256_base64) == (digest.hex(), base64.b64encode(digest).decode())


def test_times_permissions_and_order_tell_nothing_of_this_machine() -> None:
    entries = zipfile.ZipFile(io.BytesIO(router_zip().content)).infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert str(ROOT).encode() not in router_zip().content


@pytest.mark.parametrize("minor", [11, 12, 13])
def test_another_python_packs_the_same_bytes(minor: int) -> None:
    python = _python(minor)
    if python is None:
        pytest.skip(f"no Python 3.{minor} on this machine")
    site = Path(str(distribution("rsa").locate_file("")))
    script = "from aistratus.package import *; print(router_zip().sha256_hex, worker_zip().sha256_hex)"
    path = os.pathsep.join((str(ROOT), str(site)))
    # -S keeps that Python's own packages away; what is read here is pure Python of this environment.
    done = subprocess.run(
        [python, "-S", "-B", "-c", script], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [router_zip().sha256_hex, worker_zip().sha256_hex]


def _python(minor: int) -> str | None:
    """An interpreter of that version: this one, one on the path, or one of pyenv's."""
    if sys.version_info[:2] == (3, minor):
        return sys.executable
    pyenv = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
    found = shutil.which(f"python3.{minor}")
    candidates = [str(path) for path in pyenv] + ([found] if found else [])
    for candidate in candidates:
        done = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True
        )
        if done.stdout.strip() == str(minor):
            return candidate
    return None


def test_a_copied_install_with_bytecode_packs_the_same_bytes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "aistratus", tmp_path / "aistratus", ignore=shutil.ignore_patterns("local", "models"))
    subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path / "aistratus" / "router"], check=True)
    (tmp_path / "aistratus" / "router" / ".hidden.swp").write_text("x")
    (tmp_path / "aistratus" / "router" / "jobs.py~").write_text("x")
    turned = tmp_path / "aistratus" / "router" / "jobs.py"
    turned.write_bytes(turned.read_bytes().replace(b"\n", b"\r\n"))
    script = "import aistratus, aistratus.package as p; print(aistratus.__file__, p.router_zip().sha256_hex)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    file, digest = done.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    assert digest == router_zip().sha256_hex


def test_the_router_holds_its_code_the_contract_and_licences() -> None:
    found = set(names(router_zip().content))
    rooms = {name.split("/")[1] for name in found if name.startswith("aistratus/")}
    assert rooms == {"__init__.py", "wire", "router"}
    assert {name.split("/")[0] for name in found} == {"aistratus", "jose", "rsa", "pyasn1", "licences"}
    assert {name.split("/")[1] for name in found if name.startswith("licences/")} == set(VENDORED)
    assert "aistratus/router/handler.py" in found
    assert not [name for name in found if name.endswith(".pyc") or "test" in name or "dist-info" in name]


def test_the_router_stays_small() -> None:
    assert len(router_zip().content) <= 2_000_000


def test_the_router_imports_itself_the_contract_and_the_standard_library() -> None:
    """boto3 is Lambda's own, and imported where a node is started only."""
    late = {"boto3", "botocore"}
    with zipfile.ZipFile(io.BytesIO(router_zip().content)) as content:
        for name in content.namelist():
            if not name.startswith("aistratus/router/"):
                continue
            for module, at_top in _imports(content.read(name)):
                top = module.split(".")[0]
                if top == "aistratus":
                    assert module in ("aistratus", "aistratus.wire") or module.startswith("aistratus.router"), name
                elif top in late:
                    assert name == "aistratus/router/ec2.py" and not at_top
                elif top == "jose":
                    assert name == "aistratus/router/rsa_only.py" and not at_top
                else:
                    assert top in sys.stdlib_module_names, (name, module)


def _imports(source: bytes) -> list[tuple[str, bool]]:
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in tree.body) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node in tree.body))
    return found


def test_the_worker_holds_its_code_the_contract_and_its_requirements() -> None:
    content = worker_zip().content
    found = names(content)
    rooms = {name.split("/")[1] for name in found if name.startswith("aistratus/")}
    assert rooms == {"__init__.py", "wire", "worker"}
    assert "requirements.txt" in found


def test_the_node_takes_only_files_whose_hash_is_locked() -> None:
    text = zipfile.ZipFile(io.BytesIO(worker_zip().content)).read("requirements.txt").decode()
    versions: dict[str, str] = {}
    for entry in text.replace(" \\\n", "").splitlines():
        told, *hashes = entry.split("    --hash=")
        name, version = told.split("==")
        versions[name] = version
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in hashes), name
    assert versions == dict(WORKER)
    assert set(WORKER_ROOTS) <= versions.keys()


def test_what_the_node_installs_is_what_is_locked() -> None:
    script = ROOT / "scripts" / "lock" / "worker.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or sys.version_info[:2] != (3, 11),
    reason="the node runs Python 3.11 on Linux; what is needed, and in which version, differs elsewhere",
)
def test_the_workers_versions_are_those_of_this_environment() -> None:
    needed: dict[str, str] = {}
    waiting = [Requirement(root) for root in WORKER_ROOTS]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found = distribution(requirement.name)
        needed[key[0]] = found.version
        environments = [{"extra": extra} for extra in requirement.extras or {""}]
        for line in found.requires or ():
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate(given) for given in environments):
                waiting.append(further)
    assert dict(WORKER) == needed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x/_rust.abi3.so", b""),
        ("x/lib.so.1", b""),
        ("x/LIB.PYD", b""),
        ("x/y.dylib", b""),
        ("x/z.dll", b""),
        ("x/innocent.py", b"\x7fELF\x02"),
        ("x/innocent.bin", b"\xcf\xfa\xed\xfe"),
    ],
)
def test_native_code_is_refused_by_name_and_by_content(name: str, content: bytes) -> None:
    with pytest.raises(PackagingError, match="native code"):
        archive({"a.py": b"", name: content})


def test_a_distribution_of_another_version_is_refused() -> None:
    with pytest.raises(PackagingError, match=r"rsa 0\.0\.1, but .* is installed.*pip install rsa==0\.0\.1"):
        package._installed("rsa", "0.0.1")
    with pytest.raises(PackagingError, match="isn't installed"):
        package._installed("no-such-distribution", "1")


def test_an_altered_distribution_is_refused(tmp_path: Path) -> None:
    site = Path(str(distribution("rsa").locate_file("")))
    for entry in ("rsa", f"rsa-{VENDORED['rsa']}.dist-info"):
        shutil.copytree(site / entry, tmp_path / entry)
    with (tmp_path / "rsa" / "pkcs1.py").open("a") as file:
        file.write("\n# a back door\n")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", "from aistratus.package import router_zip; router_zip()"],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "rsa was altered after it was installed" in done.stderr
