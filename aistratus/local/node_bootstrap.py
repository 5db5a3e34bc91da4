"""Prepares an instance before its worker runs: reads its configuration, fetches bundle and model, checks them.

The inputs are the bootstrap script's: user data with shell assignments between two marker lines, and a manifest in the
artifact bucket that names bundle and model by SHA-256. The assignments are parsed without running the script, because
the rest of it prepares an operating system (packages, a service unit, users).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import shutil
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from aistratus.models import DEMO, demo_model

log = logging.getLogger(__name__)

CONFIGURATION: Final = "# --- configuration"
END_OF_CONFIGURATION: Final = "# --- end of configuration"
CHUNK: Final = 1 << 20
URL_TIMEOUT_S: Final = 60
"""Silence that a download from the model's public URL may have; not its whole time."""


class BootstrapError(Exception):
    """The node can't get ready; the text is one sentence for the node's log."""


@dataclass(frozen=True, kw_only=True)
class NodeConfiguration:
    """The three assignments at the head of the user data."""

    bucket: str
    manifest_key: str
    region: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A node that is ready to run its worker: where the code is, and what the worker's environment adds."""

    bundle: Path
    environment: dict[str, str]


def read_configuration(user_data: str) -> NodeConfiguration | None:
    """The configuration in a bootstrap script, or None for an instance that is no node of ours."""
    lines = [line.strip() for line in user_data.splitlines()]
    if CONFIGURATION not in lines or END_OF_CONFIGURATION not in lines:
        return None
    head = lines[lines.index(CONFIGURATION) + 1 : lines.index(END_OF_CONFIGURATION)]
    values: dict[str, str] = {}
    for line in head:
        name, found, value = line.removeprefix("export ").partition("=")
        if found and name.isidentifier():
            values[name] = "".join(shlex.split(value, comments=True))
    try:
        return NodeConfiguration(
            bucket=values["NODE_BUCKET"], manifest_key=values["NODE_MANIFEST_KEY"], region=values["NODE_REGION"]
        )
    except KeyError:
        return None


def read_manifest(s3: Any, configuration: NodeConfiguration) -> dict[str, Any] | None:
    """The manifest, or None while it isn't there yet (neither bucket nor key has to exist before the instance)."""
    from botocore.exceptions import ClientError

    try:
        answer = s3.get_object(Bucket=configuration.bucket, Key=configuration.manifest_key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchBucket", "NoSuchKey", "404"):
            return None
        raise
    manifest: dict[str, Any] = json.loads(answer["Body"].read())
    if manifest.get("schema") != 1:
        raise BootstrapError(f"the manifest's schema is {manifest.get('schema')!r}, this node knows 1")
    return manifest


def prepare(s3: Any, configuration: NodeConfiguration, manifest: dict[str, Any], home: Path) -> Prepared:
    """Fetches what the manifest names into `home`, unless it is there already, and checks it.

    Raises:
        BootstrapError: a digest differs, an archive is unsafe, or a download failed.
    """
    bundle, model = manifest["bundle"], _within_reach(manifest["model"])
    archive = home / "downloads" / f"{bundle['sha256']}.zip"
    fetch(s3, configuration.bucket, bundle["key"], None, bundle["sha256"], archive)
    code = home / "bundle" / str(bundle["sha256"])
    if not code.is_dir():
        unpack(archive, code)
    model_file = home / "models" / str(model["sha256"]) / Path(model["file"]).name
    if model.get("packaged"):
        model_file = demo_model()
    else:
        fetch(s3, configuration.bucket, model.get("key"), model.get("url"), model["sha256"], model_file)
    environment = {name: str(value) for name, value in manifest.get("environment", {}).items()}
    environment |= {
        "WORKER_MODEL_PATH": str(model_file),
        "WORKER_MODEL_NAME": model["name"],
        "WORKER_MODEL_SHA256": model["sha256"],
    }
    if model.get("context_tokens"):
        environment["WORKER_CONTEXT_TOKENS"] = str(model["context_tokens"])
    return Prepared(bundle=code, environment=environment)


def _within_reach(model: dict[str, Any]) -> dict[str, Any]:
    """The manifest's model, or the demo model in its place.

    This cloud's nodes have no way to the internet, so that an env made for AWS (670 MB from a public address) works
    here too, at once and the same on every machine. The replies carry the demo model's name: nobody is deceived.
    """
    if model.get("key") or _on_loopback(model.get("url")):
        return model
    log.warning("%s is on the internet, where no embedded node goes: %s answers instead", model["name"], DEMO.name)
    return {
        "name": DEMO.name,
        "file": DEMO.file,
        "sha256": DEMO.sha256,
        "context_tokens": DEMO.context_tokens,
        "packaged": True,
    }


def _on_loopback(url: str | None) -> bool:
    return urlsplit(url or "").hostname in ("127.0.0.1", "localhost", "::1")


def fetch(s3: Any, bucket: str, key: str | None, url: str | None, sha256: str, target: Path) -> None:
    """Downloads to `target` unless a file with that digest is there; never leaves a half or wrong one."""
    if target.is_file() and _digest(target) == sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(target.name + ".part")
    source = f"s3://{bucket}/{key}" if key else str(url)
    digest = hashlib.sha256()
    try:
        with draft.open("wb") as file:
            for chunk in _chunks(s3, bucket, key, url):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise BootstrapError(f"{source} has SHA-256 {digest.hexdigest()[:12]}…, the manifest says {sha256[:12]}…")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def unpack(archive: Path, target: Path) -> None:
    """Unpacks the bundle into a new folder, in one step, refusing names that lead out of it."""
    draft = target.with_name(target.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    with zipfile.ZipFile(archive) as bundle:
        for name in bundle.namelist():
            if not (draft / name).resolve().is_relative_to(draft.resolve()):
                raise BootstrapError(f"the bundle holds the unsafe name {name!r}")
        bundle.extractall(draft)
    draft.replace(target)


def _chunks(s3: Any, bucket: str, key: str | None, url: str | None) -> Iterator[bytes]:
    if key:
        with closing(s3.get_object(Bucket=bucket, Key=key)["Body"]) as body:
            yield from body.iter_chunks(CHUNK)
        return
    if not url or not url.startswith(("https://", "http://")):
        raise BootstrapError("the manifest names neither a key nor a URL for the model")
    with urllib.request.urlopen(url, timeout=URL_TIMEOUT_S) as body:  # noqa: S310 - the scheme is checked above # nosec B310
        yield from iter(lambda: _read(body), b"")


def _read(body: IO[bytes]) -> bytes:
    return body.read(CHUNK)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
