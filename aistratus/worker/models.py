"""Changes the model while the worker runs: fetches, checks and loads it. Until then, and on failure, the old one stays.

The desired model is named by an item of the jobs table (`wire.MODEL_PK`), which is read every five seconds. Its file is
in the bucket, where `aistratus model add` has put it under its SHA-256. A file that the pre-flight check refuses is
never loaded; if the engine can't load it after all, the previous model is loaded again. The heartbeat reports either.

The choice is kept in the worker's folder, so that the next boot starts with it. Without one, the manifest's model runs.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from aistratus import wire
from aistratus.worker.clients import Clients, error_code
from aistratus.worker.engine import ModelSpec
from aistratus.worker.keeper import LOAD_LIMIT_S, ModelKeeper
from aistratus.worker.log import Log
from aistratus.worker.preflight import ModelRefused, available_memory, capped, check_model
from aistratus.worker.settings import Settings

READ_EVERY_S: Final = 5.0
LOOK_EVERY_S: Final = 0.2
NOTE: Final = "model.json"
FOLDER: Final = "models"
SPARE: Final = 256 << 20
"""Bytes of the volume that no model may take: logs and the worker's notes go on being written."""


@dataclass(frozen=True)
class Chosen:
    """A model and the name by which its replies are labelled."""

    spec: ModelSpec
    name: str


