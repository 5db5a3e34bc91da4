"""`aistratus model`: adds, lists, chooses and removes models while the node runs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from aistratus.cli.options import Group, Options
from aistratus.core.errors import Failure, Interrupted, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from aistratus.cli.session import Session
    from aistratus.node.bootstrap import Model
    from aistratus.node.models import Stored

app = typer.Typer(cls=Group, no_args_is_help=True, help="The models: add, list, choose, remove.")

CHUNK = 1 << 20


@app.command()
def add(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FILE|URL", help="A GGUF file, or the https address of one")],
    name: Annotated[str | None, typer.Option(help="Shown beside each reply (default: the file's name)")] = None,
    sha256: Annotated[str | None, typer.Option(help="What it has to be; anything else is refused")] = None,
    context_tokens: Annotated[
        int,
        typer.Option("--context", min=0, help="Tokens of prompt and reply together; 0 is the file's own, at most 2048"),
    ] = 0,
) -> None:
    """Checks a model and keeps it in the env's bucket; `model use` makes it answer.

    A file that is damaged, cut off, of a version or kind that the engine can't read, or too large for every type that
    the node may be or for its volume is refused with the reason, and nothing is uploaded.
    """
    from aistratus.cli import show
    from aistratus.cli.session import open_session
    from aistratus.node import models
    from aistratus.node.room import own_size, require_volume, volume_gib

    options: Options = context.obj
    console = show.people(options)
    label = name or Path(urlsplit(source).path if _is_url(source) else source).name.removesuffix(".gguf")
    opened = cache(lambda: open_session(options))

    def check_room(size: int) -> None:
        session = opened()
        own = own_size(session.settings.model) or 0
        require_volume(label, size, volume_gib(session.cloud, session.settings), beside=0 if own == size else own)

    with _file(source, console, check_room) as path:
        model = models.examine(path, name=label, sha256=sha256 or "", context_tokens=context_tokens)
        session = opened()
        check_room(model.size)
        room = _room(session, console, session.settings.node.types)
        models.require_room(model, room)
        console.print(f"into the bucket, unless it is there already: {max(1, model.size >> 20)} MiB …")
        before = models.kept_as(session.cloud, _bucket(session), model.sha256)
        sent = models.upload(session.cloud, _bucket(session), path, model)
    fits = models.fitting(model, room)
    if options.json:
        show.emit({"env": session.settings.env, "model": _document(model, fits), "uploaded": sent})
        return
    there = "" if sent else " (it was in the bucket already)"
    result = show.results(options)
    result.print(f"{model.name} is kept{there}; it fits on {', '.join(fits)}", markup=False)
    if before is not None and before.name != model.name:
        result.print(f"the same bytes were kept as {before.name}: that name is gone", markup=False)
    if model.sha256 == _own(session).sha256:
        result.print(f"they are the settings' own model's, and answer as {_own(session).name}", markup=False)
    result.print(f"`aistratus model use {model.name}` makes it answer", markup=False)


@app.command("list")
def list_(context: typer.Context) -> None:
    """Shows the models that were added, what each fits on, and which one answers."""
    from aistratus.cli import show
    from aistratus.cli.session import open_session
    from aistratus.node import models
    from aistratus.node.resize import fresh, heartbeat

    options: Options = context.obj
    session = open_session(options)
    found = models.stored(session.cloud, _bucket(session))
    beat = heartbeat(session.cloud)
    room = _room(session, show.people(options), session.settings.node.types) if found else {}
    now = str(beat.get("model_sha256", "")) if fresh(beat) else ""
    listed = [{**_document(model, models.fitting(model, room)), "in_use": model.sha256 == now} for model in found]
    if options.json:
        show.emit({"env": session.settings.env, "answers": beat.get("model") if now else None, "models": listed})
        return
    console = show.results(options)
    for entry in listed:
        mark = "*" if entry["in_use"] else " "
        fits = ", ".join(entry["fits"]) or "nothing that settings allow"
        line = f"{mark} {entry['name']}  {entry['sha256'][:12]}  {entry['size'] >> 20} MiB, needs {entry['needed_mib']}"
        alias = entry["in_use"] and entry["name"] != beat.get("model")
        same = f"; it answers as {beat.get('model')}, which has the same bytes" if alias else ""
        console.print(f"{line}, fits on {fits}{same}", markup=False)
    if not listed:
        console.print("none was added; `aistratus model add FILE` adds one")
    if now and not any(entry["in_use"] for entry in listed):
        console.print(f"{beat.get('model')} answers, as settings say", markup=False)


@app.command()
def use(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, how its SHA-256 begins, or `settings` for the settings' own")],
) -> None:
    """Makes a model answer, while the node runs and from its next boot on; ends when it answers.

    The worker checks it once more before it is loaded; when that fails, the model before goes on answering.
    """
    from aistratus.cli import show
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.node import lifecycle, models
    from aistratus.node.resize import fresh, heartbeat
    from aistratus.node.room import require_volume, volume_gib
    from aistratus.resources.instance_listing import state_of

    options: Options = context.obj
    session = open_session(options)
    stored = [] if name == models.SETTINGS else models.stored(session.cloud, _bucket(session))
    model = None if name == models.SETTINGS else models.pick(stored, name)
    node = lifecycle.look(session.cloud)
    if model is not None:
        now = heartbeat(session.cloud).get("model_sha256")
        beside = sum(one.size for one in stored if one.sha256 == now != model.sha256)
        beside += _own_size(session, model.sha256)
        require_volume(model.name, model.size, volume_gib(session.cloud, session.settings), beside=beside)
        room = _room(session, show.people(options), (*session.settings.node.types, node["InstanceType"]))
        models.require_room(model, room, node["InstanceType"])
    since = time.time()
    models.choose(session.cloud, model, by=session.cloud.identity.arn.rpartition("/")[2])
    awake = state_of(node) == "running" and fresh(heartbeat(session.cloud))
    label = model.name if model else "the settings' model"
    if awake:
        show.people(options).print(f"the worker checks and loads {label} …", markup=False)
        with ending_gently(session):
            models.await_taken(session.cloud, model.sha256 if model else _own(session).sha256, since)
    if options.json:
        sha256 = model.sha256 if model else None
        show.emit({"env": session.settings.env, "model": label if model else None, "sha256": sha256, "answers": awake})
        return
    told = "answers now" if awake else "will answer when the node is awake again"
    alias = model is not None and model.sha256 == _own(session).sha256
    same = f", as {_own(session).name}: it is the settings' own, which has the same bytes" if alias else ""
    show.results(options).print(f"{label} {told}{same}", markup=False)


@app.command()
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, or how its SHA-256 begins")],
) -> None:
    """Takes a model out of the bucket, at once and for good, and says what that frees.

    Never the one that answers, or will when the node wakes. At a terminal it asks (`--yes` doesn't).
    """
    from aistratus.cli import show
    from aistratus.cli.session import open_session
    from aistratus.node import models

    options: Options = context.obj
    session = open_session(options)
    bucket = _bucket(session)
    if name == models.SETTINGS:
        raise UsageError("the model that settings name isn't removed", todo="[model] in aistratus.toml names it")
    model = models.the_one(models.stored(session.cloud, bucket), name)
    shared = model.sha256 in (_own(session).sha256, models.shipped_with(session.cloud, bucket))
    if not shared:
        models.require_unused(session.cloud, model)
    size = f"{max(1, model.size >> 20)} MiB"
    question = f"Remove the model {model.name} ({size}) from env {session.settings.env!r}? Its file goes for good."
    if not show.confirm(question, options):
        raise Interrupted("nothing was removed")
    freed = models.remove(session.cloud, bucket, model, with_bytes=not shared)
    if options.json:
        told = {"name": model.name, "sha256": model.sha256}
        show.emit({"env": session.settings.env, "removed": told, "freed": freed})
        return
    what = f"its {freed / (1 << 20):.1f} MiB in the bucket are free"
    if shared:
        what = "its bytes stay, because the settings' own model has the same"
    show.results(options).print(f"{model.name} is removed; {what}", markup=False)


def _room(session: Session, console: Console, types: tuple[str, ...]) -> dict[str, int]:
    """Memory (MiB) for a model on each instance type of the region; missing types are reported."""
    from aistratus.node import models

    room = models.memory(session.cloud, types)
    if lacking := sorted(set(types) - set(room)):
        console.print(f"{session.names.region} has no {', '.join(lacking)}", markup=False)
    return room


def _own_size(session: Session, sha256: str) -> int:
    """Bytes of the model that settings name, as far as they are known; nothing where it is this very one."""
    from aistratus.node.room import own_size

    return 0 if _own(session).sha256 == sha256 else own_size(session.settings.model) or 0


def _own(session: Session) -> Model:
    """The model that settings name."""
    from aistratus.cli.session import shipped

    return shipped(session.settings).model


def _bucket(session: Session) -> str:
    return f"{session.names.prefix}data-{session.cloud.account}-{session.cloud.region}"


def _document(model: Stored, fits: list[str]) -> dict[str, Any]:
    return {
        "name": model.name,
        "sha256": model.sha256,
        "size": model.size,
        "needed_mib": model.needed_mib,
        "context_tokens": model.context_tokens,
        "fits": fits,
    }


def _is_url(source: str) -> bool:
    return "://" in source


@contextmanager
def _file(source: str, console: Console, check_room: Callable[[int], None]) -> Iterator[Path]:
    """The file itself, or a download of the address, which is deleted afterwards.

    Args:
        check_room: hears how many bytes are about to be fetched, where that is told, and may refuse them.
    """
    if not _is_url(source):
        yield Path(source).expanduser()
        return
    if not source.startswith("https://"):
        raise UsageError(f"{source} isn't an https address", todo="name one that nobody can change on its way")
    with tempfile.TemporaryDirectory(prefix="aistratus-model-") as folder:
        path = Path(folder) / "model.gguf"
        console.print(f"fetching {source} …", markup=False)
        _fetch(source, path, check_room)
        yield path


def _fetch(source: str, path: Path, check_room: Callable[[int], None]) -> None:
    import httpx

    try:
        with (
            httpx.stream("GET", source, follow_redirects=True, timeout=60) as answer,
            path.open("wb") as file,
        ):
            answer.raise_for_status()
            if (told := answer.headers.get("content-length", "")).isdecimal():
                check_room(int(told))
            for block in answer.iter_bytes(CHUNK):
                file.write(block)
    except httpx.HTTPStatusError as error:
        raise Failure(f"{source} answers {error.response.status_code}", todo="check the address") from error
    except (httpx.HTTPError, OSError) as error:
        raise Failure(f"{source} can't be fetched: {str(error) or type(error).__name__}", todo="try again") from error
