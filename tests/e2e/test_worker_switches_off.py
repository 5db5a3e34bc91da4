"""A worker without work asks for its machine to be switched off, with AWS and without, and loses no job by it."""

from __future__ import annotations

import time

from worker_rig import CAP_S, Line, Rig, await_value

from aistratus import wire

BRIEF = {"WORKER_ENGINE": "echo", "WORKER_IDLE_SECONDS": "2", "WORKER_LAST_LOOK_SECONDS": "3"}


def test_a_job_in_the_last_moment_is_answered_and_then_the_machine_goes_off(rig: Rig) -> None:
    worker = rig.start(**BRIEF)
    worker.await_event("power_off_soon")
    await_value(lambda: rig.item(wire.HEARTBEAT_PK) is None, "the heartbeat is taken away first")
    job = rig.send(rig.job("still there?"))
    assert rig.await_final(job)["status"] == wire.DONE
    worker.await_event("power_stays_on")
    beat = await_value(lambda: rig.item(wire.HEARTBEAT_PK), "it beats again")
    assert 0 <= beat["idle_s"] <= CAP_S and "stops_in_s" in beat
    assert worker.process.wait(CAP_S) == wire.POWER_OFF
    assert rig.item(wire.HEARTBEAT_PK) is None
    record = rig.item(wire.power_pk(int(time.time() * 1000))) or {}
    verbs = {name.partition("_")[0] for name, value in record.items() if str(value).split(" ")[2:3] == [wire.WORKER]}
    assert verbs == {wire.SEEN, wire.STOP}, "whoever counts what it cost knows when it went off"


def test_it_goes_off_when_nothing_of_aws_answers(rig: Rig) -> None:
    line = Line(rig.endpoint)
    worker = rig.start(**BRIEF, AWS_ENDPOINT_URL=line.endpoint)
    worker.await_event("model_loaded")
    line.cut()
    assert worker.process.wait(CAP_S) == wire.POWER_OFF
    line.close()


def test_one_that_dies_again_and_again_does_not_count_anew(rig: Rig) -> None:
    brief = {**BRIEF, "WORKER_IDLE_SECONDS": "600", "WORKER_LAST_LOOK_SECONDS": "0", "WORKER_BOOT_ID": "one"}
    first = rig.start(**brief)
    first.await_event("model_loaded")
    first.process.kill()
    first.process.wait()
    (rig.folder / "state" / "power.json").write_text('{"boot": "one", "began": -9000, "active": -9000}')
    assert rig.start(**brief, WORKER_RUN_SECONDS="7200").process.wait(CAP_S) == wire.POWER_OFF
    again = rig.start(**{**brief, "WORKER_BOOT_ID": "two"})
    again.await_event("model_loaded")
    assert again.process.poll() is None


def test_the_limit_changes_while_it_runs(rig: Rig) -> None:
    rig.dynamodb.put_item(TableName=rig.table, Item=wire.pack({"pk": wire.IDLE_PK, "minutes": 5}))
    worker = rig.start(**BRIEF)
    assert worker.await_event("idle_limit")["minutes"] == 5
    beat = await_value(lambda: (b := rig.item(wire.HEARTBEAT_PK)) and b.get("stops_in_s") and b, "it tells when")
    assert 200 < beat["stops_in_s"] <= 300
