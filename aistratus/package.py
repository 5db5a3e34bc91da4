"""Packages the code that ships: the router's zip, the small functions' zip, and the worker's bundle.

All are reproducible byte for byte: the same code has the same SHA-256 on every machine, Python version and kind of
install, so that a difference in `CodeSha256` always means different code. Files are stored uncompressed, because zlib's
output differs between its builds; names are sorted, times and permissions fixed, bytecode is left out.

Native code is refused: the function runs on Arm whatever machine packaged it, and a stray `.so` would fail only there.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path, PurePosixPath
from typing import Final

from aistratus.core.errors import Failure
from aistratus.pins import VENDORED

ROUTER_BYTES: Final = 2_000_000
"""The router's zip stays below this: Lambda loads it before a cold start begins."""

NATIVE: Final = frozenset({".so", ".pyd", ".dylib", ".dll", ".a", ".o"})

_OWN_ROOT: Final = Path(__file__).resolve().parent
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""
_PERMISSIONS: Final = 0o100644 << 16
_UNIX: Final = 3
_LICENCES: Final = ("licen", "copying", "notice")


class PackagingError(Failure):
    """A package can't be built as it must be."""

    kind = "packaging"


@dataclass(frozen=True)
class Package:
    """A zip, ready to upload."""

    name: str
    content: bytes

    @cached_property
    def sha256_hex(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def sha256_base64(self) -> str:
        """As Lambda tells it in `CodeSha256`."""
        return base64.b64encode(hashlib.sha256(self.content).digest()).decode()


def router_zip() -> Package:
    """The router: its own code, the wire contract, python-jose's RSA part.

    Raises:
        PackagingError: a vendored distribution is missing, has another version, was altered, or holds native code.
    """
    files = {**_own_files("router"), **_vendored()}
    content = archive(files)
    if len(content) > ROUTER_BYTES:
        raise PackagingError(f"router.zip has {len(content)} bytes, more than {ROUTER_BYTES}")
    return Package("router.zip", content)


def functions_zip() -> Package:
    """The functions besides the router: their own code, the wire contract, meter, forecast; the runtime has boto3."""
    shared = ("costs/__init__.py", "costs/forecast.py", "costs/meter.py", "costs/spans.py")
    meter = {f"aistratus/{name}": _own_content(_OWN_ROOT / name) for name in shared}
    return Package("functions.zip", archive({**_own_files("functions"), **meter}))


def worker_zip() -> Package:
    """The worker's bundle: its own code, the wire contract and what the node installs, each file by its hash."""
    requirements = _own_content(_OWN_ROOT / "node" / "requirements.txt")
    return Package("worker.zip", archive({**_own_files("worker"), "requirements.txt": requirements}))


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip of these files, the same bytes for the same files.

    Raises:
        PackagingError: one of them is native code.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(files):
            if is_native(name, files[name]):
                raise PackagingError(f"{name} is native code, which can't ship: it fits one kind of machine only")
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.create_system = _UNIX
            entry.external_attr = _PERMISSIONS
            target.writestr(entry, files[name])
    return buffer.getvalue()


def is_native(name: str, content: bytes) -> bool:
    """Whether a file is code for one kind of machine, by its name (also `x.so.1`) or by its first bytes."""
    suffixes = {suffix.lower() for suffix in PurePosixPath(name).suffixes}
    magics = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"!<arch>\n")
    return bool(suffixes & NATIVE) or content.startswith(magics)


def _own_files(room: str) -> dict[str, bytes]:
    """The package's `__init__`, the wire contract and one room, under `aistratus/`."""
    paths = [_OWN_ROOT / "__init__.py", *(_OWN_ROOT / "wire").rglob("*"), *(_OWN_ROOT / room).rglob("*")]
    return {
        f"aistratus/{path.relative_to(_OWN_ROOT).as_posix()}": _own_content(path) for path in paths if _is_ours(path)
    }


def _is_ours(path: Path) -> bool:
    """Not bytecode, and nothing hidden: what an editor or a tool left beside the code."""
    parts = path.relative_to(_OWN_ROOT).parts
    hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
    return path.is_file() and not hidden and path.suffix != ".pyc" and not path.name.endswith("~")


def _own_content(path: Path) -> bytes:
    """A checkout on Windows may have turned line ends."""
    content = path.read_bytes()
    return content.replace(b"\r\n", b"\n") if path.suffix in (".py", ".json", ".txt") else content


def _vendored() -> dict[str, bytes]:
    """The code and licences of all vendored distributions, code at the zip's root as Python finds it there."""
    files: dict[str, bytes] = {}
    for name, version in VENDORED.items():
        for path, target in _shipped(_installed(name, version)):
            files[target] = _content(name, path)
    return files


def _installed(name: str, version: str) -> Distribution:
    todo = f"install it with: pip install {name}=={version}"
    try:
        found = distribution(name)
    except PackageNotFoundError as error:
        raise PackagingError(f"the router ships {name} {version}, which isn't installed", todo=todo) from error
    if found.version != version:
        raise PackagingError(f"the router ships {name} {version}, but {found.version} is installed", todo=todo)
    return found


def _shipped(found: Distribution) -> Iterator[tuple[PackagePath, str]]:
    """The files of a distribution that ship, and where they go: code, and its licence under `licences/`."""
    name = found.metadata["Name"].lower()
    for path in found.files or ():
        top = path.parts[0]
        if top.endswith((".dist-info", ".egg-info")):
            if path.name.lower().startswith(_LICENCES):
                yield path, f"licences/{name}/{path.name}"
        elif path.suffix == ".pyc" or top in ("..", "bin", "Scripts"):
            continue
        elif not any(part in ("test", "tests") or part.startswith("test_") for part in path.parts):
            yield path, path.as_posix()


def _content(name: str, path: PackagePath) -> bytes:
    """The bytes of an installed file, as they were published: its record holds their SHA-256."""
    try:
        content = Path(str(path.locate())).read_bytes()
    except OSError as error:
        raise PackagingError(f"{name} is damaged: {path} can't be read", todo=f"reinstall {name}") from error
    if path.hash is not None and path.hash.mode == "sha256":
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        if digest != path.hash.value:
            raise PackagingError(f"{name} was altered after it was installed: {path}", todo=f"reinstall {name}")
    return content
