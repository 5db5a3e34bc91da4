"""The node's first boot: the user data, and the manifest that it reads from the bucket.

The user data only says where the manifest is, because changing it needs a stopped instance. The manifest names the
worker bundle and the model by content hash and carries the worker's environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

MANIFEST_KEY = "node/manifest.json"
USER_DATA_LIMIT = 16_384
"""Bytes. Source: EC2's user guide, "Run commands when you launch an EC2 instance"."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model of an env: `key` in the bucket, or a public `url` (then kept in the bucket by the first node)."""

    name: str
    sha256: str
    context_tokens: int
    key: str | None = None
    url: str | None = None


def user_data(*, bucket: str, region: str) -> str:
    """The bootstrap script with its configuration filled in."""
    values = {"NODE_BUCKET": bucket, "NODE_MANIFEST_KEY": MANIFEST_KEY, "NODE_REGION": region}
    script = files("aistratus.node").joinpath("bootstrap.sh").read_text(encoding="utf-8")
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z0-9._/-]+", value):
            raise ValueError(f"{name} can't be {value!r}")
        script = script.replace(f"{name}=''\n", f"{name}='{value}'\n", 1)
    assert len(script.encode()) <= USER_DATA_LIMIT, "the bootstrap script has outgrown EC2's limit"
    return script


def manifest(*, bundle_key: str, bundle_sha256: str, model: Model, environment: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's content. `environment` may hold `Ref`s: they are filled in when the object is written."""
    return {
        "schema": 1,
        "bundle": {"key": bundle_key, "sha256": bundle_sha256},
        "model": {
            "name": model.name,
            "file": f"{model.sha256}.gguf",
            "sha256": model.sha256,
            "key": model.key,
            "url": model.url,
            "context_tokens": model.context_tokens,
        },
        "environment": dict(environment),
    }
