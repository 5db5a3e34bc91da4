"""The files of an execution environment: AWS's runtime packages and the deployed code, nothing else.

Real Lambda gives a Python function its own zip (`/var/task`), its layers (`/opt`) and `/var/runtime` with boto3
and AWS's runtime client. Here `/var/runtime` is the *lambda site*, a directory of links to just those packages
in the environment that the embedded cloud runs in; everything else that is installed there, our own package
above all, stays out of reach. The code is unpacked once for each CodeSha256.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import shutil
import threading
import uuid
import zipfile
from pathlib import Path
from typing import Final

RUNTIME_PACKAGES: Final = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
"""Present in every Python runtime of Lambda. (certifi, requests or cryptography are not.)"""

RUNTIME_CLIENT: Final = ("awslambdaric", "runtime_client", "snapshot_restore_py", "simplejson")
"""AWS's own loop and what it imports; on Linux x86-64 and arm64 wheels only."""

UNPACKED_BYTES: Final = 250 * 1024 * 1024
"""Lambda's limit for the unzipped code and all layers (Lambda quotas)."""

BOOTSTRAP: Final = "bootstrap.py"


class CodeUnusable(Exception):
    """The deployed code can't be unpacked; the text is one sentence for a person."""


def build_site(directory: Path, *, runtime_client: bool = True) -> Path:
    """Make the lambda site in `directory` (replaced when it is there) and return the bootstrap's path.

    `runtime_client=False` leaves AWS's runtime client out, as on a system that it has no wheel for.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    for name in RUNTIME_PACKAGES:
        _link(name, directory)
    if runtime_client and all(importlib.util.find_spec(name) is not None for name in RUNTIME_CLIENT):
        for name in RUNTIME_CLIENT:
            _link(name, directory)
    bootstrap = directory / BOOTSTRAP
    shutil.copyfile(Path(__file__).with_name("lambda_bootstrap.py"), bootstrap)
    return bootstrap


def _link(name: str, directory: Path) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise CodeUnusable(f"the package {name!r}, which every Lambda function may import, isn't installed")
    origin = Path(spec.origin)
    target = origin.parent if origin.name == "__init__.py" else origin
    (directory / target.name).symlink_to(target, target_is_directory=target.is_dir())


class CodeStore:
    """Unpacked code, one directory for each content, shared by all versions and environments that run it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        shutil.rmtree(directory, ignore_errors=True)  # an earlier cloud's code is nobody's any more
        directory.mkdir(parents=True, mode=0o700)

    def unpacked(self, code: bytes) -> Path:
        """The directory that holds this zip's files.

        Raises:
            CodeUnusable: it isn't a zip, or it is larger than Lambda takes.
        """
        home = self._directory / hashlib.sha256(code).hexdigest()
        with self._lock:
            if not home.exists():
                fresh = self._directory / f"unpacking-{uuid.uuid4().hex}"
                _unpack(code, fresh)
                fresh.replace(home)
        return home


def _unpack(code: bytes, target: Path) -> None:
    try:
        archive = zipfile.ZipFile(io.BytesIO(code))
    except zipfile.BadZipFile:
        raise CodeUnusable("the deployed code isn't a zip file") from None
    with archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > UNPACKED_BYTES:
            raise CodeUnusable(f"the unzipped code has {size} bytes; Lambda takes at most {UNPACKED_BYTES}")
        target.mkdir()
        for entry in archive.infolist():
            path = Path(archive.extract(entry, target))
            if not entry.is_dir():
                path.chmod(_mode(entry))


def _mode(entry: zipfile.ZipInfo) -> int:
    """The mode under which the function sees a file.

    Lambda runs functions as a user who owns nothing, so of a zip made on Unix only the bits for *others* count;
    an entry of mode 0600 (what `ZipFile.writestr` gives a plain name) fails there with "Permission denied", and
    here too, unless the embedded cloud runs as root. Nothing in the task root can be written.
    """
    mode = entry.external_attr >> 16
    if not mode & 0o777:
        return 0o444
    others = mode & 0o5
    return others << 6 | others << 3 | others
