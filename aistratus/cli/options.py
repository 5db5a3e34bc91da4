"""The global options, and their position on the command line.

They may stand before or after the command (`aistratus -o json plan`, `aistratus plan -o json`), because users try both.
The arguments are reordered before Typer parses them, so that the options are declared once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typer.core import TyperGroup

from aistratus.core.errors import Interrupted

if TYPE_CHECKING:
    from aistratus.cloud import Access
    from aistratus.settings import Settings

WITH_VALUE = {
    "--env": "--env", "-e": "--env", "--output": "--output", "-o": "--output", "--region": "--region",
    "--profile": "--profile", "--config": "--config", "--trace": "--trace",
}  # fmt: skip
SWITCHES = {
    "--yes": "--yes",
    "-y": "--yes",
    "--quiet": "--quiet",
    "-q": "--quiet",
    "--verbose": "--verbose",
    "-v": "--verbose",
}


@dataclass(frozen=True)
class Embedded:
    """What the composition root knows of the embedded cloud, handed to commands that never ask which cloud they use."""

    defaults: Callable[[], dict[str, Any]]
    """Built-in settings of envs whose cloud is embedded, by env name."""
    access: Callable[[Settings, bool], Access | None]
    """How to reach the env's cloud (started if asked for); `None` if it isn't running, so that nothing can be there."""
    ended: Callable[[Settings], bool]
    """Ends the env's cloud after `down`, if it has one of its own; returns whether it did."""
    keeps_tokens: Callable[[Settings], str]
    """Why no token of this env may be printed; empty where nothing but this machine believes it."""
    mailbox: Callable[[Settings], Path | None]
    """The file in which the mails lie that the env's cloud doesn't send; `None` where it sends them."""
    asks: Callable[[Settings], bool]
    """Is a question in place before `up` and `down`? Not where nothing costs money and nothing outlives the machine."""


@dataclass(frozen=True)
class Options:
    """The global options of this call."""

    env: str | None = None
    output: Literal["table", "json", "csv"] = "table"
    yes: bool = False
    quiet: bool = False
    verbose: bool = False
    region: str | None = None
    profile: str | None = None
    config: Path | None = None
    trace: Path | None = None
    embedded: Embedded | None = None

    @property
    def json(self) -> bool:
        return self.output == "json"

    def load(self) -> Settings:
        """The settings of this call."""
        from aistratus.settings_load import load

        return load(
            config=self.config,
            flags={"env": self.env, "region": self.region, "profile": self.profile},
            defaults=self.embedded.defaults() if self.embedded else None,
        )


class Group(TyperGroup):
    """Commands under one name. The name alone shows the help, which is no answer to a program."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        json = ctx.obj.json if ctx.obj else os.environ.get("AISTRATUS_OUTPUT") == "json"
        if json and not args:
            ctx.fail("Missing command.")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command. Ctrl-C is an error like any other, which Typer would turn into a mere exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted") from error


def truthy(name: str) -> bool:
    """Whether this environment variable is switched on."""
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


def in_order(arguments: list[str]) -> list[str]:
    """The same command line with the global options first; everything after `--` stays where it is."""
    first: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *waiting]
            break
        if word in WITH_VALUE and waiting:
            first += [WITH_VALUE[word], waiting.pop(0)]
        elif equals and name.startswith("--") and name in WITH_VALUE:
            first += [name, value]
        elif word[:2] in WITH_VALUE and len(word) > 2 and word[1] != "-":
            first += [WITH_VALUE[word[:2]], word[2:]]
        elif word in SWITCHES:
            first.append(SWITCHES[word])
        elif re.fullmatch("-[yqv]{2,}", word):
            first += [SWITCHES[f"-{letter}"] for letter in word[1:]]
        else:
            rest.append(word)
    return [*first, *rest]
