"""What a person sees of a stack that is up: `up`, `status`, `env`, `logs`, `--quiet`, `--trace`."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import fastjsonschema
import pytest
from cli_parts import client
from conftest import Built
from documents import STORY
from dotenv import dotenv_values

pytestmark = pytest.mark.xdist_group("cli")


def test_the_first_up_tells_where_what_and_what_next(built: Built) -> None:
    lines = built.first_up.out.splitlines()
    assert lines[0].startswith("local in account 123456789012, eu-central-1, as ")
    assert lines[1].startswith(f"+ {built.resources} to create: ")
    made = [line for line in lines[2:] if re.fullmatch(r"\+ \w+ +\w+ .+ \d+\.\d s", line)]
    assert len(made) == built.resources, "one line for each, with what it costs and seconds"
    assert re.search(r"^API: http://127\.0\.0\.1:\d+/\w+$", built.first_up.out, re.M)
    assert lines[-1] == 'Next: aistratus chat "How do I stop the GPU?"'


def test_options_may_stand_before_and_after_the_command(built: Built) -> None:
    before, after = built.person.run("-q", "-o", "json", "plan"), built.person.run("plan", "-ojson", "-qy")
    assert before.document["resources"] == after.document["resources"]
    assert (before.err, after.err) == ("", "")


def test_quiet_leaves_just_the_result(built: Built) -> None:
    up = built.person.run("up", "-q")
    assert re.fullmatch(r"API: http://127\.0\.0\.1:\d+/\w+\n", up.out)
    assert up.err == ""
    assert built.person.run("status", "--quiet").out == "local is ready\n"
    assert built.person.run("plan", "-q").out == f"nothing to do: {built.resources} resources as declared\n"
    reply = built.person.run("chat", "-q", "hello")
    assert reply.out.strip()
    assert reply.err == ""


def secrets(built: Built) -> list[str]:
    """Everything in this person's hands that nobody else may read."""
    ssm = client(built.endpoint, "ssm")
    password = ssm.get_parameter(Name="/tinyllama/local/operator_password", WithDecryption=True)["Parameter"]["Value"]
    state = built.person.home / ".local/state/aistratus"
    tokens = [value for file in (state / "tokens").rglob("*.json") for value in json.loads(file.read_text()).values()]
    return [password, *(value for value in tokens if isinstance(value, str) and len(value) > 40)]


def test_the_trace_tells_every_call_and_no_secret(built: Built, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.touch(mode=0o644)
    for command in (["plan"], ["chat", "a quiet question"]):
        assert built.person.run(*command, "--trace", str(trace)).code == 0
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    fields = {"time", "service", "operation", "resources", "status", "error", "ms", "retries"}
    assert all(set(line) == fields for line in lines)
    assert {"GetCallerIdentity", "DescribeVpcs", "GetParameters"} <= {line["operation"] for line in lines}
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600
    kept = secrets(built)
    assert len(kept) >= 2, "a password and a token at least"
    assert not [secret for secret in kept if secret in trace.read_text()]
    assert "a quiet question" not in trace.read_text()


def test_what_is_secret_on_disk_is_private(built: Built) -> None:
    telling = [*secrets(built), "PRIVATE KEY"]
    cloud = built.person.home / ".local/state/aistratus/local"  # closed as a whole, and full of unpacked programs
    assert stat.S_IMODE(cloud.stat().st_mode) == 0o700
    private = [
        file
        for file in built.person.home.rglob("*")
        if file.is_file()
        and not file.is_relative_to(cloud)
        and any(secret in file.read_text(errors="replace") for secret in telling)
    ]
    assert len(private) >= 2, "tokens and the node's key"
    assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in private} == {0}


def test_the_env_is_listed_and_shown(built: Built) -> None:
    assert "local" in built.person.run("env", "list").out.splitlines()
    shown = built.person.run("env", "show").out
    url = built.person.run("status", "-o", "json").document["api_url"]
    assert f"api.endpoint = {url}\n" in shown
    assert "password" not in shown


def test_the_export_is_read_back_by_bash_and_python_dotenv(built: Built, tmp_path: Path) -> None:
    variables = built.person.run("env", "export", "--format", "json").document["variables"]
    file = tmp_path / "ids"
    file.write_text(built.person.run("env", "export").out)
    told = built.person.shell(f"set -a; . {file}; env -0").out.split("\0")
    assert {line.partition("=")[0]: line.partition("=")[2] for line in told}.items() >= variables.items()
    assert dotenv_values(file) == variables
    github = built.person.run("env", "export", "--format", "github").out
    assert dict(line.split("=", 1) for line in github.splitlines()) == variables


def test_logs_show_what_happened_and_never_what_was_asked(built: Built) -> None:
    question = "What is a marmalade visa?"
    job = built.person.run("chat", "-o", "json", question).document
    told = {source: built.person.run("logs", source).out for source in ("router", "api", "worker")}
    assert job["request_id"] in told["router"]
    assert job["request_id"] in told["api"]
    assert job["job_id"] in told["worker"]
    assert not [source for source, text in told.items() if "marmalade" in text or job["text"][:20] in text]
    lines = [json.loads(line) for line in built.person.run("logs", "router", "-o", "json").out.splitlines()]
    assert all(set(line) == {"schema", "timestamp_ms", "message"} for line in lines)

    about = built.person.run("logs", "--request", job["request_id"], "-o", "json").document
    fastjsonschema.validate(STORY, about)
    assert about["jobs"] == [job["job_id"]]
    assert {line["source"] for line in about["events"]} == {"api", "router", "worker"}
    done = next(line["message"] for line in about["events"] if '"job_done"' in line["message"])
    assert json.loads(done)["request_id"] == job["request_id"]
    moments = [line["timestamp_ms"] for line in about["events"]]
    assert moments == sorted(moments)
    unknown = built.person.run("logs", "--request", "nobodys=")
    assert (unknown.code, "no log names request nobodys=" in unknown.err) == (6, True)


def test_a_ledger_full_of_rubbish_costs_nothing_but_time(built: Built) -> None:
    ssm = client(built.endpoint, "ssm")
    for key, value in (("api", "rubbish"), ("vpc", '{"id": "vpc-00000000"}'), ("user_pool", "[]")):
        ssm.put_parameter(Name=f"/tinyllama/local/{key}", Value=value, Type="String", Overwrite=True)
    assert built.person.run("chat", "hello").code == 0
    assert built.person.run("env", "show").code == 0
    assert built.person.run("status", "-q").code in (0, 5)
    again = built.person.run("up", "-o", "json")
    assert again.code == 0
    assert {entry["action"] for entry in again.document["resources"]} == {"unchanged"}
    value = json.loads(ssm.get_parameter(Name="/tinyllama/local/api")["Parameter"]["Value"])
    assert value["endpoint"] == built.person.run("status", "-o", "json").document["api_url"]
