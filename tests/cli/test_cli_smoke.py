"""`aistratus smoke`: the chain is whole, or it says where it is broken, in time and with an exit code."""

from __future__ import annotations

import time

import fastjsonschema
import pytest
from cli_parts import client
from conftest import Asleep, Built
from documents import ERROR, SMOKE

from aistratus import wire
from aistratus.cli.smoke import LimitedClock, TimeIsUp

pytestmark = pytest.mark.xdist_group("cli")


def test_a_whole_chain_passes_with_seconds_for_each_stage(built: Built) -> None:
    said = built.person.run("smoke", "-o", "json")
    fastjsonschema.validate(SMOKE, said.document)
    assert (said.code, said.document["ok"]) == (0, True)
    assert [stage["stage"] for stage in said.document["stages"]] == ["sign in", "health", "job", "queue health"]
    assert "tokens/s by aistratus-demo" in said.document["stages"][2]["what"]


def test_a_broken_chain_is_told_where_and_why(asleep: Asleep) -> None:
    """What the budget has stopped isn't woken by a prompt."""
    table, name = client(asleep.endpoint, "dynamodb"), "tinyllama-slow-jobs"
    mark = {"pk": wire.BUDGET_PK, "expires_at": int(time.time()) + 3_600}
    assert asleep.person.run("node", "stop").code == 0
    table.put_item(TableName=name, Item=wire.pack(mark))
    try:
        said = asleep.person.run("smoke", "-o", "json")
    finally:
        table.delete_item(TableName=name, Key=wire.pack({"pk": wire.BUDGET_PK}))
        assert asleep.person.run("chat", "awake?").code == 0, "as the tests after this one expect it"
    fastjsonschema.validate(SMOKE, said.document)
    last = said.document["stages"][-1]
    assert (said.code, said.document["ok"], last["stage"]) == (1, False, "job")
    assert "the budget's limit is reached" in last["what"]
    assert "the chain is broken at job: The node can't be started" in said.err


def test_when_the_time_is_up_nothing_is_waited_for() -> None:
    LimitedClock(time.monotonic() + 60).wait(0.001)
    with pytest.raises(TimeIsUp):
        LimitedClock(time.monotonic()).wait(60)


def test_without_a_stack_it_says_so(asleep: Asleep) -> None:
    said = asleep.person.with_variables(AISTRATUS_ENV="nobody").run("smoke", "-o", "json")
    fastjsonschema.validate(ERROR, said.document)
    assert said.code == 6 and "isn't up" in said.words