def chosen_before(settings: Settings) -> Chosen | None:
    """The model that was chosen before this worker started, if its file still exists."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        data = json.loads((settings.state_dir / NOTE).read_text(encoding="utf-8"))
        choice = _chosen(settings, data)
        return choice if Path(choice.spec.path).is_file() else None
    return None


def _chosen(settings: Settings, data: dict[str, Any]) -> Chosen:
    sha256 = str(data["sha256"])
    path = settings.state_dir / FOLDER / f"{sha256}.gguf"
    context = int(data.get("context_tokens", 0))
    return Chosen(replace(settings.model, path=str(path), sha256=sha256, context_tokens=context), str(data["name"]))


def require_room(size: int, folder: Path) -> None:
    """Raises:
    ModelRefused: the volume has no room for so many bytes; with what to set.
    """
    disk = shutil.disk_usage(folder)
    if (lacking := size + SPARE - disk.free) > 0:
        enough = -(-(disk.total + lacking) // (1 << 30))
        raise ModelRefused(
            f"it has {size >> 20} MiB, and the node's volume {max(0, disk.free - SPARE) >> 20} MiB of room: set "
            f"node.volume_gib = {enough}, run `aistratus up`, and stop and start the node"
        )


class Models:
    """Changes the keeper's model to the desired one, in a thread of its own.

    Args:
        keeper: has loaded `first`, or is loading it.
        park: asks the supervisor to start no job; returns true once none is running.
    """

    def __init__(
        self,
        clients: Clients,
        settings: Settings,
        keeper: ModelKeeper,
        park: Callable[[bool], bool],
        log: Log,
        first: Chosen,
    ) -> None:
        self._clients, self._settings, self._keeper, self._park, self._log = clients, settings, keeper, park, log
        self._own = Chosen(settings.model, settings.model_name)
        self._now = first
        self._asked = "" if first.spec.path == settings.model.path else first.spec.sha256
        self._ended = threading.Event()
        self._refused: tuple[str, str] | None = None  # the SHA-256 of what was refused, and why

    def start(self) -> None:
        threading.Thread(target=self._run, name="models", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    @property
    def name(self) -> str:
        """The name by which replies are labelled now."""
        return self._own.name if self._keeper.fell_back else self._now.name

    @property
    def sha256(self) -> str:
        """SHA-256 of the model in use; empty where the manifest names none."""
        return (self._own if self._keeper.fell_back else self._now).spec.sha256

    def report(self) -> dict[str, str | None]:
        """For the heartbeat: the model in use, and the one refused last, until another is chosen."""
        sha256, reason = self._refused or (None, None)
        return {
            "model": self.name,
            "model_sha256": self.sha256,
            "model_refused": reason,
            "model_refused_sha256": sha256,
        }

    def _run(self) -> None:
        while True:
            try:
                self._look()
            except (BotoCoreError, ClientError, OSError) as error:
                self._log.event("model_not_fetched", code=error_code(error))  # retried at the next read
            if self._ended.wait(READ_EVERY_S):
                return

    def _look(self) -> None:
        place = {"TableName": self._settings.jobs_table, "Key": wire.pack({"pk": wire.MODEL_PK})}
        item = wire.unpack(self._clients.dynamodb.get_item(**place).get("Item", {}))
        wanted = str(item.get("sha256", ""))
        if wanted == self._own.spec.sha256:  # the manifest's own model, chosen by its hash
            wanted = ""
        if wanted == self._asked or (wanted and not wire.is_sha256(wanted)):
            return
        choice = _chosen(self._settings, item) if wanted else self._own
        self._refused = None
        try:
            self._fetch(choice)
            self._check(choice)
        except ModelRefused as error:
            self._refuse(wanted, choice, str(error))
            return
        self._change(wanted, choice)

    def _fetch(self, choice: Chosen) -> None:
        path = Path(choice.spec.path)
        if path.is_file():
            return
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part = path.with_suffix(".part")
        key = f"{wire.MODELS}{choice.spec.sha256}.gguf"
        self._log.event("model_fetching", sha256=choice.spec.sha256)
        place = {"Bucket": self._settings.bucket, "Key": key}
        s3 = self._clients.s3()
        try:
            require_room(s3.head_object(**place)["ContentLength"], path.parent)
            s3.download_file(self._settings.bucket, key, str(part))
        except ClientError as error:
            if error_code(error) in ("404", "NoSuchKey", "403"):
                raise ModelRefused(f"the bucket has no model {choice.spec.sha256[:12]}…") from error
            raise
        part.replace(path)

    def _check(self, choice: Chosen) -> None:
        """Runs the pre-flight check; the memory of the model in use counts as free, because that is unloaded first.

        Raises:
            ModelRefused: with the reason; the file is deleted, so that it is fetched again when chosen again.
        """
        memory = available_memory()
        if memory is not None:
            with suppress(OSError):
                memory += Path(self._now.spec.path).stat().st_size
        memory = capped(memory, choice.spec.memory)
        path = Path(choice.spec.path)
        try:
            if choice.spec.engine != "echo":
                check_model(path, sha256=choice.spec.sha256, context_tokens=choice.spec.context_tokens, memory=memory)
        except ModelRefused:
            if choice is not self._own:
                path.unlink(missing_ok=True)
            raise

    def _change(self, wanted: str, choice: Chosen) -> None:
        while self._keeper.loading and self._keeper.trouble is None:
            if self._ended.wait(LOOK_EVERY_S):
                return
        if self._keeper.fell_back:
            self._now = self._own
        while not self._park(True):
            if self._ended.wait(LOOK_EVERY_S):
                return
        try:
            self._keeper.switch(choice.spec)
            deadline = time.monotonic() + LOAD_LIMIT_S
            while self._keeper.verdict is None and time.monotonic() < deadline:
                if self._ended.wait(LOOK_EVERY_S):
                    return
        finally:
            self._park(False)
        if self._keeper.verdict:
            self._refuse(wanted, choice, self._keeper.verdict)
            return
        self._asked, self._now = wanted, choice
        self._note(choice)
        self._log.event("model_in_use", model=choice.name)

    def _refuse(self, wanted: str, choice: Chosen, reason: str) -> None:
        self._asked, self._refused = wanted, (choice.spec.sha256, reason)
        self._log.event("model_refused", reason=reason, kept=self.name)

    def _note(self, choice: Chosen) -> None:
        """Stores the choice for the next boot, and deletes the other models' files."""
        folder, note = self._settings.state_dir / FOLDER, self._settings.state_dir / NOTE
        with suppress(OSError):
            if choice is self._own:
                note.unlink(missing_ok=True)
            else:
                data = {"sha256": choice.spec.sha256, "name": choice.name, "context_tokens": choice.spec.context_tokens}
                fresh = note.with_suffix(".new")
                fresh.write_text(json.dumps(data), encoding="utf-8")
                fresh.replace(note)
            for file in folder.glob("*"):
                if str(file) != choice.spec.path:
                    file.unlink(missing_ok=True)
