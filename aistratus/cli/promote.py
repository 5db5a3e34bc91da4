"""`aistratus env promote dev qa`: copies one env's settings to another.

Both are tables of the same file, `[envs.dev]` and `[envs.qa]`. Only the settings in `[envs.dev]` itself are copied;
those from the rest of the file or from the defaults hold for `qa` anyway. Ids aren't copied: an ARN or an AWS profile
of one env means something else, or nothing, in another. Comments and formatting of the file are preserved.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Failure, Interrupted, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

Way = tuple[str, ...]
"""The names of the tables that lead to a setting, and its own."""

ID_NAME = re.compile(r"(^|_)(id|ids|arn|arns|profile)$")
ID_VALUE = re.compile(r"arn:aws[a-z-]*:|[a-z]{1,12}-[0-9a-f]{8}([0-9a-f]{9})?$")
"""An ARN, or an id of EC2 (`vpc-0123456789abcdef0`)."""


@dataclass(frozen=True)
class Difference:
    """One setting: as the target has it now, from wherever, and as it is to be."""

    way: Way
    old: Any
    new: Any

    @property
    def name(self) -> str:
        return _written(self.way)


def promote(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="The env whose settings are copied", show_default=False)],
    target: Annotated[str, typer.Argument(help="The env that gets them", show_default=False)],
    only: Annotated[
        list[str] | None, typer.Option(help="Only this setting or table, such as node.cpu_type (repeatable)")
    ] = None,
) -> None:
    """Copies an env's own settings to another env in aistratus.toml, never ids.

    Shows the difference first and asks before it writes (`--yes` answers).
    """
    from aistratus.cli import show
    from aistratus.settings_file import find_file

    options: Options = context.obj
    found = find_file(options.config, os.environ, Path.cwd())
    if found is None:
        raise UsageError("there is no aistratus.toml here or in a folder above", todo="`aistratus init` writes one")
    file = found.resolve()
    before = _settings(options, file, target)
    text = file.read_bytes().decode("utf-8")  # that it is UTF-8 and TOML, the line above has told
    tables = tomllib.loads(text)
    chosen, ids = choose(_own(tables, source, file, target), only or [], source)
    changes = differences(tables, target, before, chosen)
    console = show.results(options)
    console.print(f"{source} → {target} in {found}", markup=False)
    for change in changes:
        console.print(f"~ {change.name}: {_shown(change.old)} → {_shown(change.new)}", markup=False)
    for way in ids:
        console.print(f"  {_written(way)} names something of {source}'s own and stays there", markup=False)
    if changes:
        with _beside(file, edited(text, target, changes, file)) as part:
            _settings(options, part, target, told_as=file)
            question = f"Write {len(changes)} settings to [envs.{target}]?"
            if not show.confirm(question, options):
                raise Interrupted("nothing was changed")
            part.replace(file)
    if options.json:
        told = [{"setting": change.name, "old": change.old, "new": change.new} for change in changes]
        kept = [_written(way) for way in ids]
        show.emit({"file": str(found), "from": source, "to": target, "changes": told, "ids": kept})
    following = f"`aistratus --env {target} plan` shows what they change in the cloud"
    console.print(f"written; {following}" if changes else f"nothing to do: {target} has these settings", markup=False)


def choose(own: Mapping[Way, Any], only: list[str], source: str) -> tuple[dict[Way, Any], list[Way]]:
    """The settings to copy, and those left out because they are ids.

    Raises:
        UsageError: what was asked for isn't there, or is an id.
    """
    ids = [way for way, value in own.items() if _is_id(way, value)]
    if not only:
        return {way: value for way, value in own.items() if way not in ids}, ids
    asked: list[Way] = []
    for name in only:
        wanted = _way(name)
        ways = [way for way in own if way[: len(wanted)] == wanted]
        if not ways:
            raise UsageError(f"[envs.{source}] has no {name}", todo=f"it has {', '.join(map(_written, own))}")
        if wanted in ids:
            raise UsageError(f"{name} names something of {source}'s own and can't be promoted")
        asked += ways
    return {way: own[way] for way in own if way in asked and way not in ids}, [way for way in ids if way in asked]


def differences(
    tables: Mapping[str, Any], target: str, before: BaseModel, chosen: Mapping[Way, Any]
) -> list[Difference]:
    """The chosen settings that the target has otherwise: by its own table, the rest of the file, or by default."""
    defaults = before.model_dump(mode="json")
    layers = (tables.get("envs", {}).get(target, {}), tables, defaults)
    changes = []
    for way, new in chosen.items():
        old = next((value for layer in layers if (value := _at(layer, way)) is not None), None)
        if old != new:
            changes.append(Difference(way, old, new))
    return changes


def edited(text: str, target: str, changes: list[Difference], file: Path) -> str:
    """The file's text with the changes in `[envs.<target>]`, and otherwise as it was.

    Raises:
        Failure: the file is written in a way that can't be edited safely.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    expected = tomllib.loads(text)
    document = tomlkit.parse(text)
    try:
        for change in changes:
            way = ("envs", target, *change.way)
            _put(expected, way, change.new, dict)
            _put(document, way, tomlkit.item(change.new), lambda: tomlkit.table(True))
        after = tomlkit.dumps(document)
        right = tomllib.loads(after) == expected
    except (TOMLKitError, tomllib.TOMLDecodeError, TypeError, KeyError, AttributeError):
        right = False
    if not right:
        wanted = ", ".join(f"{change.name} = {change.new!r}" for change in changes)
        raise Failure(
            f"{file} is written in a way that can't be edited without risk; nothing was changed",
            todo=f"write to [envs.{target}] by hand: {wanted}",
        )
    return after


