"""What programs read: one JSON document on standard output, of a stable form, also when something fails."""

from __future__ import annotations

import json

import fastjsonschema
import pytest
from cli_parts import Person, client
from conftest import Built
from documents import CHAT, ERROR, EXPORT, LOCAL, REPORT, STATUS

pytestmark = pytest.mark.xdist_group("cli")

SWITCHED_OFF = 12
"""Resources that are declared and off by default: they are looked for, too."""


def fits(document: object, schema: dict[str, object]) -> None:
    fastjsonschema.validate(schema, document)


def test_up_twice_changes_nothing(built: Built) -> None:
    again = built.person.run("up", "-o", "json")
    fits(again.document, REPORT)
    assert again.code == 0
    assert (again.document["command"], again.document["env"]) == ("up", "local")
    assert again.document["account"] == "123456789012"
    assert {entry["action"] for entry in again.document["resources"]} == {"unchanged"}
    assert len(again.document["resources"]) == built.resources >= 40
    assert again.document["calls"]["write"] == 0
    assert again.document["calls"]["read"] <= 1.5 * (built.resources + SWITCHED_OFF)
    assert again.err, "text for people goes beside"


def test_a_difference_is_planned_shown_and_repaired(built: Built) -> None:
    logs = client(built.endpoint, "logs")
    logs.put_retention_policy(logGroupName="/aws/lambda/tinyllama-local-router", retentionInDays=3)
    planned = built.person.run("plan", "-o", "json")
    fits(planned.document, REPORT)
    changed = [entry for entry in planned.document["resources"] if entry["action"] != "unchanged"]
    assert planned.code == 2
    assert [(entry["key"], entry["action"]) for entry in changed] == [("router_log", "update")]
    assert changed[0]["changes"] == [{"field": "retention_days", "old": 3, "new": 30}]
    status = built.person.run("status", "-o", "json")
    fits(status.document, STATUS)
    assert (status.code, status.document["state"]) == (5, "drifted")
    told = built.person.run("plan")
    assert "retention_days: 3 → 30" in told.out
    assert "Next: aistratus up" in told.out
    assert built.person.run("up", "-o", "json").document["calls"]["write"] >= 1
    assert built.person.run("plan").code == 0


def test_status_tells_that_everything_works(built: Built) -> None:
    said = built.person.run("status", "-o", "json")
    fits(said.document, STATUS)
    assert (said.code, said.document["state"]) == (0, "ready")
    assert said.document["node"]["state"] in ("ready", "busy")
    assert {entry["health"] for entry in said.document["resources"]} == {"ok"}
    cached = built.person.run("status", "--cached", "-o", "json")
    assert cached.code == 0
    assert cached.document.pop("age_s") >= 0
    assert cached.document | {"age_s": 0} == said.document | {"age_s": cached.document["age_s"]} | {"age_s": 0}


def test_a_reply_comes_with_what_it_took(built: Built) -> None:
    said = built.person.run("chat", "-o", "json", "How do I stop the GPU?")
    fits(said.document, CHAT)
    assert said.code == 0
    assert "aistratus node stop" in said.document["text"]
    assert said.document["model"] == "aistratus-demo"


def test_the_running_cloud_is_joined(built: Built) -> None:
    said = built.person.run("local", "start", "-o", "json")
    fits(said.document, LOCAL)
    assert (said.code, said.document["endpoint"]) == (0, built.endpoint)


def test_ids_are_exported(built: Built) -> None:
    said = built.person.run("env", "export", "-o", "json")
    fits(said.document, EXPORT)
    assert said.document["variables"]["TINYLLAMA_ENV"] == "local"
    assert said.document == built.person.run("env", "export", "--format", "json").document


def test_down_shows_first_what_it_would_remove(built: Built) -> None:
    said = built.person.run("down", "--plan", "-o", "json")
    fits(said.document, REPORT)
    assert said.code == 2
    assert [entry["action"] for entry in said.document["resources"]] == ["delete"] * built.resources
    assert built.person.run("plan").code == 0


