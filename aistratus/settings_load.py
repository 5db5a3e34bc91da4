"""Loads the settings from their layers (file, variables, flags), and reports errors in words.

The file is `--config`, `AISTRATUS_CONFIG`, or the nearest `aistratus.toml` upwards; without one everything has a
default. Precedence rises from built-in defaults over the file, its `[envs.<name>]` table and environment variables
(`AISTRATUS_NODE__VOLUME_GIB=40`) to flags. An error names the key, the file and line, and the allowed values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aistratus.core.errors import UsageError
from aistratus.settings import Settings
from aistratus.settings_file import PREFIX, find_file, read_file


def load(
    *,
    config: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """The settings of this call.

    Args:
        config: the file; `None` looks for one (see the module's text).
        flags: options of the command line by setting name; `None` values don't count.
        environ: environment variables; default: the process's.
        start: where the search for a file begins; default: the current folder.
        defaults: other built-in defaults for some envs, by env name. Those of the model count only together: whoever
            names another file or address gets none of them.

    Raises:
        UsageError: a value is wrong, or the named file can't be read.
    """
    environ = os.environ if environ is None else environ
    file = find_file(config, environ, start or Path.cwd())
    text, tables = read_file(file)
    variables = _variables(environ)
    chosen = {name: value for name, value in (flags or {}).items() if value is not None}
    env = str(chosen.get("env") or variables.get("env") or tables.get("env") or "local")
    envs = tables.pop("envs", {})
    own = _own_table(envs, env, file)
    wrong = [told for other in envs if other != env for told in _other_table(envs, other, file, text)]
    _from_file(file, tables, own)
    merged: dict[str, Any] = {}
    for layer in (tables, own, variables, chosen):
        _merge(merged, layer)
    merged = _on_top((defaults or {}).get(env, {}), merged)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        wrong[:0] = [_explain(problem, file, text, variables, chosen, env) for problem in error.errors()]
    if wrong:
        raise UsageError("wrong setting " + "; ".join(wrong))
    return settings


def _own_table(envs: Any, env: str, file: Path | None) -> dict[str, Any]:
    """What `[envs.<env>]` holds."""
    own = envs.get(env, {}) if isinstance(envs, dict) else envs
    if not isinstance(own, dict):
        raise UsageError(f"wrong setting envs ({file}): a table [envs.NAME] holds what is different for one env")
    return own


def _other_table(envs: Mapping[str, Any], name: str, file: Path | None, text: str) -> list[str]:
    """A sentence for everything in another env's table that could never count: its name, and keys that don't exist.

    Its values are looked at when that env is used, together with what they then meet.
    """
    try:
        Settings(**{**_own_table(envs, name, file), "env": name})
    except ValidationError as error:
        problems = error.errors()
    else:
        return []
    told = [_explain(problem, file, text, {}, {}, name, "envs", name) for problem in problems if _unknown(problem)]
    if misnamed := [problem for problem in problems if problem["loc"] == ("env",)]:
        told.insert(0, f"envs.{name}{_place(['envs', name], file, text, {}, {}, name)}: {_allowed(misnamed[0])}")
    return told


def _from_file(file: Path | None, *layers: dict[str, Any]) -> None:
    """A model's path in the file is meant from the file's folder, wherever the command runs."""
    for layer in layers:
        model = layer.get("model")
        if file is not None and isinstance(model, dict) and isinstance(model.get("path"), str):
            model["path"] = str(file.absolute().parent / Path(model["path"]).expanduser())


def _on_top(defaults: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What was chosen, over the env's own defaults."""
    model = chosen.get("model")
    another = isinstance(model, Mapping) and ("path" in model or "url" in model)
    merged: dict[str, Any] = {}
    _merge(merged, {name: table for name, table in defaults.items() if not (another and name == "model")})
    _merge(merged, chosen)
    return merged


NOT_SETTINGS = frozenset({"CONFIG", "OUTPUT", "YES", "QUIET", "VERBOSE", "TRACE", "STATE_DIR", "LIVE"})
"""`AISTRATUS_*` variables that stand for global options, places, and the tests on a real account; read elsewhere."""


def _variables(environ: Mapping[str, str]) -> dict[str, Any]:
    """`AISTRATUS_NODE__VOLUME_GIB=40` as `{"node": {"volume_gib": "40"}}`; JSON is taken for lists and tables."""
    found: dict[str, Any] = {}
    for name, value in environ.items():
        path = name.removeprefix(PREFIX)
        if path == name or path in NOT_SETTINGS or value == "":
            continue
        place = found
        *parents, last = path.lower().split("__")
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = _json_or_text(value)
    return found


def _json_or_text(value: str) -> Any:
    if value[:1] in "[{":
        import json

        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for name, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value


def _explain(
    problem: ErrorDetails,
    file: Path | None,
    text: str,
    variables: Mapping[str, Any],
    flags: Mapping[str, Any],
    env: str,
    *above: str,
) -> str:
    """A wrong value in one sentence: key (below `above`), place, what is allowed."""
    path = [str(part) for part in problem["loc"] if part != "[key]"]
    shown = "" if isinstance(problem["input"], (dict, list)) else f" = {problem['input']!r}"
    return f"{'.'.join([*above, *path])}{shown}{_place(path, file, text, variables, flags, env)}: {_allowed(problem)}"


EXPECTED = {
    "model_type": "a table", "model_attributes_type": "a table", "dict_type": "a table", "tuple_type": "a list",
    "string_type": "text", "path_type": "text", "int_type": "a whole number", "int_parsing": "a whole number",
    "int_from_float": "a whole number", "float_type": "a number", "float_parsing": "a number",
    "bool_type": "true or false", "bool_parsing": "true or false",
    "date_type": "a day, as YYYY-MM-DD", "date_parsing": "a day, as YYYY-MM-DD",
    "date_from_datetime_parsing": "a day, as YYYY-MM-DD", "date_from_datetime_inexact": "a day, as YYYY-MM-DD",
}  # fmt: skip
"""What has to stand there, by the type of pydantic's error, whose own words are of Python."""


def _unknown(problem: ErrorDetails) -> bool:
    return problem["type"] == "extra_forbidden"


def _allowed(problem: ErrorDetails) -> str:
    """What is allowed where this is wrong, in a person's words."""
    if _unknown(problem):
        return "there is no such setting"
    if problem["type"] == "string_pattern_mismatch":
        return _by_example(problem["loc"])
    if (expected := EXPECTED.get(problem["type"])) is not None:
        return f"it has to be {expected}"
    told = problem["msg"].removeprefix("Value error, ")
    return re.sub("^Input should be ", "it has to be ", told)


def _by_example(loc: tuple[int | str, ...]) -> str:
    """What the setting at `loc` holds, and one that would be taken: a pattern tells people little."""
    model: Any = Settings
    for part in loc[:-1]:
        model = model.model_fields[str(part)].annotation
    entry = model.model_fields[str(loc[-1])]
    what = str(entry.description).partition(";")[0]
    return f"expected here: {what}; for example {entry.default or entry.examples[0]}"


def _place(
    path: list[str], file: Path | None, text: str, variables: Mapping[str, Any], flags: Mapping[str, Any], env: str
) -> str:
    if path and path[0] in flags:
        return f" (option --{path[0]})"
    if _has(variables, path):
        return f" (variable {PREFIX}{'__'.join(path).upper()})"
    if file is None:
        return ""
    line = _line(text, ["envs", env, *path]) or _line(text, path)
    return f" ({file}, line {line})" if line else f" ({file})"


def _has(tables: Mapping[str, Any], path: list[str]) -> bool:
    for part in path:
        if not isinstance(tables, Mapping) or part not in tables:
            return False
        tables = tables[part]
    return True


def _line(text: str, path: list[str]) -> int | None:
    """The line that sets `path`; `None` where the writing is too unusual to tell."""
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            table = _dotted(header.group(1))
            if table == path:
                return number
        elif key := re.match(r"""\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_.\s-])+?)\s*=""", line):
            set_here = [*table, *_dotted(key.group(1))]
            if set_here == path[: len(set_here)] and len(set_here) > len(table):
                return number
    return None


def _dotted(key: str) -> list[str]:
    return [part.strip("\"' ") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", key)]
