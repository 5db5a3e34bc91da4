"""The worker's settings: environment variables that the node sets, validated once at the start.

`WORKER_QUEUE_URL`, `WORKER_JOBS_TABLE`, `WORKER_STATE_DIR`, `AWS_REGION` and (for a real engine) `WORKER_MODEL_PATH`
are required; the rest has defaults. An error names the variable and its allowed values.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aistratus.wire import IDLE_MINUTES
from aistratus.worker.engine import CTRANSFORMERS, ECHO, ENGINES, ModelSpec
from aistratus.worker.gpu import PCI

POLL_S: Final = 20
"""SQS' longest poll: the fewest requests, and a message still arrives at once."""


IDLE_S: Final = 15 * 60
RUN_S: Final = 12 * 3_600
"""Seconds; they hold where the node's manifest says nothing, because there is always a limit."""

LAST_LOOK_S: Final = 20
"""Longer than the router's own time limit (15 s), by which a prompt that it has accepted is in the queue."""

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
"""The kernel's id of this boot, a new one each time. Source: random(4)."""


PRODUCT: Final = Path("/sys/devices/virtual/dmi/id/product_name")
"""The instance type, on every machine that EC2 builds on Nitro, as all types are that settings allow for a GPU."""


class SettingsError(ValueError):
    """A variable is missing or wrong; the message is one sentence for the operator."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that differs from node to node.

    Attributes:
        queue_url: the FIFO queue of jobs.
        dead_letter_url: where SQS moves messages after three receives; empty when there is none.
        jobs_table: name of the DynamoDB table.
        region: AWS region.
        endpoint_url: address of all of AWS, or None for the real one.
        state_dir: folder of this worker alone.
        instance_id: who writes the heartbeat.
        model_name: how replies are labelled.
        model: what to load.
        poll_s: seconds that one receive waits for a message, 1..20.
        idle_s, run_s: seconds without a job, and altogether, after which the machine is switched off.
        last_look_s: seconds that it listens to the queue before that, without a heartbeat.
        boot: what tells one boot of the machine from the next; empty where nothing does.
        instance_type: the machine's type; empty where it isn't known.
        bucket: where chosen models are fetched from; empty where none can be.
        gpu_note: where the bootstrap script writes whether the GPU can be used; none where nobody does.
        gpu_devices: where the kernel lists the machine's devices.
    """

    queue_url: str
    dead_letter_url: str
    jobs_table: str
    region: str
    endpoint_url: str | None
    state_dir: Path
    instance_id: str
    model_name: str
    model: ModelSpec
    poll_s: int = POLL_S
    idle_s: int = IDLE_S
    run_s: int = RUN_S
    last_look_s: int = LAST_LOOK_S
    boot: str = ""
    instance_type: str = ""
    bucket: str = ""
    gpu_note: Path | None = None
    gpu_devices: Path = PCI


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in an environment.

    Raises:
        SettingsError: naming the variable.
    """
    model = read_model(environment)
    return Settings(
        queue_url=_needed(environment, "WORKER_QUEUE_URL"),
        dead_letter_url=environment.get("WORKER_DEAD_LETTER_URL", ""),
        jobs_table=_needed(environment, "WORKER_JOBS_TABLE"),
        region=_needed(environment, "AWS_REGION"),
        endpoint_url=environment.get("AWS_ENDPOINT_URL") or None,
        state_dir=Path(_needed(environment, "WORKER_STATE_DIR")),
        instance_id=environment.get("WORKER_INSTANCE_ID") or platform.node() or "unnamed",
        model_name=environment.get("WORKER_MODEL_NAME") or Path(model.path).stem or model.engine,
        model=model,
        poll_s=_number(environment, "WORKER_POLL_SECONDS", POLL_S, 1, POLL_S),
        idle_s=_number(environment, "WORKER_IDLE_SECONDS", IDLE_S, 1, IDLE_MINUTES[1] * 60),
        run_s=_number(environment, "WORKER_RUN_SECONDS", RUN_S, 1, 7 * 86_400),
        last_look_s=_number(environment, "WORKER_LAST_LOOK_SECONDS", LAST_LOOK_S, 0, 60),
        boot=environment.get("WORKER_BOOT_ID") or _boot(),
        instance_type=environment.get("WORKER_INSTANCE_TYPE") or machine_type(),
        bucket=environment.get("WORKER_BUCKET", ""),
        gpu_note=Path(note) if (note := environment.get("WORKER_GPU_NOTE")) else None,
        gpu_devices=Path(environment.get("WORKER_GPU_DEVICES") or PCI),
    )


def machine_type(product: Path = PRODUCT) -> str:
    """The type of this machine, as it says itself: what a file says may be from before its shape was changed."""
    try:
        name = product.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return name if re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", name) else ""


def _boot() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def read_model(environment: Mapping[str, str]) -> ModelSpec:
    """The part of the settings that says which model to load.

    Raises:
        SettingsError: naming the variable.
    """
    engine = environment.get("WORKER_ENGINE") or CTRANSFORMERS
    if engine not in ENGINES:
        raise SettingsError(f"WORKER_ENGINE is {engine!r}, but it must be one of {', '.join(ENGINES)}")
    digest = environment.get("WORKER_MODEL_SHA256", "").lower()
    if digest and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
        raise SettingsError("WORKER_MODEL_SHA256 must have 64 hexadecimal digits, or be empty")
    path = environment.get("WORKER_MODEL_PATH", "") if engine == ECHO else _needed(environment, "WORKER_MODEL_PATH")
    return ModelSpec(
        engine=engine,
        path=path,
        sha256=digest,
        context_tokens=_number(environment, "WORKER_CONTEXT_TOKENS", 0, 0, 1_048_576),
        threads=_number(environment, "WORKER_THREADS", 0, 0, 256),
        gpu_layers=_number(environment, "WORKER_GPU_LAYERS", 0, 0, 10_000),
        echo_delay_ms=_number(environment, "WORKER_ECHO_DELAY_MS", 0, 0, 60_000),
        memory=_number(environment, "WORKER_MEMORY_MIB", 0, 0, 16_777_216) << 20,
    )


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set")
    return value


def _number(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise SettingsError(f"{name} is {text!r}, but it must be a whole number from {least} to {most}")
    return int(text)