def test_a_second_up_at_the_same_time_is_refused_in_json_too(built: Built) -> None:
    ssm = client(built.endpoint, "ssm")
    holder = (
        '{"command":"aistratus up","user":"ann","host":"another","pid":1,"pid_started":0,"since":1,"expires":1e12,'
        '"nonce":"n"}'
    )
    client(built.endpoint, "logs").put_retention_policy(
        logGroupName="/aws/lambda/tinyllama-local-router", retentionInDays=5
    )
    ssm.put_parameter(Name="/tinyllama/local/lock", Value=holder, Type="String")
    refused = built.person.run("up", "-o", "json")
    fits(refused.document, ERROR)
    assert (refused.code, refused.document["error"]["kind"]) == (1, "locked")
    assert "`aistratus up` of ann@another" in refused.err
    stolen = built.person.run("up", "--steal-lock")
    assert stolen.code == 0
    assert "taken over from `aistratus up` of ann@another" in stolen.out


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("nonsense",), 2, "usage"),
        (("plan", "--nonsense"), 2, "usage"),
        (("plan", "--region", "nowhere"), 2, "usage"),
        (("plan", "--config", "missing.toml"), 2, "usage"),
        (("chat", " "), 2, "usage"),
        (("chat", "x" * 8001), 2, "usage"),
        (("chat", "hello", "--max-tokens", "0"), 2, "usage"),
        (("plan", "--env", "dev"), 1, "login"),
        (("chat", "hello"), 6, "absent"),
        (("env", "show"), 6, "absent"),
        (("logs", "router"), 6, "absent"),
        (("status", "--cached"), 6, "absent"),
        (("local", "logs"), 6, "absent"),
        (("plan", "--trace", "missing/trace"), 2, "usage"),
        (("plan", "--trace", "."), 2, "usage"),
        (("queue",), 2, "usage"),
        (("env",), 2, "usage"),
        ((), 2, "usage"),
        (("env", "export", "--format", "dotenv"), 2, "usage"),
    ],
)
def test_a_failure_is_one_document_too(person: Person, arguments: tuple[str, ...], code: int, kind: str) -> None:
    said = person.run(*arguments, "-o", "json")
    fits(said.document, ERROR)
    assert (said.code, said.document["error"]["kind"]) == (code, kind)
    assert said.document["error"]["what"] in said.err


NODE = {"state": "ready", "type": "t3.small", "heartbeat_age_s": 1.0, "model": "m"}
NO_NODE = {"state": "absent", "type": None, "heartbeat_age_s": None, "model": None}
UNKNOWN = {"depth": None, "in_flight": None, "dead": None}


@pytest.mark.parametrize(
    ("state", "node", "queue", "health", "code", "told"),
    [
        ("ready", NODE, {"depth": 1, "in_flight": 0, "dead": 0}, "ok", 0, ""),
        ("drifted", NO_NODE, UNKNOWN, "drifted", 5, "drifted: `aistratus plan` shows what differs"),
        (
            "degraded", NODE, {"depth": 0, "in_flight": 0, "dead": 2}, "unknown", 5,
            "degraded: 2 dead letters (`aistratus queue redrive` shows them and puts them back), data is unknown",
        ),
        ("absent", NO_NODE, UNKNOWN, "absent", 6, "`aistratus up` builds it"),
    ],
)  # fmt: skip
def test_an_earlier_status_says_why_and_ends_as_the_live_one(
    person: Person, state: str, node: dict[str, object], queue: dict[str, object], health: str, code: int, told: str
) -> None:
    kept = person.home / ".cache/aistratus/status-local.json"
    kept.parent.mkdir(parents=True)
    resources = [{"key": "data", "kind": "Bucket", "id": "b", "health": health}]
    document = {"at": 1.0, "env": "local", "state": state, "api_url": None, "node": node, "queue": queue}
    kept.write_text(json.dumps(document | {"resources": resources}))
    said = person.run("status", "--cached")
    assert (said.code, told in said.out.splitlines() or not told) == (code, True), said.words
    assert "None" not in said.out


def test_what_is_written_and_logged_here_is_told_as_documents(person: Person) -> None:
    assert person.run("init", "-o", "json").document == {"schema": 1, "file": "aistratus.toml"}
    (person.home / "local").mkdir()
    (person.home / "local/cloud.log").write_text('said "yes"\nand no\n', encoding="utf-8")
    said = person.with_variables(AISTRATUS_STATE_DIR=str(person.home)).run("local", "logs", "-o", "json")
    assert [json.loads(line) for line in said.out.splitlines()] == [
        {"schema": 1, "message": 'said "yes"'},
        {"schema": 1, "message": "and no"},
    ]


def test_nothing_is_a_fine_state_for_status_and_down(person: Person) -> None:
    status = person.run("status", "-o", "json")
    fits(status.document, STATUS)
    assert (status.code, status.document["state"]) == (6, "absent")
    assert person.run("status").words.count("`aistratus up` builds it") == 1
    down = person.run("down", "-o", "json")
    fits(down.document, REPORT)
    assert (down.code, down.document["resources"], down.document["left"]) == (0, [], [])
    assert person.run("env", "list", "-o", "json").document == {"schema": 1, "envs": []}
