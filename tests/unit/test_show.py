"""How differences and progress look to a person."""

from __future__ import annotations

import io
import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from aistratus.cli import show
from aistratus.cli.quotes import Quotes
from aistratus.core.diff import FieldChange
from aistratus.core.execute import Progress
from aistratus.core.plan import Change
from aistratus.costs.prices import Rate, packaged
from aistratus.resources.logs import LogGroup
from aistratus.resources.nat import NatGateway


def screen() -> Console:
    return Console(file=io.StringIO(), width=200)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def board(title: str) -> str:
    return json.dumps({"widgets": [{"type": "text", "properties": {"title": name}} for name in ("one" * 20, title)]})


def policy(action: list[str], sid: str) -> str:
    statement = {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": "arn:aws:s3:::a-bucket/with/a/key"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize(
    ("field", "old", "new", "told"),
    [
        ("retention_days", 3, 30, "retention_days: 3 → 30"),
        ("retention_days", None, 30, "retention_days: (none) → 30"),
        ("tags", {"Env": None}, {"Env": "dev"}, "tags: {Env: (none)} → {Env: dev}"),
        ("body", board("a"), board("b"), "body.widgets[1].properties.title: a → b"),
        ("body", {"main": board("a")}, {"main": None}, f"body.main: {board('a')[:59]}… → (none)"),
        ("names", ["x" * 70], ["x" * 70, "y"], "names[1]: (none) → y"),
        (
            "policy",
            policy(["s3:PutObject", "s3:GetObject"], "a"),
            policy(["s3:GetObject", "s3:ListBucket"], "b"),
            "policy.Statement[0].Action[1]: s3:putobject → s3:listbucket",
        ),
        ("user_data", "a" * 50 + "\n1" + "b" * 90, "a" * 50 + "\n2" + "b" * 90,
         f"user_data: …{'a' * 18}\\n1{'b' * 37}… → …{'a' * 18}\\n2{'b' * 37}…"),
    ],
)  # fmt: skip
def test_the_place_that_differs_is_seen(field: str, old: Any, new: Any, told: str) -> None:
    console = screen()
    show.lines([Change(LogGroup(key="log", name="log"), "update", (FieldChange(field, old, new),))], console)
    assert lines(console)[1].strip() == told


def test_progress_tells_prices_and_a_long_key_moves_the_columns_of_all() -> None:
    console, long = screen(), "a_key_that_is_longer_than_most"
    quotes = Quotes("eu-central-1", Rate(Decimal(1), date(2025, 1, 1)), packaged())
    things = [NatGateway(key="short", subnet="s", address="a"), LogGroup(key=long, name="log")]
    with show.Ticker(console, [Change(thing, "create") for thing in things], quotes) as ticker:
        for thing in things:
            ticker(Progress(thing.key, thing.kind, "create", "ended", 1.0))
    head, short, other = lines(console)
    assert short.index("NatGateway") == other.index("LogGroup")
    ends = [head.index("idle") + 4] * 2
    assert [short.index("€37.96") + 6, other.index("by use") + 6] == ends
