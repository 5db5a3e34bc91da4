"""`aistratus node`: the machine is put to sleep, looked at and woken; the env is left as it was."""

from __future__ import annotations

import time
from typing import Any

import fastjsonschema
import pexpect
import pytest
from cli_parts import WITHIN_S, Person, client, eventually, node_state, program
from conftest import Built
from documents import ERROR, IDLE, NODE

from aistratus import wire

pytestmark = pytest.mark.xdist_group("cli")

ENV = "local"
MARK = {"TableName": "tinyllama-local-jobs", "Key": wire.pack({"pk": wire.BUDGET_PK})}


def test_the_node_sleeps_and_wakes_as_told(built: Built) -> None:
    person = built.person
    stopped = person.run("node", "stop", "-o", "json")
    fastjsonschema.validate(NODE, stopped.document)
    assert (stopped.code, stopped.document["node"]["state"]) == (0, "stopped")
    assert "stopping the node" in stopped.err
    assert node_state(built.endpoint, ENV) == "stopped"
    again = person.run("node", "stop")
    assert (again.code, again.out) == (0, "the node was stopped already; the next prompt wakes it\n")
    looked = person.run("node", "status", "-o", "json")
    assert looked.document == stopped.document
    assert person.run("node", "status").out == f"stopped ({looked.document['node']['type']})\n"
    assert person.run("status", "-o", "json").document["node"] == looked.document["node"]

    started = person.run("node", "start")
    assert started.code == 0
    assert "the node runs; `aistratus status` tells when its worker is ready" in started.out
    assert node_state(built.endpoint, ENV) == "running"
    _ready(built)
    again = person.run("node", "start", "-o", "json")
    fastjsonschema.validate(NODE, again.document)
    assert again.code == 0 and "was running already" in again.err
    assert person.run("node", "status").out.startswith("ready (")


def test_the_node_changes_its_shape_and_a_type_that_settings_lack_is_refused(built: Built) -> None:
    person = built.person
    said = person.run("node", "resize", "gpu", "-o", "json")
    fastjsonschema.validate(NODE, said.document)
    assert (said.code, said.document["node"]["state"], said.document["node"]["type"]) == (0, "ready", "g4dn.xlarge")
    assert "making it g4dn.xlarge" in said.err
    assert said.document["node"]["gpu"] is False, "an embedded node has none, and says so"
    assert "its model runs on the processor: this machine has no GPU" in said.err
    assert person.run("plan").code == 0, "`up` leaves it so"
    assert "the node is ready as t3.small" in person.run("node", "resize", "cpu").out
    refused = person.run("node", "resize", "p5.48xlarge", "-o", "json")
    assert (refused.code, refused.document["error"]["kind"]) == (2, "usage")
    _ready(built)


def test_the_idle_limit_is_shown_and_set_while_the_node_runs_and_never_taken_away(built: Built) -> None:
    person, table = built.person, client(built.endpoint, "dynamodb")
    shown = person.run("node", "idle", "-o", "json").document
    fastjsonschema.validate(IDLE, shown)
    assert (shown["idle_minutes"], shown["from_settings"]) == (720, True)
    for wrong in ("-5", "4", "721", "never"):
        said = person.run("node", "idle", wrong)
        told = f"aistratus: '{wrong}' isn't an idle limit; name a whole number of minutes from 5 to 720\n"
        assert (said.code, said.err) == (2, told)
    said = person.run("node", "idle", "600")
    assert (said.code, said.out) == (0, "the node switches itself off after 600 minutes without a job\n")

    def left() -> int:
        key = {"TableName": MARK["TableName"], "Key": wire.pack({"pk": wire.HEARTBEAT_PK})}
        return int(wire.unpack(table.get_item(**key).get("Item", {})).get("stops_in_s", 0))

    assert eventually(left, lambda seconds: 0 < seconds <= 36_000) <= 36_000
    assert person.run("node", "idle", "720").code == 0


def test_a_budget_that_is_used_up_is_told_and_stops_nobody(built: Built) -> None:
    table = client(built.endpoint, "dynamodb")
    mark = wire.pack({"pk": wire.BUDGET_PK, "expires_at": int(time.time()) + 3_600})
    table.put_item(TableName=MARK["TableName"], Item=mark)
    try:
        said = built.person.run("node", "start")
    finally:
        table.delete_item(**MARK)
    assert said.code == 0
    assert "the budget's limit is reached: until 2" in said.out
    assert "the node was running already" in said.out
    _ready(built)


def test_somebody_at_a_terminal_is_asked_before_a_machine_on_aws_stops(built: Built) -> None:
    on_aws = built.person.with_variables(
        AWS_ENDPOINT_URL=built.endpoint, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AISTRATUS_ENV=ENV
    )
    child: Any = pexpect.spawn(
        program(), ["node", "stop"], env=on_aws.environment, cwd=str(on_aws.home), encoding="utf-8", timeout=WITHIN_S
    )
    child.expect_exact("Stop the node of env 'local'? A job in hand is given back. [y/N] ")
    child.sendline("n")
    child.expect("nothing was stopped")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert node_state(built.endpoint, ENV) == "running"


@pytest.mark.parametrize("verb", ["stop", "start", "status"])
def test_without_a_node_there_is_nothing_to_do(person: Person, built: Built, verb: str) -> None:
    nobody = person.with_variables(
        AWS_ENDPOINT_URL=built.endpoint, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AISTRATUS_ENV="nobody"
    )
    said = nobody.run("node", verb, "-o", "json")
    fastjsonschema.validate(ERROR, said.document)
    assert (said.code, said.document["error"]["kind"]) == (6, "absent")
    assert said.document["error"]["todo"] == "`aistratus up` builds it"


def _ready(built: Built) -> None:
    """Waits for the worker, as the tests after this one expect it."""

    def state() -> str:
        return str(built.person.run("node", "status", "-o", "json").document["node"]["state"])

    assert eventually(state, lambda now: now == "ready") == "ready"
