"""Exact versions of what ships to AWS.

What runs there must not depend on the laptop that packaged it, so the versions are listed here and not read from the
installed packages. A test compares them with the lock file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

VENDORED: Final[Mapping[str, str]] = {
    "pyasn1": "0.6.5",
    "python-jose": "3.5.0",
    "rsa": "4.9.1",
}
"""Distributions whose pure-Python code goes into `router.zip`: name and version."""

WORKER_ROOTS: Final = ("boto3", "ctransformers", "gguf")
"""What the worker imports."""

WORKER: Final[Mapping[str, str]] = {
    "anyio": "4.16.0",
    "boto3": "1.44.5",
    "botocore": "1.44.5",
    "certifi": "2026.10.18",
    "charset-normalizer": "3.5.2",
    "click": "8.5.1",
    "ctransformers": "0.2.27",
    "filelock": "4.2.11",
    "fsspec": "2026.9.0",
    "gguf": "0.19.0",
    "h11": "0.16.0",
    "hf-xet": "1.8.0",
    "httpcore2": "2.16.2",
    "httpx2": "2.16.2",
    "huggingface-hub": "2.4.0",
    "idna": "3.20",
    "jmespath": "1.1.0",
    "numpy": "2.4.6",
    "packaging": "26.3",
    "py-cpuinfo": "9.0.0",
    "python-dateutil": "2.9.0.post0",
    "pyyaml": "6.0.3",
    "requests": "2.34.2",
    "s3transfer": "0.19.3",
    "six": "1.17.0",
    "tqdm": "4.70.1",
    "truststore": "0.10.5",
    "typing-extensions": "4.16.0",
    "urllib3": "2.8.0",
}
"""The roots and everything they need on Linux. `scripts/lock/worker.py` writes them with the hashes of their files to
`node/requirements.txt`, from which the node installs.
"""
