"""Finds and parses the settings file, and determines the env of a call.

`aistratus.settings` validates it all; this part imports fast, for a prompt that is to be shown at once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aistratus.core.errors import UsageError

FILE_NAME = "aistratus.toml"
PREFIX = "AISTRATUS_"
LOCAL_ENV = "local"


def find_file(config: Path | None, environ: Mapping[str, str], start: Path) -> Path | None:
    """The settings file to read, or `None`.

    Raises:
        UsageError: a named file doesn't exist.
    """
    named = config or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    if named is not None:
        if not named.is_file():
            what = "isn't a file" if named.exists() else "doesn't exist"
            raise UsageError(f"the settings file {named} {what}", todo="`aistratus init` writes one")
        return named
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def read_file(file: Path | None) -> tuple[str, dict[str, Any]]:
    """Its text and its tables; empty without a file.

    Raises:
        UsageError: it can't be read.
    """
    if file is None:
        return "", {}
    try:
        text = file.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} isn't valid TOML: {error}") from error


def env_of(flag: str | None, config: Path | None, environ: Mapping[str, str], start: Path) -> str | None:
    """The env that `settings_load.load` would choose; `None` for a name that it would refuse.

    Raises:
        UsageError: the file can't be read.
    """
    name = flag or environ.get(PREFIX + "ENV") or read_file(find_file(config, environ, start))[1].get("env", LOCAL_ENV)
    return name if isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9-]{0,15}", name) else None