def _put(table: Any, way: Way, value: Any, make: Callable[[], Any]) -> None:
    """Sets what lies at `way`, with the tables that are missing on it."""
    for name in way[:-1]:
        if name not in table:
            table[name] = make()
        table = table[name]
    table[way[-1]] = value


def _own(tables: Mapping[str, Any], source: str, file: Path, target: str) -> dict[Way, Any]:
    """What the source's table says, by way."""
    envs = tables.get("envs", {})
    if source == target:
        raise UsageError(f"{source} can't be promoted to itself", todo="name two envs")
    if source not in envs:
        there = ", ".join(envs) if envs else "no env"
        raise UsageError(f"{file} has no table [envs.{source}]", todo=f"it has tables for {there}")
    return dict(_leaves(envs[source]))


def _leaves(table: Mapping[str, Any], before: Way = ()) -> Iterator[tuple[Way, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*before, name))
        else:
            yield (*before, name), value


def _is_id(way: Way, value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(ID_NAME.search(way[-1])) or any(isinstance(entry, str) and ID_VALUE.match(entry) for entry in values)


def _at(tables: Any, way: Way) -> Any:
    for name in way:
        if not isinstance(tables, Mapping) or name not in tables:
            return None
        tables = tables[name]
    return tables


def _way(name: str) -> Way:
    """A dotted name as TOML reads it: `api.throttles."POST /infer"` has three parts."""
    try:
        place: Any = tomllib.loads(f"{name} = 0")
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name!r} isn't the name of a setting", todo="write it like node.cpu_type") from error
    parts: list[str] = []
    while isinstance(place, dict):
        part, place = next(iter(place.items()))
        parts.append(part)
    return tuple(parts)


def _written(way: Way) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in way)


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)


def _settings(options: Options, file: Path, env: str, *, told_as: Path | None = None) -> BaseModel:
    """The env's settings by this file and the defaults alone, without variables and flags.

    Raises:
        UsageError: they are wrong; told of `told_as` where `file` is only a draft of it.
    """
    from aistratus.settings_load import load

    defaults = options.embedded.defaults() if options.embedded else None
    try:
        return load(config=file, flags={"env": env}, environ={}, defaults=defaults)
    except UsageError as error:
        what = error.what.replace(str(file), str(told_as or file))
        raise UsageError(what if told_as is None else f"nothing was changed: {what}", todo=error.todo) from error


@contextmanager
def _beside(file: Path, text: str) -> Iterator[Path]:
    """A draft in the file's folder, to take its place in one step; gone at the end if it didn't."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_bytes(text.encode("utf-8"))
        part.chmod(file.stat().st_mode & 0o777)
        yield part
    finally:
        part.unlink(missing_ok=True)
