"""`aistratus doctor`: what would stop `up`, found before it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Absent, Failure, UsageError

if TYPE_CHECKING:
    from aistratus.doctor import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(context: typer.Context) -> None:
    """Checks identity, permissions, quotas, settings and this machine, and says what to do.

    Changes nothing. Exits with 1 if something must be fixed before `up` can work.
    """
    options: Options = context.obj
    findings = _findings(options)
    _show(options, findings)
    raise typer.Exit(1 if any(finding.state == "fail" for finding in findings) else 0)


def _findings(options: Options) -> list[Finding]:
    from aistratus.cli.session import open_session
    from aistratus.doctor import Finding, Patient, check_clock, examine, examine_machine
    from aistratus.explain import explain

    machine = examine_machine()
    try:
        settings = options.load()
    except UsageError as error:
        return [*machine, Finding("settings", "fail", error.what, error.todo)]
    found = [*machine, Finding("settings", "ok", _from(options))]
    try:
        session = open_session(options)
    except Absent as absent:
        return [*found, Finding("identity", "ok", f"{absent.what}, so there is no account to look at", absent.todo)]
    except Exception as error:  # noqa: BLE001 - told as a finding: nobody answers, or not to these credentials
        failure = explain(error, profile=settings.profile)
        # A wrong clock looks like a wrong signature.
        clock = check_clock(getattr(error, "response", {}))
        return [*found, clock, Finding("identity", "fail", failure.what, failure.todo)]
    patient = Patient(settings, session.cloud, lambda: session.stack, session.names, session.caller)
    return [*found, *examine(patient)]


def _from(options: Options) -> str:
    """Where the settings come from."""
    import os
    from pathlib import Path

    from aistratus.settings_file import find_file

    file = find_file(options.config, os.environ, Path.cwd())
    return str(file) if file else "no aistratus.toml: built-in defaults"


def _show(options: Options, findings: list[Finding]) -> None:
    from rich.markup import escape

    from aistratus.cli import show

    failed = [finding for finding in findings if finding.state == "fail"]
    if options.json:
        rows: list[Mapping[str, Any]] = [
            {"check": one.check, "state": one.state, "what": one.what, "todo": one.todo or None} for one in findings
        ]
        show.emit({"command": "doctor", "env": _env(options), "ok": not failed, "findings": rows})
    console = show.results(options)
    for one in findings:
        if options.quiet and one.state == "ok":
            continue
        console.print(f"[{COLOURS[one.state]}]{one.state:4}[/] {one.check:13} {escape(one.what)}")
        if one.todo and one.state != "ok":
            console.print(f"     {'':13} {escape(one.todo)}")
    if failed:
        console.print(f"{len(failed)} of {len(findings)} must be repaired before `aistratus up`")


def _env(options: Options) -> str | None:
    try:
        return options.load().env
    except Failure:
        return options.env
