"""`aistratus init`: a commented settings file, written from the settings' own declarations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Failure, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

HEAD = """\
# Settings of aistratus. Everything here has the default that is shown; a line counts when its "#" is taken away.
# "…" stands for a value of your own.
# Variables win over this file (AISTRATUS_NODE__VOLUME_GIB=40), flags win over both.
# A table [envs.NAME] holds what is different for one env, for example:
#   [envs.prod.node]
#   cpu_type = "t3.medium"
"""


def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder to write aistratus.toml to")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file")] = False,
) -> None:
    """Writes a commented aistratus.toml with every setting, its unit and its default."""
    from aistratus.cli import show
    from aistratus.settings_file import FILE_NAME

    options: Options = context.obj
    path = folder / FILE_NAME
    if path.exists() and not force:
        raise UsageError(f"{path} exists", todo="--force replaces it")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", todo="make it first")
    _write(path, commented())
    if options.json:
        show.emit({"file": str(path)})
        return
    print(f"wrote {path}")


def _write(path: Path, text: str) -> None:
    """Puts the whole text in the file's place, or leaves what is there."""
    file = path.resolve()  # the file of a link, not the link
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        if file.exists():
            part.chmod(file.stat().st_mode & 0o777)
        part.replace(file)
    except OSError as error:
        why = error.strerror or str(error)
        raise Failure(f"{path} can't be written: {why}", todo="make room there, or name another folder") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def commented() -> str:
    """The file's text."""
    from aistratus.settings import Settings

    return HEAD + "\n".join(_table(Settings, [])) + "\n"


def _table(model: type[BaseModel], path: list[str]) -> Iterator[str]:
    sections = {name: entry for name, entry in model.model_fields.items() if _section(entry)}
    for name, entry in model.model_fields.items():
        if name not in sections:
            yield from _entry(name, entry, path)
    for name, entry in sections.items():
        section = _section(entry)
        assert section is not None
        yield from ("", f"[{'.'.join([*path, name])}]" + (f"  # {section.__doc__}" if section.__doc__ else ""))
        yield from _table(section, [*path, name])


def _section(entry: FieldInfo) -> type[BaseModel] | None:
    from aistratus.settings import Section, Throttle

    kind = entry.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) and kind is not Throttle else None


def _entry(name: str, entry: FieldInfo, path: list[str]) -> Iterator[str]:
    default = entry.get_default(call_default_factory=True)
    yield f"# {entry.description}"
    if isinstance(default, dict) and path:
        for key, value in default.items():
            yield f"# {name}.{json.dumps(key)} = {_toml(value)}"
    else:
        yield f"# {name} = {_toml(default)}"


def _toml(value: Any) -> str:
    if value is None:
        return '"…"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    if hasattr(value, "model_dump"):
        return "{ " + ", ".join(f"{name} = {_toml(entry)}" for name, entry in value.model_dump().items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, str) else str(value)
