# ruff: noqa: F401, F811 (fixtures are imported by name)
"""The router from its zip, against moto over HTTP: what the API promises."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from router_function import Function, event
from router_stack import Stack, code, moto, runtime

from aistratus import wire


@pytest.fixture(scope="module")
def stack(moto: str) -> Stack:
    made = Stack.create(moto)
    made.beat()
    return made


@pytest.fixture(scope="module")
def alice(stack: Stack) -> str:
    return stack.user("alice")


@pytest.fixture(scope="module")
def bob(stack: Stack) -> str:
    return stack.user("bob")


@pytest.fixture(scope="module")
def function(stack: Stack, code: Path, runtime: Path) -> Iterator[Function]:
    made = Function(code, runtime, stack.variables())
    yield made
    made.close()


@pytest.fixture(autouse=True)
def awake(stack: Stack) -> None:
    stack.beat()


def subject(token: str) -> str:
    payload = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["sub"])


def test_health_is_open_and_loads_neither_jose_nor_boto3(code: Path, runtime: Path, stack: Stack) -> None:
    fresh = Function(code, runtime, stack.variables())
    answer = fresh.invoke(event("GET /health", None))
    fresh.close()
    assert (answer.status, answer.body["status"], answer.body["env"]) == (200, "ok", "test")
    assert not {"boto3", "botocore", "jose", "rsa"} & answer.modules


def test_health_lies_where_the_env_wants_it(code: Path, runtime: Path, stack: Stack) -> None:
    elsewhere = Function(code, runtime, stack.variables(HEALTH_PATH="/alive"))
    answers = [elsewhere.invoke(event(route, None)).status for route in ("GET /alive", "GET /health")]
    elsewhere.close()
    assert answers == [200, 404]


def test_a_warm_way_of_a_prompt_never_loads_boto3(code: Path, runtime: Path, stack: Stack, alice: str) -> None:
    fresh = Function(code, runtime, stack.variables())
    submitted = fresh.infer(alice, {"prompt": "hello"})
    read = fresh.job(alice, submitted.body["job_id"])
    cancelled = fresh.cancel(alice, submitted.body["job_id"])
    fresh.close()
    assert [submitted.status, read.status, cancelled.status] == [202, 200, 202]
    assert "jose.jws" in cancelled.modules
    unwanted = {"boto3", "botocore", "urllib3", "ecdsa.keys", "cryptography", "pydantic", "fastjsonschema"}
    assert not unwanted & cancelled.modules


def test_a_prompt_becomes_an_item_and_a_message(function: Function, stack: Stack, alice: str) -> None:
    stack.messages()
    asked = {"prompt": "How do I stop the GPU? 🙂", "history": [{"role": "user", "content": "hi"}], "stop": ["\n"]}
    answer = function.infer(alice, asked)
    assert answer.status == 202
    assert answer.body["status"] == "queued"
    assert answer.body["node"] == "ready"
    assert answer.body["request_id"] == "edge-request="
    (job,) = stack.messages()
    item = stack.item(job.pk)
    assert item is not None
    assert (job.prompt, job.history, job.stop) == (asked["prompt"], (wire.Turn("user", "hi"),), ("\n",))
    assert (job.job_id, job.conversation) == (answer.body["job_id"], answer.body["conversation"])
    assert (item["status"], item["owner"], item["attempt"], item["text"]) == ("queued", subject(alice), 0, "")
    assert 0 <= job.seed < 2**31
    assert item["expires_at"] == item["created_ms"] // 1000 + wire.JOB_QUEUED_S
    assert "prompt" not in item


def test_the_same_key_and_body_is_one_job_and_one_message(function: Function, stack: Stack, alice: str) -> None:
    stack.messages()
    first = function.infer(alice, '{"prompt": "once", "top_p": 1}', key="key-once")
    again = function.infer(alice, '{"top_p":1,"prompt":"\\u006fnce"}', key="key-once")
    assert [first.status, again.status] == [202, 202]
    assert first.body["job_id"] == again.body["job_id"] == "key-once"
    assert first.body["conversation"] == again.body["conversation"]
    assert len(stack.messages()) == 1


def test_the_same_key_with_another_body_is_a_conflict(function: Function, alice: str) -> None:
    function.infer(alice, {"prompt": "one"}, key="key-conflict")
    answer = function.infer(alice, {"prompt": "two"}, key="key-conflict")
    assert (answer.status, answer.body["type"]) == (409, wire.CONFLICT)


def test_the_same_key_of_another_user_is_another_job(function: Function, stack: Stack, alice: str, bob: str) -> None:
    function.infer(alice, {"prompt": "hers"}, key="key-shared")
    answer = function.infer(bob, {"prompt": "his"}, key="key-shared")
    assert answer.status == 202
    assert stack.item(wire.job_pk(subject(bob), "key-shared")) is not None
    assert stack.item(wire.job_pk(subject(alice), "key-shared")) is not None


def test_a_finished_job_is_not_queued_again_by_its_key(function: Function, stack: Stack, alice: str) -> None:
    function.infer(alice, {"prompt": "done already"}, key="key-done")
    stack.messages()
    item = stack.item(wire.job_pk(subject(alice), "key-done"))
    stack.put({**(item or {}), "status": "done", "text": "yes"})
    answer = function.infer(alice, {"prompt": "done already"}, key="key-done")
    assert (answer.status, answer.body["status"]) == (202, "done")
    assert stack.messages() == []


def test_another_users_job_is_not_found(function: Function, alice: str, bob: str) -> None:
    job_id = function.infer(alice, {"prompt": "secret"}).body["job_id"]
    for answer in (function.job(bob, job_id), function.cancel(bob, job_id)):
        assert (answer.status, answer.body["type"]) == (404, wire.NOT_FOUND)
    assert function.job(alice, job_id).body["status"] == "queued"


def running(stack: Stack, token: str, job_id: str, **changed: object) -> None:
    pk = wire.job_pk(subject(token), job_id)
    item = stack.item(pk)
    assert item is not None
    stack.put({**item, "status": "running", "attempt": 1, "text": "Grüß 🙂 Gott", "claim": "c1", **changed})


def test_text_is_read_from_a_cursor_that_counts_characters(function: Function, stack: Stack, alice: str) -> None:
    job_id = function.infer(alice, {"prompt": "greet"}).body["job_id"]
    running(stack, alice, job_id)
    whole = function.job(alice, job_id, attempt="1")
    assert (whole.body["text"], whole.body["cursor"], whole.body["restarted"]) == ("Grüß 🙂 Gott", 11, False)
    rest = function.job(alice, job_id, attempt="1", after="6")
    assert (rest.body["text"], rest.body["cursor"], rest.body["node"]) == (" Gott", 11, "ready")
    assert function.job(alice, job_id, attempt="1", after="999").body["text"] == ""


def test_a_new_attempt_begins_at_the_start_of_the_text(function: Function, stack: Stack, alice: str) -> None:
    job_id = function.infer(alice, {"prompt": "greet"}).body["job_id"]
    running(stack, alice, job_id, attempt=2, text="again")
    answer = function.job(alice, job_id, after="9", attempt="1")
    assert (answer.body["restarted"], answer.body["text"], answer.body["cursor"]) == (True, "again", 5)


def test_what_is_the_workers_own_is_not_shown(function: Function, stack: Stack, alice: str) -> None:
    job_id = function.infer(alice, {"prompt": "greet"}, key="key-own").body["job_id"]
    running(stack, alice, job_id, status="failed", error="no", dead_letter=True)
    for answer in (function.job(alice, job_id), function.infer(alice, {"prompt": "greet"}, key="key-own")):
        assert answer.body["status"] == "failed"
        assert not {"claim", "dead_letter", "fingerprint", "owner"} & set(answer.body)


def test_a_finished_job_tells_model_usage_and_timings(function: Function, stack: Stack, alice: str) -> None:
    job_id = function.infer(alice, {"prompt": "greet"}).body["job_id"]
    usage, timings = {"prompt_tokens": 3, "completion_tokens": 5}, {"total_ms": 12, "tokens_per_second": 41.5}
    running(stack, alice, job_id, status="done", model="demo", usage=usage, timings=timings)
    body = function.job(alice, job_id).body
    assert (body["status"], body["model"], body["usage"], body["timings"]) == ("done", "demo", usage, timings)


@pytest.mark.parametrize("after", ["-1", "x", "", "1.0", "1,2", " 1", "١", "9" * 10, "9" * 5000])
def test_a_silly_cursor_is_named(function: Function, alice: str, after: str) -> None:
    answer = function.job(alice, "some-job", after=after)
    assert (answer.status, answer.bad_fields) == (400, ["after"])


@pytest.mark.parametrize("job_id", ["", "a/b", "a" * 65, "ä", "../x", "a\n", "x\0"])
def test_an_impossible_job_id_is_not_found(function: Function, alice: str, job_id: str) -> None:
    assert function.job(alice, job_id).status == 404
    assert function.cancel(alice, job_id).status == 404


def test_an_expired_job_is_gone(function: Function, stack: Stack, alice: str) -> None:
    job_id = function.infer(alice, {"prompt": "old"}, key="key-old").body["job_id"]
    running(stack, alice, job_id, status="done", expires_at=int(time.time()) - 1)
    assert function.job(alice, job_id).status == 404
    assert function.cancel(alice, job_id).status == 404
    assert function.infer(alice, {"prompt": "something else"}, key="key-old").status == 202


def test_a_queued_job_is_cancelled_at_once(function: Function, stack: Stack, alice: str) -> None:
    job_id = function.infer(alice, {"prompt": "never mind"}).body["job_id"]
    answer = function.cancel(alice, job_id)
    assert (answer.status, answer.body["status"]) == (202, "cancelled")
    item = stack.item(wire.job_pk(subject(alice), job_id))
    assert item is not None
    assert item["status"] == "cancelled"
    assert item["expires_at"] <= time.time() + wire.JOB_KEPT_S + 1
    again = function.cancel(alice, job_id)
    assert (again.status, again.body["status"]) == (200, "cancelled")


def test_a_running_job_is_asked_to_stop(function: Function, stack: Stack, alice: str) -> None:
    job_id = function.infer(alice, {"prompt": "long"}).body["job_id"]
    running(stack, alice, job_id)
    answer = function.cancel(alice, job_id)
    assert (answer.status, answer.body["status"]) == (202, "running")
    item = stack.item(wire.job_pk(subject(alice), job_id))
    assert item is not None
    assert (item["cancel"], item["status"], item["text"]) == (True, "running", "Grüß 🙂 Gott")


def test_a_user_who_asks_too_often_is_told_when_to_come_back(
    code: Path, runtime: Path, stack: Stack, alice: str, bob: str
) -> None:
    limited = Function(
        code, runtime, stack.variables(RATE_PER_MINUTE="2", JOBS_TABLE=Stack.create(stack.endpoint).table)
    )
    answers = [limited.infer(alice, {"prompt": "again"}) for _ in range(5)]
    refused = [answer for answer in answers if answer.status == 429]
    limited.close()
    # A new minute may begin in between, and without a heartbeat in this table the others find no node.
    assert len(refused) >= 1
    assert refused[0].body["type"] == wire.RATE_LIMITED
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60


# --- what a caller can send ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["prompt"]),
        ({"prompt": ""}, ["prompt"]),
        ({"prompt": "x" * 8001}, ["prompt"]),
        (
            {"prompt": 5, "max_tokens": "5", "temperature": True, "seed": 1.0},
            ["prompt", "max_tokens", "temperature", "seed"],
        ),
        ({"prompt": "x", "promt": "y"}, ["promt"]),
        ({"prompt": "x", "conversation": "me"}, ["conversation"]),
        ({"prompt": "x", "history": [{"role": "system", "content": "x"}]}, ["history[0].role"]),
        ({"prompt": "x", "history": [{"role": "user", "content": "x" * 20_000}] * 2}, ["history"]),
        ({"prompt": "x", "stop": ["a"] * 5}, ["stop"]),
        ({"prompt": "a\0b"}, ["prompt"]),
        ('{"prompt": "\\ud800"}', ["prompt"]),
        ('{"prompt": "x", "temperature": 1e999}', ["temperature"]),
        ('{"prompt": "x", "seed": ' + "9" * 4000 + "}", ["seed"]),
        ('{"prompt": "x", "temperature": NaN}', ["body"]),
        ('{"prompt": "x", "prompt": "y"}', ["body"]),
        ('{"prompt": "x", "seed": ' + "9" * 5000 + "}", ["body"]),
        ("[" * 60_000, ["body"]),
        ('{"a":' * 20_000, ["body"]),
        ("[]", ["body"]),
        ('"text"', ["body"]),
        ("null", ["body"]),
        ("{", ["body"]),
        ("", ["body"]),
        ("\ud800", ["body"]),
    ],
)
def test_a_bad_body_is_refused_with_its_fields(function: Function, alice: str, body: object, fields: list[str]) -> None:
    answer = function.infer(alice, body)
    assert (answer.status, answer.body["type"]) == (400, wire.INVALID_REQUEST)
    assert sorted(answer.bad_fields) == sorted(fields)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("body", ['{"prompt": "' + "x" * 1_000_000 + '"}', "é" * 70_000])
def test_a_huge_body_is_too_large(function: Function, alice: str, body: str) -> None:
    answer = function.infer(alice, body)
    assert (answer.status, answer.body["type"]) == (413, wire.TOO_LARGE)


def test_a_body_that_outgrows_the_queue_is_too_large(function: Function, stack: Stack, alice: str) -> None:
    stack.messages()
    turn = {"role": "user", "content": "🙂" * 14_000}
    body = json.dumps({"prompt": "🙂" * 3_000, "history": [turn, turn]}, ensure_ascii=False)
    assert len(body.encode()) < wire.BODY_BYTES
    assert function.infer(alice, body).status == 413
    assert stack.messages() == []


def test_a_base64_body_is_read_and_a_broken_one_refused(function: Function, alice: str) -> None:
    good = base64.b64encode(json.dumps({"prompt": "🙂"}).encode()).decode()
    cases = {good: 202, "???": 400, good[:-2]: 400, base64.b64encode(b"\xff\xfe").decode(): 400, "A" * 400_000: 413}
    for body, status in cases.items():
        answer = function.invoke(event("POST /infer", alice, body=body, isBase64Encoded=True))
        assert (body[:20], answer.status) == (body[:20], status)


@pytest.mark.parametrize("key", ["", "a b", "a" * 65, "ä", "a\n"])
def test_a_bad_idempotency_key_is_named(function: Function, alice: str, key: str) -> None:
    answer = function.invoke(event("POST /infer", alice, body='{"prompt": "x"}', headers={"Idempotency-Key": key}))
    assert (answer.status, answer.bad_fields) == (400, ["Idempotency-Key"])


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        "text",
        5,
        {},
        {"routeKey": None},
        {"routeKey": ["GET /health"]},
        {"routeKey": "$default"},
        {"routeKey": "POST /stop"},
        {"routeKey": "POST /infer"},
        {"routeKey": "POST /infer", "headers": None},
        {"routeKey": "POST /infer", "headers": [1]},
        {"routeKey": "POST /infer", "headers": {"authorization": 5}},
        {"routeKey": "POST /infer", "requestContext": {"authorizer": {"jwt": {"claims": {"sub": "mallory"}}}}},
        {"routeKey": "GET /jobs/{id}", "pathParameters": "x", "requestContext": "y"},
    ],
)
def test_a_direct_invoke_with_any_event_gets_no_further_than_the_edge(function: Function, given: object) -> None:
    answer = function.invoke(given)
    known = isinstance(given, dict) and given.get("routeKey") in ("POST /infer", "GET /jobs/{id}", "POST /stop")
    assert answer.status == (401 if known else 404)
    assert answer.body["request_id"] == "lambda-request"


def test_strange_shapes_behind_a_good_token_are_refused_in_peace(function: Function, alice: str) -> None:
    bare = {"routeKey": "POST /infer", "headers": {"Authorization": alice}}
    assert function.invoke({**bare, "body": {"prompt": "x"}}).status == 400
    assert function.invoke({**bare, "body": 7}).status == 400
    assert function.invoke(bare).status == 400
    read = {**bare, "routeKey": "GET /jobs/{id}"}
    assert function.invoke({**read, "pathParameters": {"id": 5}}).status == 404
    assert function.invoke({**read, "pathParameters": {"id": "x"}, "queryStringParameters": {"after": 5}}).status == 400


def test_every_request_is_one_log_line_without_what_was_said(function: Function, alice: str) -> None:
    told = {"prompt": "my-secret-prompt", "bad": "my-secret-value"}
    for answer in (function.infer(alice, {"prompt": "my-secret-prompt"}), function.infer(alice, told)):
        (line,) = answer.printed.splitlines()
        entry = json.loads(line)
        assert (entry["route"], entry["status"], entry["request_id"]) == ("POST /infer", answer.status, "edge-request=")
        assert "my-secret" not in line
        assert alice[:40] not in line


def test_a_forged_request_id_cannot_start_a_log_line(function: Function) -> None:
    forged = event("GET /health", None, requestContext={"requestId": 'x\n{"level": "error"}'})
    answer = function.invoke(forged)
    assert answer.body["request_id"] == "lambda-request"
    assert len(answer.printed.splitlines()) == 1


def test_queue_health_tells_what_waits_and_whether_a_worker_lives(function: Function, stack: Stack, alice: str) -> None:
    stack.messages()
    idle = function.invoke(event("GET /queue-health", alice)).body
    function.infer(alice, {"prompt": "hello"})
    now = time.time()
    metered = {"at_ms": int(now * 1000) - 60_000, "month": time.strftime("%Y-%m", time.gmtime(now)), "month_usd": 5.0,
               "day_usd": 1.25, "usd_per_hour": 0.6, "unknown": []}  # fmt: skip
    stack.put({"pk": wire.METER_PK, **metered})
    stack.client("sqs").send_message(
        QueueUrl=stack.dead_letter_url, MessageBody="given up", MessageGroupId="g", MessageDeduplicationId="d"
    )
    name = stack.queue_url.rpartition("/")[2]
    point = {
        "MetricName": "ApproximateAgeOfOldestMessage",
        "Dimensions": [{"Name": "QueueName", "Value": name}],
        "Timestamp": time.time() - 60,
        "Value": 7.0,
    }
    stack.client("cloudwatch").put_metric_data(Namespace="AWS/SQS", MetricData=[point])
    busy = function.invoke(event("GET /queue-health", alice))
    stack.messages()

    assert {name: idle[name] for name in ("depth", "in_flight", "dead", "oldest_age_s")} == {
        "depth": 0, "in_flight": 0, "dead": 0, "oldest_age_s": None
    }  # fmt: skip
    assert idle["cost"] is None
    assert busy.body["cost"]["month_eur"] == pytest.approx(4.008, abs=0.002)
    assert (busy.body["cost"]["eur_per_hour"], busy.body["cost"]["limit_eur"]) == (0.48, 20)
    assert (busy.status, busy.body["depth"], busy.body["dead"]) == (200, 1, 1)
    assert 66 <= busy.body["oldest_age_s"] < 90
    assert 0 <= busy.body["heartbeat_age_s"] < wire.HEARTBEAT_FRESH_S
    assert "boto3" not in busy.modules


def test_queue_health_asks_for_a_token_whatever_the_event_claims(function: Function) -> None:
    """A direct invoke may say that the edge has let somebody in."""
    claims = {"jwt": {"claims": {"sub": "somebody", "cognito:groups": "[operators]"}}}
    context = {"requestId": "r", "http": {"method": "GET", "path": "/queue-health"}, "authorizer": claims}
    forged = event("GET /queue-health", None, requestContext=context)
    assert function.invoke(forged).status == 401
    assert function.invoke(event("GET /queue-health", "a.b.c", requestContext=context)).status == 401
